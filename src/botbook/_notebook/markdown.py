"""A stranger's markdown as HTML in which nothing runs and nothing is loaded; also while it still grows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from botbook._notebook.render import clean

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

__all__ = ["Growing", "safe_html"]

_SCHEMES: Final = ("http://", "https://", "mailto:")


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.disable("image")  # a picture would tell a stranger's server who reads this, and when
    parser.validateLink = lambda url: url.strip().lower().startswith(_SCHEMES)  # type: ignore[method-assign]
    return parser


def safe_html(markdown: str) -> str:
    """Markdown as HTML; HTML in it is text, and a link leads to the web or nowhere."""
    parser, env = _parser(), {}  # type: tuple[MarkdownIt, dict[str, Any]]
    return _html(parser.parse(clean(markdown), env), env)


def _html(tokens: Sequence[Token], env: dict[str, Any]) -> str:
    parser = _parser()
    html: str = parser.renderer.render(tokens, parser.options, env)
    return html.replace("<a href=", '<a rel="noopener noreferrer nofollow" target="_blank" href=')


class Growing:
    """The HTML of a text that grows at its end.

    What stands before the last block cannot change any more and is rendered once: 60 kB in pieces
    cost little more than 60 kB at once. Links whose target is told elsewhere (``[a][1]``) are not
    followed.
    """

    def __init__(self) -> None:
        self._text = ""
        self._settled = 0
        self._html: list[str] = []

    def html(self, text: str) -> str:
        """The HTML of all of it.

        Args:
            text: The text so far; one that does not begin with the last one is taken as new.
        """
        text = clean(text)
        if not text.startswith(self._text):
            self._settled, self._html = 0, []
        self._text = text
        tail, env = text[self._settled :], {}  # type: tuple[str, dict[str, Any]]
        tokens = _parser().parse(tail, env)
        lines = tail.split("\n")
        last = _last_block(tokens)
        line = (tokens[last].map or [0])[0] if tokens else 0
        if 0 < line < len(lines) - 1:  # the last line is still being written: it may become anything
            self._html.append(_html(tokens[:last], env))
            self._settled += sum(len(one) + 1 for one in lines[:line])
            tokens = tokens[last:]
        return "".join([*self._html, _html(tokens, env)])


def _last_block(tokens: Sequence[Token]) -> int:
    """Where the last block of the outermost level begins."""
    starts = (
        place
        for place in reversed(range(len(tokens)))
        if not tokens[place].level and tokens[place].nesting >= 0
    )
    return next(starts, 0)
