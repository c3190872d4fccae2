"""Users, groups and members, with LangBot's JSON both ways (protocols/langbot.md 8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, Self

from botbook._errors import RemoteProtocolError
from botbook.messages._json import ident, moment, overlaid, text

__all__ = ["Group", "Member", "MemberRole", "User"]

MemberRole = Literal["owner", "admin", "member", ""]

#: Roles by what they are called in the JSON, the old permissions among them.
_ROLES: Final[dict[str, MemberRole]] = {
    "owner": "owner",
    "admin": "admin",
    "administrator": "admin",
    "member": "member",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entity:
    """Somebody or something with an id.

    Attributes:
        given: The JSON it was read from, or None; not compared.
    """

    given: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_json(cls, item: Any) -> Self:
        """Read LangBot's JSON, the old form too.

        Raises:
            RemoteProtocolError: It is no object.
        """
        if not isinstance(item, Mapping):
            raise RemoteProtocolError(f"a {cls.__name__.lower()} that is no object", frame=item)
        return cls(given=dict(item), **cls._fields(item))

    def to_json(self) -> dict[str, Any]:
        """Its JSON: what it was read from, with those fields that were changed since."""
        if self.given is None:
            return self._written()
        return overlaid(self.given, type(self).from_json(self.given)._written(), self._written())

    def _written(self) -> dict[str, Any]:
        raise NotImplementedError

    @classmethod
    def _fields(cls, item: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class User(_Entity):
    """Somebody.

    Attributes:
        id: Their id, as text.
        nickname: What they are called.
        username: Their handle, such as Telegram's ``@name``.
        remark: What the bot's owner calls them.
        avatar_url: Their picture.
        is_bot: Whether they are a bot.
    """

    id: str = ""
    nickname: str = ""
    username: str = ""
    remark: str = ""
    avatar_url: str = ""
    is_bot: bool = False

    @property
    def name(self) -> str:
        """The best name there is, or ""."""
        return self.nickname or self.username or self.remark

    def _written(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "nickname": self.nickname,
            "avatar_url": self.avatar_url or None,
            "is_bot": self.is_bot,
            "username": self.username or None,
            "remark": self.remark or None,
        }

    @classmethod
    def _fields(cls, item: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "id": ident(item.get("id")),
            "nickname": text(item.get("nickname", item.get("member_name", item.get("name")))),
            "username": text(item.get("username")),
            "remark": text(item.get("remark")),
            "avatar_url": text(item.get("avatar_url")),
            "is_bot": item.get("is_bot") is True,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Group(_Entity):
    """A group.

    Attributes:
        id: Its id, as text.
        name: Its name.
        description: What it is for.
        member_count: How many are in it; None if the gateway does not tell.
        avatar_url: Its picture.
        owner_id: Whose it is.
    """

    id: str = ""
    name: str = ""
    description: str = ""
    member_count: int | None = None
    avatar_url: str = ""
    owner_id: str = ""

    def _written(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "description": self.description or None,
            "member_count": self.member_count,
            "avatar_url": self.avatar_url or None,
            "owner_id": self.owner_id or None,
        }

    @classmethod
    def _fields(cls, item: Mapping[str, Any]) -> dict[str, Any]:
        count = item.get("member_count")
        return {
            "id": ident(item.get("id")),
            "name": text(item.get("name")),
            "description": text(item.get("description")),
            "member_count": count if isinstance(count, int) and not isinstance(count, bool) else None,
            "avatar_url": text(item.get("avatar_url")),
            "owner_id": ident(item.get("owner_id")),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Member(_Entity):
    """Somebody in a group.

    Attributes:
        user: Who.
        group_id: In which group.
        role: ``owner``, ``admin``, ``member``, or "" if the gateway does not tell.
        display_name: What they are called there.
        joined_at: Since when, in UTC; None if the gateway does not tell.
        title: Their title there.
    """

    user: User = field(default_factory=User)
    group_id: str = ""
    role: MemberRole = ""
    display_name: str = ""
    joined_at: datetime | None = None
    title: str = ""

    def _written(self) -> dict[str, Any]:
        return {
            "user": self.user.to_json(),
            "group_id": self.group_id,
            "role": self.role or None,
            "display_name": self.display_name or None,
            "joined_at": self.joined_at.timestamp() if self.joined_at else None,
            "title": self.title or None,
        }

    @classmethod
    def _fields(cls, item: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(item.get("user"), Mapping):
            return cls._old_fields(item)
        return {
            "user": User.from_json(item["user"]),
            "group_id": ident(item.get("group_id")),
            "role": _role(item.get("role")),
            "display_name": text(item.get("display_name")),
            "joined_at": moment(item.get("joined_at")),
            "title": text(item.get("title")),
        }

    @classmethod
    def _old_fields(cls, item: Mapping[str, Any]) -> dict[str, Any]:
        """A member before 4.11: ``member_name``, ``permission``, ``special_title`` and its group inside."""
        group = item.get("group")
        return {
            "user": User(id=ident(item.get("id")), nickname=text(item.get("member_name"))),
            "group_id": ident(group.get("id")) if isinstance(group, Mapping) else "",
            "role": _role(item.get("permission")),
            "display_name": text(item.get("member_name")),
            "joined_at": None,
            "title": text(item.get("special_title")),
        }


def _role(name: Any) -> MemberRole:
    return _ROLES.get(text(name).lower(), "")
