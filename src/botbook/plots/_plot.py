"""A figure that shows itself in a notebook and carries its words and its data."""

from __future__ import annotations

import base64
import io
import warnings
from typing import Any, Final

from matplotlib.figure import Figure

__all__ = ["Plot"]

#: A transparent picture is brighter where the host tells that its paper is dark: Lab, Notebook 7, VS Code.
ON_DARK: Final = (
    "<style>body[data-jp-theme-light=false] .botbook-plot,body.vscode-dark .botbook-plot"
    "{filter:brightness(1.2)}</style>"
)


class Plot(Figure):
    """A matplotlib figure that shows itself in a notebook and carries its words and its data.

    Attributes:
        alt: The picture in words.
        data: The metric frame behind it.
    """

    alt: str = ""
    data: Any = None

    def draw(self, renderer: Any) -> None:
        """Draw, without complaints about signs that no installed font has."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*Glyph .* missing from.*")
            super().draw(renderer)

    def png(self, *, scale: float = 2.0) -> bytes:
        """The picture as PNG, `scale` times as fine as the screen's pixels."""
        out = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*Glyph .* missing from.*")
            self.savefig(out, format="png", dpi=self.dpi * scale, metadata={"Description": self.alt})
        return out.getvalue()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        image = base64.b64encode(self.png()).decode()
        width = round(self.get_figwidth() * self.dpi)
        words = self.alt.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
        mark, rule = ("", "") if self.get_facecolor()[3] else (' class="botbook-plot"', ON_DARK)
        return {
            "text/plain": self.alt,
            "image/png": image,
            "text/html": f'<img alt="{words}"{mark} style="max-width:100%" width="{width}"'
            f' src="data:image/png;base64,{image}">{rule}',
        }
