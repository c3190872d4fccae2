"""Who lives in the embedded world, and what they say: scenarios, each bounded and seeded."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from botbook._clock import Clock
from botbook._local.sample import Conversation, conversations

__all__ = ["SCENARIOS", "People", "Stage"]


class People(Protocol):
    """What a scenario needs of a gateway."""

    def say(self, user: str, text: str, *, group: str | None = None, name: str = "") -> str:
        """Let a user write; returns the message's id."""
        ...

    def echo(self, text: str, *, user: str = "", group: str = "", ask_msg_id: str = "") -> str:
        """Let the bot's own account write; returns the message's id."""
        ...

    def answers(self, *, user: str = "", group: str = "") -> int:
        """How many answers the client has given in a chat."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a scenario plays on.

    Attributes:
        people: The gateway.
        clock: Where its time comes from.
        speed: How many times faster than life.
        seed: Of all chance in it.
        conversations: How many conversations at the most; None for all there are.
    """

    people: People
    clock: Clock
    speed: float = 1.0
    seed: int = 0
    conversations: int | None = None

    async def pause(self, seconds: float) -> None:
        """Let time pass, in seconds of life."""
        await self.clock.sleep(seconds / self.speed)

    def chance(self, *parts: object) -> random.Random:
        """Chance of its own for one part of a scenario, so that no part disturbs another."""
        return random.Random(":".join(map(str, (self.seed, *parts))))


# ---------------------------------------------------------------------------- hello


@dataclass(frozen=True, slots=True)
class _Line:
    """What a scripted user says, so many seconds after the line before."""

    after: float
    user: str
    text: str
    group: str | None = None


_NAMES: Final = {"ada": "Ada", "bo": "Bo", "chen": "陈晨", "dara": "Dara"}
_HELLO: Final = (
    _Line(0.2, "ada", "Hello! Is anybody there?"),
    _Line(0.6, "bo", "hi"),
    _Line(0.8, "ada", "What can you do?"),
    _Line(0.6, "chen", "大家好,你能帮我们浇花吗?", "garden"),
    _Line(0.7, "dara", "Who waters the tomatoes on Friday?", "garden"),
    _Line(0.6, "bo", "Tell me a joke, please 🙂"),
    _Line(0.8, "chen", "谢谢!", "garden"),
    _Line(0.7, "ada", "Thank you, bye"),
)


async def hello(stage: Stage) -> None:
    """Four users, two private chats and a group; about five seconds of life."""
    chance = stage.chance("hello")
    for line in _HELLO:
        await stage.pause(line.after * chance.uniform(0.7, 1.3))
        stage.people.say(line.user, line.text, group=line.group, name=_NAMES[line.user])


# ---------------------------------------------------------------------------- topical

#: Seconds of life between the beginnings of two conversations, on average.
_ARRIVAL: Final = 12.0
#: Median seconds until a user writes again, and the longest.
_USER_GAP: Final = (8.0, 60.0)
#: Median seconds until the house bot answers, and the longest.
_BOT_DELAY: Final = (2.0, 20.0)
#: Spread of both, as the sigma of a log-normal.
_SPREAD: Final = 0.6


async def topical(stage: Stage) -> None:
    """People who chat with the bot, side by side, in the words of real conversations.

    A house bot gives the recorded answer, unless the client has answered by then. The corpus has
    no times: gaps and delays are made up, log-normal and seeded. All 60 conversations take about
    16 minutes of life.
    """
    chosen = conversations()
    chance = stage.chance("topical")
    chance.shuffle(chosen)
    async with asyncio.TaskGroup() as group:
        for conversation in chosen[: stage.conversations]:
            group.create_task(_play(stage, conversation))
            await stage.pause(chance.expovariate(1 / _ARRIVAL))


async def _play(stage: Stage, conversation: Conversation) -> None:
    """One conversation: what the user says, and what the house bot answers to it."""
    user = f"user-{conversation.conversation_id[2:10]}"
    chance = stage.chance(conversation.conversation_id)
    for question, replies in _exchanges(conversation):
        if question:
            await stage.pause(_delay(chance, *_USER_GAP))
        before = stage.people.answers(user=user)
        asked = stage.people.say(user, question) if question else ""
        for reply in replies:
            await stage.pause(_delay(chance, *_BOT_DELAY))
            if stage.people.answers(user=user) == before:
                stage.people.echo(reply, user=user, ask_msg_id=asked)


def _exchanges(conversation: Conversation) -> Iterator[tuple[str, list[str]]]:
    """Each thing the user says, with what the bot says before the user speaks again."""
    question, replies = "", []
    for turn in conversation.turns:
        if turn.by_bot:
            replies.append(turn.text)
            continue
        if question or replies:
            yield question, replies
        question, replies = turn.text, []
    yield question, replies


def _delay(chance: random.Random, median: float, longest: float) -> float:
    return min(chance.lognormvariate(math.log(median), _SPREAD), longest)


async def quiet(stage: Stage) -> None:
    """Nobody speaks by themselves."""


#: Every scenario, by name.
SCENARIOS: Final[dict[str, Callable[[Stage], Awaitable[None]]]] = {
    "hello": hello,
    "quiet": quiet,
    "topical": topical,
}
