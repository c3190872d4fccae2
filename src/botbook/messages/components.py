"""The parts of a message that hold no other message."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final, TypeVar

from botbook.messages._json import ident, mime_type, moment, number, overlaid, text, without

__all__ = [
    "At",
    "AtAll",
    "Component",
    "Face",
    "File",
    "Image",
    "Plain",
    "Platform",
    "Source",
    "Unknown",
    "Voice",
    "made",
]

C = TypeVar("C", bound="Component")

WECHAT: Final = "wechat"
_PLACES: Final = ("url", "path", "base64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """Base of the parts of a message.

    Attributes:
        given: The JSON it was read from, or None; not compared.
    """

    type: ClassVar[str] = "Component"
    #: Keys of the JSON that say the same thing: when one is written anew, the others go.
    same: ClassVar[frozenset[str]] = frozenset()

    given: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return f"[{self.type}]"

    def to_json(self) -> Any:
        """Its JSON: what it was read from, with those fields that were changed since."""
        if self.given is None:
            return {"type": self.type, **self._written()}
        read = made(type(self), self.given)
        return overlaid(self.given, read._written() if read else {}, self._written(), self.same)

    def _written(self) -> dict[str, Any]:
        """Its fields as JSON, without the type."""
        return {}

    @classmethod
    def _fields(cls, item: Mapping[str, Any]) -> dict[str, Any] | None:
        """Its fields from JSON, or None if the JSON has another shape."""
        return {}


def made(kind: type[C], item: Mapping[str, Any]) -> C | None:
    """A component from its JSON, which it keeps; None if the JSON has another shape."""
    fields = kind._fields(item)
    return None if fields is None else kind(given=dict(item), **fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(Component):
    """Where a message comes from; stands first in what LangBot sends.

    Attributes:
        id: The message's id.
        at: When it was written, in UTC if the JSON tells a zone; None if it does not tell.
    """

    type: ClassVar[str] = "Source"
    same: ClassVar[frozenset[str]] = frozenset({"time", "timestamp"})
    id: str = ""
    at: datetime | None = None

    def __str__(self) -> str:
        return ""

    def _written(self) -> dict[str, Any]:
        return {"id": self.id, "time": self.at.isoformat() if self.at else None}

    @classmethod
    def _fields(cls, item: Mapping[str, Any]) -> dict[str, Any] | None:
        return {"id": ident(item.get("id")), "at": moment(item.get("time", item.get("timestamp")))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain(Component):
    """Text."""

    type: ClassVar[str] = "Plain"
    text: str

    def __str__(self) -> str:
        return self.text

    def _written(self) -> dict[str, Any]:
        return {"text": self.text}

    @classmethod
    def _fields(cls, item: Mapping[str, Any]) -> dict[str, Any] | None:
        return {"text": item["text"]} if isinstance(item.get("text"), str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class At(Component):
    """A mention of one user."""

    type: ClassVar[str] = "At"
    target: str
    display: str = ""

    def __str__(self) -> str:
        return f"@{self.display or self.target}"

    def _written(self) -> dict[str, Any]:
        return {"target": self.target, "display": self.display}

    @classmethod
    def _fields(cls, item: Mapping[str, Any]) -> dict[str, Any] | None:
        target = ident(item.get("target"))
        return {"target": target, "display": text(item.get("display"))} if target else None


@dataclass(frozen=True, slots=True, kw_only=True)
class AtAll(Component):
    """A mention of everybody."""

    type: ClassVar[str] = "AtAll"

    def __str__(self) -> str:
        return "@all"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed(Component):
    """A part that is somewhere else, by one address."""

    same: ClassVar[frozenset[str]] = frozenset(_PLACES)
    url: str = ""

    def _written(self) -> dict[str, Any]:
        place = "base64" if self.url.startswith("data:") else "url" if "://" in self.url else "path"
        return {place: self.url} if self.url else {}

    @classmethod
    def _fields(cls, item: Mapping[str, Any]) -> dict[str, Any] | None:
        return {"url": next((place for key in _PLACES if (place := text(item.get(key)))), "")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Image(_Placed):
    """A picture, by address.

    Attributes:
        url: Where it is: an address, a ``data:`` address, or a key of the gateway's file store;
            "" where the gateway does not tell.
        mime_type: Default ``image/jpeg`` (protocols/miti.md 4).
        id: The gateway's id, if it tells.
    """

    type: ClassVar[str] = "Image"
    mime_type: str = "image/jpeg"
    id: str = ""

    def _written(self) -> dict[str, Any]:
        more = {
            "image_id": self.id,
            "mime_type": self.mime_type if self.mime_type != mime_type(self.url) else "",
        }
        return _Placed._written(self) | {key: value for key, value in more.items() if value}

    @classmethod
    def _fields(cls, item: Mapping[str, Any]) -> dict[str, Any] | None:
        found = _Placed._fields(item) or {}
        kind = text(item.get("mime_type")) or mime_type(found["url"])
        return found | {"id": ident(item.get("image_id")), "mime_type": kind}


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice(_Placed):
    """A recording.

    Attributes:
        url: Where it is, as for `Image`.
        id: The gateway's id, if it tells.
        seconds: How long it is, in seconds; None if the gateway does not tell.
    """

    type: ClassVar[str] = "Voice"
    id: str = ""
    seconds: float | None = None

    def _written(self) -> dict[str, Any]:
        more = {"voice_id": self.id, "length": self.seconds}
        return _Placed._written(self) | {key: value for key, value in more.items() if value not in ("", None)}

    @classmethod
    def _fields(cls, item: Mapping[str, Any]) -> dict[str, Any] | None:
        found = _Placed._fields(item) or {}
        return found | {"id": ident(item.get("voice_id")), "seconds": number(item.get("length"))}


@dataclass(frozen=True, slots=True, kw_only=True)
class File(_Placed):
    """A file.

    Attributes:
        url: Where it is, as for `Image`.
        id: The gateway's id, if it tells.
        name: Its name.
        bytes: Its size, in bytes; None if the gateway does not tell.
    """

    type: ClassVar[str] = "File"
    id: str = ""
    name: str = ""
    bytes: int | None = None

    def __str__(self) -> str:
        return f"[File {self.name}]" if self.name else "[File]"

    def _written(self) -> dict[str, Any]:
        more = {"id": self.id, "name": self.name, "size": self.bytes}
        return _Placed._written(self) | {key: value for key, value in more.items() if value not in ("", None)}

    @classmethod
    def _fields(cls, item: Mapping[str, Any]) -> dict[str, Any] | None:
        size = item.get("size", item.get("file_size"))
        return (_Placed._fields(item) or {}) | {
            "id": ident(item.get("id", item.get("file_id"))),
            "name": text(item.get("name", item.get("file_name"))),
            "bytes": size if isinstance(size, int) and not isinstance(size, bool) else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Face(Component):
    """An emoji of the platform, a sticker, a die.

    Attributes:
        id: The platform's number of it.
        name: What it is called.
        kind: Which sort, such as ``face``, ``dice`` or ``rps``.
    """

    type: ClassVar[str] = "Face"
    id: str = ""
    name: str = ""
    kind: str = ""

    def __str__(self) -> str:
        return f"[{self.name or self.type}]"

    def _written(self) -> dict[str, Any]:
        return {"face_type": self.kind, "face_id": self.id, "face_name": self.name}

    @classmethod
    def _fields(cls, item: Mapping[str, Any]) -> dict[str, Any] | None:
        names = {"id": "face_id", "name": "face_name", "kind": "face_type"}
        return {name: ident(item.get(key)) for name, key in names.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform(Component):
    """A part that only one platform has.

    Attributes:
        platform: Which; ``wechat`` for the parts that are named so.
        component_type: Its name there.
        data: What it holds.
    """

    type: ClassVar[str] = "Platform"
    platform: str = ""
    component_type: str = ""
    data: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"[{self.component_type or self.type}]"

    def to_json(self) -> Any:
        if self.platform == WECHAT and self.component_type.startswith("WeChat"):
            return {"type": self.component_type, **copy.deepcopy(dict(self.data))}
        return Component.to_json(self)

    def _written(self) -> dict[str, Any]:
        own = {"platform": self.platform, "component_type": self.component_type}
        return own | {"data": copy.deepcopy(dict(self.data))}

    @classmethod
    def _fields(cls, item: Mapping[str, Any]) -> dict[str, Any] | None:
        kind = item["type"]
        if kind != cls.type:  # WeChatLink and its like, older than this component
            return {"platform": WECHAT, "component_type": kind, "data": without(item, "type")}
        data = item.get("data", {})
        own = {"platform": text(item.get("platform")), "component_type": text(item.get("component_type"))}
        return own | {"data": data} if isinstance(data, dict) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(Component):
    """A part that botbook does not know; its JSON is kept."""

    type: ClassVar[str] = "Unknown"
    raw: object

    def to_json(self) -> Any:
        return copy.deepcopy(self.raw)
