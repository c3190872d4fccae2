"""The shipped conversations: a licensed sample of Topical-Chat (see ``notebooks/data/README.md``)."""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from botbook._errors import ConfigError

__all__ = ["Conversation", "Turn", "conversations", "sample_path"]

_NAME: Final = "topical_chat_sample.jsonl.gz"
_BOT: Final = "agent_2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message.

    Attributes:
        by_bot: The bot's side said it.
        text: What was said.
        rating: The partner's word for it, or "".
    """

    by_bot: bool
    text: str
    rating: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation, in order.

    Attributes:
        conversation_id: The corpus's id.
        turns: What was said.
    """

    conversation_id: str
    turns: tuple[Turn, ...]


def sample_path() -> Path:
    """Where the sample lies: inside the installed package, else in the checkout.

    Raises:
        ConfigError: It is in neither place.
    """
    package = Path(__file__).parents[1]
    places = [package / "static" / "data" / _NAME, package.parents[1] / "notebooks" / "data" / _NAME]
    found = [place for place in places if place.is_file()]
    if not found:
        raise ConfigError("the sample conversations are missing", hint="Install botbook again.")
    return found[0]


def conversations(path: str | os.PathLike[str] | None = None) -> list[Conversation]:
    """Read conversations, in the order of the corpus.

    Args:
        path: A file of the same fields, gzipped JSON lines; default the sample.

    Raises:
        ConfigError: It is missing, or holds something else.
    """
    found = sample_path() if path is None else Path(path)
    try:
        with gzip.open(found, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        return _grouped(rows)
    except OSError as error:
        raise ConfigError(
            f"{found} cannot be read: {error}", hint="Name a .jsonl.gz file of conversations."
        ) from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{found} holds no conversations: {error!r}",
            hint="Its lines have conversation_id, agent, message and turn_rating.",
        ) from None


def _grouped(rows: list[dict[str, Any]]) -> list[Conversation]:
    return [
        Conversation(ident, tuple(map(_turn, turns)))
        for ident, turns in groupby(rows, key=lambda row: str(row["conversation_id"]))
    ]


def _turn(row: dict[str, Any]) -> Turn:
    return Turn(by_bot=row["agent"] == _BOT, text=row["message"].strip(), rating=row["turn_rating"])
