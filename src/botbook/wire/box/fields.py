"""How one field of a peer's object is read, and a whole object from such fields (protocols/box.md 6)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from botbook._errors import SandboxError

__all__ = [
    "choice",
    "dump",
    "env",
    "flag",
    "invalid",
    "known",
    "maybe_path",
    "name",
    "path",
    "read",
    "share",
    "text",
    "texts",
    "whole",
]

T = TypeVar("T")


def text(value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        raise ValueError("Input should be a valid string")
    return value


def name(value: Any) -> str:
    """A string, stripped, not empty."""
    if not (found := text(value).strip()):
        raise ValueError("must not be empty")
    return found


def path(value: Any) -> str:
    """An absolute path."""
    found = name(value)
    if not found.startswith("/"):
        raise ValueError("must be an absolute path")
    if "\0" in found:
        raise ValueError("must not hold a NUL byte")
    return found


def maybe_path(value: Any) -> str | None:
    """An absolute path, or null."""
    return None if value is None else path(value)


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError("Input should be a valid boolean")
    return value


def whole(least: int) -> Callable[[Any], int]:
    """A whole number, also as text ("5"), not below `least`."""

    def read_whole(value: Any) -> int:
        number = _number(value, "integer")
        if number != int(number):
            raise ValueError("Input should be a valid integer, got a number with a fractional part")
        if number < least:
            raise ValueError(f"Input should be greater than or equal to {least}")
        return int(number)

    return read_whole


def share(value: Any) -> float:
    """A positive number."""
    if (number := _number(value, "number")) <= 0:
        raise ValueError("Input should be greater than 0")
    return number


def _number(value: Any, kind: str) -> float:
    try:
        number = float(value) if isinstance(value, int | float | str) else float("nan")
    except (ValueError, OverflowError):
        number = float("nan")
    if isinstance(value, bool) or not -1e15 < number < 1e15:
        raise ValueError(f"Input should be a valid {kind}")
    return number


def choice(*options: str) -> Callable[[Any], str]:
    """One of some words."""

    def read_choice(value: Any) -> str:
        if value not in options:
            raise ValueError(f"Input should be {' or '.join(map(repr, options))}")
        return str(value)

    return read_choice


def env(value: Any) -> dict[str, str]:
    """Variables: names without ``=``, nothing with a NUL byte."""
    if not isinstance(value, dict):
        raise ValueError("Input should be a valid dictionary")
    for key, item in value.items():
        if not text(key) or "=" in key or "\0" in key + text(item):
            raise ValueError(f"{key!r} cannot be an environment variable")
    return dict(value)


def texts(value: Any) -> tuple[str, ...]:
    """A list of strings."""
    if not isinstance(value, list | tuple):
        raise ValueError("Input should be a valid list")
    return tuple(text(item) for item in value)


def known(reader: Callable[[Any], Any], **more: Any) -> Any:
    """A dataclass field with its reader; without one a field is taken as it comes."""
    return dataclasses.field(metadata={"read": reader}, **more)


def read(cls: type[T], title: str, data: Any) -> T:
    """Build a value from a peer's object; unknown keys are ignored.

    Raises:
        SandboxError: A field is missing or wrong; code ``BoxValidationError``.
    """
    if not isinstance(data, Mapping):
        raise invalid(title, "", "Input should be an object")
    values: dict[str, Any] = {}
    for one in dataclasses.fields(cls):  # type: ignore[arg-type]
        key = one.metadata.get("key", one.name)
        if key not in data:
            if one.default is one.default_factory is dataclasses.MISSING:
                raise invalid(title, key, "Field required")
            continue
        try:
            values[one.name] = one.metadata.get("read", _as_is)(data[key])
        except ValueError as error:
            raise invalid(title, key, str(error)) from None
    return cls(**values)


def invalid(title: str, key: str, words: str) -> SandboxError:
    """What a runtime says of a wrong field."""
    where = f"\n{key}" if key else ""
    return SandboxError(
        f"1 validation error for {title}{where}\n  {words}",
        code="BoxValidationError",
        hint="Mend the named field.",
    )


def _as_is(value: Any) -> Any:
    return value


def dump(value: Any, *, defaults: bool) -> dict[str, Any]:
    """The wire's object.

    Args:
        value: A dataclass of this wire.
        defaults: Also what stands at its default. A strict peer refuses needless keys.
    """
    return {
        one.metadata.get("key", one.name): _plain(item)
        for one in dataclasses.fields(value)
        if (item := getattr(value, one.name)) != _default(one) or defaults
    }


def _default(one: dataclasses.Field[Any]) -> Any:
    return one.default_factory() if callable(one.default_factory) else one.default


def _plain(item: Any) -> Any:
    if isinstance(item, tuple):
        return [_plain(each) for each in item]
    return dump(item, defaults=True) if dataclasses.is_dataclass(item) else item
