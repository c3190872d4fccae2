"""The page of ``botbook demo``, opened from disk as somebody who got it by mail would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser.lab import browser

pytestmark = pytest.mark.browser

PICTURES = Path(__file__).parents[2] / "build" / "browser"


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The page, its errors, and every address that it asked for."""
    home = tmp_path_factory.mktemp("page")
    made = home / "page.html"
    command = [sys.executable, "-m", "botbook", "demo", "--out", str(made)]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    with browser(home, viewport={"width": 1000, "height": 1200}) as (page, errors):
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(made.as_uri())
        page.wait_for_load_state("networkidle")
        PICTURES.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=PICTURES / "page.png", full_page=True)
        yield page, errors, asked


def test_it_asks_no_other_machine_and_has_no_errors(opened):
    page, errors, asked = opened
    assert [url for url in asked if not url.startswith(("data:", page.url))] == []
    assert errors == []


def test_it_shows_the_answers_and_the_pictures(opened):
    page, _, _ = opened
    assert page.get_by_text("Tell me more!").count() >= 4
    pictures = page.locator("img.botbook-plot")
    assert (
        pictures.evaluate_all("all => all.map(one => one.complete && one.naturalWidth > 800)") == [True] * 2
    )


def test_it_is_not_wider_than_the_window(opened):
    page, _, _ = opened
    assert page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
