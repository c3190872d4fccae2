"""What the verbs that draw do: ``%bot plot`` and ``%bot dashboard``."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from botbook._errors import CommandError
from botbook._notebook import commands, render
from botbook._notebook.desk import Desk
from botbook._notebook.outcome import Outcome

__all__ = ["dashboard", "metric_names", "plot"]

#: Options of `%bot plot` that go to the metric.
GIVEN: Final = ("by", "freq", "tz")
#: A metric with one of these as its own bucket gets the one that suits the range.
FITTED: Final = ("D", "W")


def plot(desk: Desk, command: commands.Plot) -> Outcome:
    """Draw a metric, or list them all."""
    from botbook import metrics, plots

    names = metric_names(metrics, plots)
    if not command.metric:
        rows = [(name, *_about(getattr(metrics, name))) for name in names]
        view = render.table(["metric", "what", "takes"], rows, caption="%bot plot METRIC draws one")
        return Outcome(view=view, value=names)
    if command.metric not in names:
        near = difflib.get_close_matches(command.metric, names, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "%bot plot lists them."
        raise CommandError(f"there is no metric {command.metric!r}", hint=hint)
    measure = getattr(metrics, command.metric)
    given = _parameters(measure, command)
    events = desk.bot().events(since=command.since)
    usual = _takes(measure).get("freq")
    if usual in FITTED and "freq" not in given:
        given["freq"] = metrics.freq_for(events, usual=usual)
    figure = getattr(plots, command.metric)(measure(events, **given))
    return Outcome(view=render.figure(figure), value=figure)


def dashboard(desk: Desk, command: commands.Dashboard) -> Outcome:
    """Everything on one page, as it is now; running the cell again draws it anew."""
    from botbook import report
    from botbook._data.filters import time_of

    events = desk.bot().events()
    with desk.surface.waiting("Measuring and drawing") as block:
        made = report.build(
            events,
            bot=command.bot,
            gateway=command.gateway,
            chat_type=command.chat_type,
            since=time_of(command.since) if command.since else None,
            until=time_of(command.until) if command.until else None,
            tz=command.tz or "UTC",
            freq=command.freq,
        )
        view = render.dashboard(made) if block else None
    return Outcome(view=view, value=made, block=block)


def metric_names(metrics: ModuleType, plots: ModuleType) -> list[str]:
    """The metrics that can be drawn: what both modules know under one name."""
    return sorted(set(metrics.__all__) & set(plots.__all__))


def _about(measure: Callable[..., Any]) -> tuple[str, str]:
    """The first line about a metric, and the options that it takes."""
    takes = _takes(measure)
    return (measure.__doc__ or "").split("\n")[0], " ".join(f"--{name}" for name in GIVEN if name in takes)


def _takes(measure: Callable[..., Any]) -> dict[str, Any]:
    """The parameters of a metric with their defaults."""
    return {name: one.default for name, one in inspect.signature(measure).parameters.items()}


def _parameters(measure: Callable[..., Any], command: commands.Plot) -> dict[str, str]:
    """The options that were given, if this metric takes them."""
    given = {name: value for name in GIVEN if (value := getattr(command, name)) is not None}
    takes = _takes(measure)
    for name in given:
        if name not in takes:
            known = [f"--{key}" for key in GIVEN if key in takes]
            raise CommandError(
                f"{command.metric} has no option --{name}",
                hint=f"It takes {', '.join(known) or 'none of --by, --freq, --tz'}.",
            )
    return given
