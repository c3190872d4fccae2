"""A chain of parts, and the parts that hold a chain themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, overload

from botbook._errors import RemoteProtocolError
from botbook.messages._json import ident, text, without
from botbook.messages.components import (
    At,
    AtAll,
    Component,
    Face,
    File,
    Image,
    Plain,
    Platform,
    Source,
    Unknown,
    Voice,
    made,
)

__all__ = ["Forward", "MessageChain", "Node", "Quote"]


class MessageChain(Sequence[Component]):
    """An immutable sequence of components."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Iterable[Component] = ()) -> None:
        self._parts = tuple(parts)

    @classmethod
    def from_json(cls, items: Any) -> MessageChain:
        """Read LangBot's JSON. What is not known, or has another shape, becomes `Unknown`.

        Args:
            items: A list of components.

        Raises:
            RemoteProtocolError: It is no list, or quotes in quotes without end.
        """
        if not isinstance(items, list | tuple):
            raise RemoteProtocolError("a message chain that is no list", frame=items)
        try:
            return cls(_read(item) for item in items)
        except RecursionError:
            raise RemoteProtocolError("a message chain that is nested too deeply") from None

    def to_json(self) -> list[Any]:
        """The chain as LangBot's JSON; every key that was read is written again."""
        return [part.to_json() for part in self._parts]

    @overload
    def __getitem__(self, index: int) -> Component: ...
    @overload
    def __getitem__(self, index: slice) -> MessageChain: ...
    def __getitem__(self, index: int | slice) -> Component | MessageChain:
        return MessageChain(self._parts[index]) if isinstance(index, slice) else self._parts[index]

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[Component]:
        return iter(self._parts)

    def __eq__(self, other: object) -> bool:
        return self._parts == other._parts if isinstance(other, MessageChain) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._parts)

    def __str__(self) -> str:
        return "".join(str(part) for part in self._parts)

    def __repr__(self) -> str:
        return f"MessageChain({list(self._parts)!r})"

    @property
    def text(self) -> str:
        """The plain text alone, without mentions and pictures."""
        return "".join(part.text for part in self._parts if isinstance(part, Plain))


_EMPTY: Final = MessageChain()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote(Component):
    """The message that this one answers.

    Attributes:
        id: The quoted message's id.
        sender_id: Who wrote it.
        origin: What it said.
    """

    type: ClassVar[str] = "Quote"
    id: str = ""
    sender_id: str = ""
    origin: MessageChain = _EMPTY

    def _written(self) -> dict[str, Any]:
        return {"id": self.id, "sender_id": self.sender_id, "origin": self.origin.to_json()}

    @classmethod
    def _fields(cls, item: Mapping[str, Any]) -> dict[str, Any] | None:
        origin = item.get("origin")
        if not isinstance(origin, list | None):
            return None
        return {
            "id": ident(item.get("id")),
            "sender_id": ident(item.get("sender_id")),
            "origin": MessageChain.from_json(origin or []),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Node(Component):
    """One message inside a `Forward`.

    Attributes:
        sender_id: Who wrote it.
        sender_name: Their name.
        message_id: Its id.
        chain: What it said.
    """

    type: ClassVar[str] = "Node"
    sender_id: str = ""
    sender_name: str = ""
    message_id: str = ""
    chain: MessageChain = _EMPTY

    def to_json(self) -> Any:
        written = Component.to_json(self)
        return written if self.given is not None and "type" in self.given else without(written, "type")

    def _written(self) -> dict[str, Any]:
        names = {"sender_id": self.sender_id, "sender_name": self.sender_name, "message_id": self.message_id}
        return names | {"message_chain": self.chain.to_json()}

    @classmethod
    def _fields(cls, item: Mapping[str, Any]) -> dict[str, Any] | None:
        chain = item.get("message_chain")
        if not isinstance(chain, list | None):
            return None
        return {
            "sender_id": ident(item.get("sender_id")),
            "sender_name": text(item.get("sender_name")),
            "message_id": ident(item.get("message_id")),
            "chain": MessageChain.from_json(chain or []),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward(Component):
    """Messages of another chat, passed on together."""

    type: ClassVar[str] = "Forward"
    nodes: tuple[Node, ...] = ()

    def _written(self) -> dict[str, Any]:
        return {"node_list": [node.to_json() for node in self.nodes]}

    @classmethod
    def _fields(cls, item: Mapping[str, Any]) -> dict[str, Any] | None:
        found = item.get("node_list")
        if not isinstance(found, list | None):
            return None
        nodes = [made(Node, node) if isinstance(node, dict) else None for node in found or []]
        return None if None in nodes else {"nodes": tuple(nodes)}


_KINDS: Final[dict[str, type[Component]]] = {
    kind.type: kind for kind in (Source, Plain, Quote, At, AtAll, Image, Voice, File, Forward, Face, Platform)
}


def _read(item: Any) -> Component:
    kind = item.get("type") if isinstance(item, Mapping) else None
    if not isinstance(kind, str):
        return Unknown(raw=item)
    known = _KINDS.get(kind) or (Platform if kind.startswith("WeChat") else None)
    return (made(known, item) if known else None) or Unknown(raw=item)
