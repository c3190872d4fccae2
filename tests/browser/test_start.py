"""The first notebook in JupyterLab, as a newcomer sees it: whole, without errors, in light and in dark."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import pytest

from tests.browser.lab import Lab, browser

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
#: Where the screenshots stay; not under version control.
PICTURES = ROOT / "build" / "browser"
THEMES = ("Light", "Dark")
#: Least contrast of text, WCAG 2.2 AA.
CONTRAST = 4.5
#: Texts of botbook's own outputs, each with its contrast to the paper behind it.
MEASURE = """() => {
    const parts = color => color.match(/[\\d.]+/g).map(Number);
    const luminance = color => parts(color).slice(0, 3)
        .map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, k) => sum + c * [0.2126, 0.7152, 0.0722][k], 0);
    const paper = node => {
        while (node) {
            const color = getComputedStyle(node).backgroundColor;
            if ((parts(color)[3] ?? 1) > 0) return color;
            node = node.parentElement;
        }
        return 'rgb(255, 255, 255)';
    };
    const texts = ['p', 'td', 'th', 'caption', 'pre', 'summary'].map(name => '.botbook ' + name).join();
    return [...document.querySelectorAll(texts)].map(node => {
        const one = luminance(getComputedStyle(node).color), other = luminance(paper(node));
        return [node.textContent, (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05)];
    });
}"""


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """The notebook after all its cells have run: the lab, the page and the page's errors."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", home / "notebooks", ignore=shutil.ignore_patterns(".*"))
    began = time.monotonic()
    with (
        Lab(home / "notebooks", home) as lab,
        browser(home, viewport={"width": 1000, "height": 5000}) as (page, errors),
    ):
        lab.open(page, "00-start.ipynb")
        lab.run_all(page, timeout=60)
        sys.stdout.write(f"00-start.ipynb in the browser: {time.monotonic() - began:.1f} s\n")
        yield lab, page, errors


def outputs(page, kind):
    return page.locator(f".jp-OutputArea-output[data-mime-type='{kind}']")


def test_no_cell_fails_and_nothing_complains(start):
    lab, page, errors = start
    assert outputs(page, "application/vnd.jupyter.error").all_text_contents() == []
    assert outputs(page, "application/vnd.jupyter.stderr").all_text_contents() == []
    assert errors == []
    assert not (lab.folder / ".botbook").exists()


def test_the_table_the_answers_and_the_error_are_there(start):
    _, page, _ = start
    tables = page.locator(".jp-OutputArea-output table").all_inner_texts()
    assert "sim (current)" in tables[0]
    assert tables[1].count("user-") == 12
    assert sum("Tell me more!" in text for text in tables) == 1
    assert sum("In short:" in text for text in tables) == 2
    assert (
        "AttributeError: 'str' object has no attribute 'uper'"
        in page.locator(".botbook summary").nth(0).inner_text()
    )
    assert page.get_by_text("Closed: sim.").is_visible()


def test_both_pictures_are_drawn_and_say_in_words_what_they_show(start):
    _, page, _ = start
    found = page.locator(".jp-OutputArea-output img")
    words = [one.get_attribute("alt") for one in found.all()]
    assert [text.split(".")[0] for text in words] == [
        "Messages per second",
        "Time within which users have their answer",
    ]
    assert all(found.evaluate_all("all => all.map(one => one.complete && one.naturalWidth > 800)"))


@pytest.mark.parametrize("theme", THEMES)
def test_every_text_can_be_read(start, theme):
    lab, page, _ = start
    lab.theme(page, f"JupyterLab {theme}")
    PICTURES.mkdir(parents=True, exist_ok=True)
    last = page.locator(".jp-Notebook .jp-Cell").last.bounding_box()
    whole = {"x": 0, "y": 0, "width": 1000, "height": last["y"] + last["height"]}
    page.screenshot(path=PICTURES / f"start-{theme.lower()}.png", clip=whole)
    brightened = page.locator(".botbook-plot").evaluate_all(
        "all => all.map(one => getComputedStyle(one).filter)"
    )
    assert brightened == ["brightness(1.2)" if theme == "Dark" else "none"] * 2
    measured = page.evaluate(MEASURE)
    assert len(measured) > 40
    assert [text for text, contrast in measured if contrast < CONTRAST] == []


def test_a_narrow_page_scrolls_inside_the_outputs_alone(start):
    _, page, _ = start
    page.set_viewport_size({"width": 700, "height": 5000})
    assert page.locator(".jp-Notebook").evaluate("all => all.scrollWidth - all.clientWidth") <= 1
