"""Make the README's picture: the first notebook in JupyterLab, those cells that tell the story.

Run it with ``python -m tests.browser.picture``.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.browser.lab import Lab, browser

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "images" / "start.png"
#: Cells that are shown: the handler, its answers, the traffic.
SHOWN = ("start-03", "start-10", "start-11", "start-23")
LEAVE = """ids => {
    const panel = window.jupyterapp.shell.currentWidget;
    const shown = cell => ids.includes(cell.model.id);
    panel.content.widgets.forEach(cell => { cell.node.style.display = shown(cell) ? '' : 'none'; });
    panel.content.deselectAll();
    panel.content.activeCellIndex = 0;
    document.activeElement.blur();
}"""


def main() -> None:
    """Run the notebook, leave out what is not shown, and keep the picture."""
    with tempfile.TemporaryDirectory(prefix="botbook-picture-") as folder:
        home = Path(folder)
        shutil.copytree(ROOT / "notebooks", home / "notebooks", ignore=shutil.ignore_patterns(".*"))
        with (
            Lab(home / "notebooks", home) as lab,
            browser(home, viewport={"width": 1000, "height": 1000}) as (page, errors),
        ):
            lab.open(page, "00-start.ipynb")
            lab.run_all(page, timeout=60)
            page.evaluate(LEAVE, SHOWN)
            page.locator(".jp-WindowedPanel-outer").evaluate("panel => panel.scrollTo(0, 0)")
            page.mouse.move(0, 0)
            plot = page.locator("img.botbook-plot:visible").bounding_box()
            PICTURE.parent.mkdir(parents=True, exist_ok=True)
            clip = {"x": 36, "y": 32, "width": 928, "height": plot["y"] + plot["height"] - 32}
            page.screenshot(path=PICTURE, clip=clip)
            assert errors == []


if __name__ == "__main__":
    main()
