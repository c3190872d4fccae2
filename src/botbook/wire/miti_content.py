"""What a Miti message holds: text, mentions, pictures, markdown (protocols/miti.md 4, 6)."""

from __future__ import annotations

import json
import re
from itertools import zip_longest
from typing import Any, Final, TypedDict

from botbook.messages import At, Component, Image, MessageChain, Plain, Unknown
from botbook.wire.miti_frames import items_of, text_of

__all__ = ["StreamItem", "content_text", "markdown_content", "read_content"]


class StreamItem(TypedDict):
    """One item of ``content_list``; ``content`` is a JSON string (protocols/miti.md 6)."""

    event: str
    seq: int
    content: str
    desc: dict[str, Any]


_MENTION: Final = re.compile(r"\s*@(\S+)\s*")


def read_content(content: Any, *, mentioned: str = "") -> tuple[str, MessageChain | None]:
    """Text and components of a message's ``content``, whatever its ``msg_type``.

    Mentions at the front leave the text and become `At`; a name ends at white space.

    Args:
        content: As it came.
        mentioned: User id of the one mention, when ``atUserList`` is missing.

    Returns:
        Plain text, and the components if it is more than text.
    """
    if not isinstance(content, dict):
        return text_of(content), None
    text = content_text(content)
    ids = [text_of(ident) for ident in items_of(content.get("atUserList"))] or [mentioned][: bool(mentioned)]
    names, text = _split_mentions(text, len(ids))
    parts: list[Component] = [At(target=i, display=name) for i, name in zip_longest(ids, names, fillvalue="")]
    images = [image for item in items_of(content.get("images")) if (image := _image(item))]
    if not parts and not images:
        return text, None if text or not content else MessageChain([Unknown(raw=content)])
    if text:
        parts.append(Plain(text=text))
    return text, MessageChain([*parts, *images])


def _split_mentions(text: str, count: int) -> tuple[list[str], str]:
    """Take up to `count` mentions off the front."""
    names: list[str] = []
    end = 0
    while len(names) < count and (match := _MENTION.match(text, end)):
        names.append(match[1])
        end = match.end()
    return names, text[end:]


def _image(item: Any) -> Image | None:
    url = text_of(item.get("url")) if isinstance(item, dict) else ""
    if not url:
        return None
    mime_type = text_of(item.get("mime_type"))
    return Image(url=url, mime_type=mime_type) if mime_type else Image(url=url)


def content_text(content: Any) -> str:
    """The text of any content: plain, the short and the long form of ``stream_full``."""
    if not isinstance(content, dict):
        return text_of(content)
    for key in ("text", "markdown"):
        if isinstance(value := content.get(key), str):
            return value
    return "".join(_item_text(item) for item in items_of(content.get("content_list")))


def _item_text(item: Any) -> str:
    """The piece inside one ``content_list`` item; thinking is left out."""
    if not isinstance(item, dict) or item.get("event") != "delta":
        return ""
    try:
        shown = json.loads(text_of(item.get("content")))
    except (ValueError, RecursionError):
        return ""
    pieces = shown.values() if isinstance(shown, dict) else ()
    return "".join(text_of(piece.get("delta")) for piece in pieces if isinstance(piece, dict))


def markdown_content(markdown: str, ask_msg_id: str = "", *, seq: int = 1) -> dict[str, Any]:
    """Write the ``content`` of a ``stream_full`` message (protocols/miti.md 6).

    Args:
        markdown: The whole text.
        ask_msg_id: The question it answers; left out when "".
        seq: Number inside ``content_list``.
    """
    item: StreamItem = {
        "event": "delta",
        "seq": seq,
        "content": json.dumps({"markdown": {"delta": markdown}}, ensure_ascii=False),
        "desc": {
            "isIncrease": False,
            "isCompleted": True,
            "isShow": True,
            "history": True,
            "showType": "markdown",
        },
    }
    return {"ask_msg_id": ask_msg_id, "content_list": [item]} if ask_msg_id else {"content_list": [item]}
