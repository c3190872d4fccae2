"""What a message is made of: a chain of components, with a text view."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, overload

__all__ = ["At", "AtAll", "Component", "Image", "MessageChain", "Plain", "Unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """Base of the parts of a message."""

    type: ClassVar[str] = "Component"

    def __str__(self) -> str:
        return f"[{self.type}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain(Component):
    """Text."""

    type: ClassVar[str] = "Plain"
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class At(Component):
    """A mention of one user."""

    type: ClassVar[str] = "At"
    target: str
    display: str = ""

    def __str__(self) -> str:
        return f"@{self.display or self.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AtAll(Component):
    """A mention of everybody."""

    type: ClassVar[str] = "AtAll"

    def __str__(self) -> str:
        return "@all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image(Component):
    """A picture, by address.

    Attributes:
        url: Where it is.
        mime_type: Default ``image/jpeg`` (protocols/miti.md 4).
    """

    type: ClassVar[str] = "Image"
    url: str
    mime_type: str = "image/jpeg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(Component):
    """A part that botbook does not know; its JSON is kept."""

    type: ClassVar[str] = "Unknown"
    raw: object


class MessageChain(Sequence[Component]):
    """An immutable sequence of components."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Iterable[Component] = ()) -> None:
        self._parts = tuple(parts)

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
