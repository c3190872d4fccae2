"""The notebook on analytics runs, tells what its words promise, and needs nothing."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from botbook import cli, metrics, samples

pytestmark = pytest.mark.kernel

BOOK = Path(__file__).parents[1] / "notebooks" / "04-analytics.ipynb"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Its outputs as text by cell, the last line of an error, and how long it took."""
    folder = tmp_path_factory.mktemp("analytics")
    kept, began = [], time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setattr(cli, "_write_page", lambda book, page: kept.append(book))
        failure = cli.run_notebook(BOOK, folder / "page.html")
    took = time.monotonic() - began
    (book,) = kept
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    return {"failure": failure, "took": took, "outputs": {cell.id: cell.outputs for cell in code}}


def text(ran, cell):
    return "\n".join(output.get("data", {}).get("text/plain", "") for output in ran["outputs"][cell])


def test_it_runs_without_a_complaint_in_good_time(ran):
    assert ran["failure"] == ""
    assert ran["took"] < 60  # 13 s on an idle machine of two cores
    kinds = {output.output_type for outputs in ran["outputs"].values() for output in outputs}
    assert kinds == {"display_data", "execute_result"}


def test_its_numbers_are_those_of_the_metrics(ran):
    (liked,) = metrics.like_rate(samples.topical_chat()).to_dict("records")
    shown = text(ran, "analytics-10").splitlines()[-1].split()
    assert shown[1:3] == [str(liked["likes"]), str(liked["n"])]
    assert shown[3] == f"{liked['like_rate']:.6f}"
    assert f"{liked['likes']} of {liked['n']}" in text(ran, "analytics-16")


def test_the_short_day_and_the_observed_difference_are_where_the_words_say(ran):
    assert re.search(r"2026-03-29\s+23.0", text(ran, "analytics-04"))
    assert "observed difference, not an effect" in text(ran, "analytics-18")


@pytest.mark.parametrize("number", [6, 14, 16, 18, 20, 22, 28])
def test_every_picture_has_its_words(ran, number):
    (output,) = ran["outputs"][f"analytics-{number:02d}"]
    assert len(output.data["text/plain"]) > 60
    assert output.data["image/png"]


def test_the_live_bot_is_measured_too(ran):
    assert "per second" in text(ran, "analytics-28")
    assert int(re.search(r"Bot messages +(\d+)", text(ran, "analytics-30"))[1]) >= 60
