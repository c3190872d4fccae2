"""The page of ``botbook report``, opened from disk without a network, on light and dark and on paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from botbook import report
from tests.browser.lab import browser
from tests.metrics.reference import arrow
from tests.plots.test_plots import journal

pytestmark = pytest.mark.browser

PICTURES = Path(__file__).parents[2] / "build" / "browser"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    page = tmp_path_factory.mktemp("report") / "report.html"
    page.write_text(report.build(arrow(journal()), tz="Europe/Berlin").page(), encoding="utf-8")
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_with_no_network_and_no_complaint(made, scheme, tmp_path):
    said: list[str] = []
    asked: list[str] = []
    size = {"width": 1100, "height": 1400}
    with browser(tmp_path, viewport=size, color_scheme=scheme, offline=True) as (page, errors):
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(made.as_uri())
        assert page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
        shown = page.locator("figure img")
        assert shown.evaluate_all("all => all.every(one => one.complete && one.naturalWidth > 400)")
        sources = set(shown.evaluate_all("all => all.map(one => one.currentSrc === one.src)"))
        assert sources == {scheme == "light"}
        assert not page.locator("details[open]").count()
        PICTURES.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=PICTURES / f"report-{scheme}.png", full_page=True)
        page.emulate_media(media="print")
        assert not page.locator("summary").first.is_visible()
        assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        page.screenshot(path=PICTURES / f"report-print-{scheme}.png", full_page=True)
    assert errors == []
    assert said == []
    assert [url for url in asked if not url.startswith(("data:", made.as_uri()))] == []
