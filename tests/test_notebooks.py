"""The notebooks run from top to bottom, show what they promise, and their page needs no other machine."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from botbook import cli

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parents[1]
#: Attributes whose address a browser fetches.
FETCHED = {
    "audio": "src", "embed": "src", "iframe": "src", "img": "src", "input": "src", "link": "href",
    "object": "data", "script": "src", "source": "src", "track": "src", "video": "src",
}  # fmt: skip
#: An address in a style or a module.
INSIDE = re.compile(r"""(?:url\(\s*|@import\s+|\bimport\s*\(?\s*|\bfrom\s+)["']?((?:https?:)?//[^"')\s]+)""")


class Page(HTMLParser):
    """What a page fetches, and the ids of its cells' outputs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = INSIDE.findall(text)
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get(FETCHED.get(tag, ""))
        if address and not address.startswith(("data:", "#")):
            self.fetched.append(address)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """What ``botbook demo`` leaves: the code, the notebook as it ran, its cells by id, and the page."""
    folder = tmp_path_factory.mktemp("demo")
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOTBOOK_STORE", str(folder / "not-used.sqlite"))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        write_page = cli._write_page
        patch.setattr(cli, "_write_page", lambda book, page: (kept.append(book), write_page(book, page)))
        code = cli.main(["demo", "--out", str(folder / "page.html")])
    (book,) = kept
    cells = {cell.id: cell for cell in book.cells}
    return SimpleNamespace(code=code, book=book, cells=cells, folder=folder, page=folder / "page.html")


def texts(cell):
    """What a cell shows, as plain text."""
    return "\n".join(
        output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs
    )


def test_every_notebook_is_kept_without_outputs():
    found = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert found
    for path in found:
        book = nbformat.read(path, as_version=4)
        nbformat.validate(book)
        assert all(
            not cell.outputs and cell.execution_count is None
            for cell in book.cells
            if cell.cell_type == "code"
        )


def test_no_cell_fails_and_nothing_complains(demo):
    assert demo.code == 0
    kinds = {
        (output.output_type, output.get("name", ""))
        for cell in demo.book.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    }
    assert kinds == {("display_data", ""), ("execute_result", "")}
    assert not (ROOT / "notebooks" / ".botbook").exists()
    assert not (demo.folder / "not-used.sqlite").exists()


def test_it_connects_and_watches(demo):
    assert re.search(r"sim \(current\)\s+sim\s+open", texts(demo.cells["start-04"]))
    assert len(re.findall("user-[0-9a-f]+", texts(demo.cells["start-06"]))) == 12
    counts = dict(re.findall(r"^(message\.\w+).*?(\d+)$", texts(demo.cells["start-08"]), re.MULTILINE))
    assert sum(map(int, counts.values())) == 6


def test_a_handler_answers_and_is_replaced(demo):
    assert "Ready on sim: greet (message.received)." in texts(demo.cells["start-10"])
    assert texts(demo.cells["start-11"]).count("Tell me more!") >= 4
    assert texts(demo.cells["start-14"]).count("In short:") >= 3
    assert "In short: Hello, is anybody there?" in texts(demo.cells["start-21"])


def test_a_mistake_is_told_and_the_bot_lives_on(demo):
    told = texts(demo.cells["start-17"])
    assert "clumsy: AttributeError: 'str' object has no attribute 'uper'" in told
    assert "return event.text.uper()" in told
    handlers = texts(demo.cells["start-18"])
    assert re.search(r"greet\s+message\.received\s+[1-9]", handlers)
    assert "clumsy  " not in handlers


@pytest.mark.parametrize("cell", ["start-23", "start-25"])
def test_a_picture_comes_with_its_words(demo, cell):
    (output,) = demo.cells[cell].outputs
    assert base64.b64decode(output.data["image/png"]).startswith(b"\x89PNG")
    assert len(output.data["text/plain"]) > 60
    assert f'alt="{output.data["text/plain"][:30]}' in output.data["text/html"]


def test_the_page_needs_no_other_machine(demo):
    text = demo.page.read_text(encoding="utf-8")
    assert Page(text).fetched == []
    assert "Tell me more!" in text
    assert text.count("data:image/png;base64,") >= 2
    assert demo.page.stat().st_size < 3e6


def test_what_a_page_fetches_is_found():
    text = (
        '<link rel="stylesheet" href="https://a.example/x.css"><script src="//b.example/x.js"></script>'
        '<style>@import "https://c.example/x"; p {background: url(https://d.example/x)}</style>'
        '<script type="module">import m from "https://e.example/x"</script><img src="x.png">'
        '<a href="https://links.example/">a link</a><img src="data:image/png;base64,AAAA">'
    )
    assert {re.sub(r"^(https?:)?//|\.example.*", "", one) for one in Page(text).fetched} == {
        *"abcde",
        "x.png",
    }


def test_the_page_tells_nothing_of_this_machine(demo):
    text = demo.page.read_text(encoding="utf-8")
    assert f"{Path.home()}/" not in text
    assert str(ROOT) not in text
