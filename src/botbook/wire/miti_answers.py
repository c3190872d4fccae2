"""Streamed Miti answers and their acknowledgement, both ways (protocols/miti.md 5)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from botbook._errors import RemoteProtocolError
from botbook.actions import AnswerCompleted, AnswerDelta, AnswerFailed, AnswerStarted, Run
from botbook.wire.contract import Ack
from botbook.wire.miti_frames import (
    COMPLETED,
    DELTA,
    FAILED,
    STARTED,
    AckEvent,
    AnswerEvent,
    epoch_ms,
    text_of,
)

__all__ = ["ANSWERS", "Answer", "ack_event", "answer_event", "read_ack", "read_answer"]

Answer = AnswerStarted | AnswerDelta | AnswerCompleted | AnswerFailed

#: The frames of a streamed answer.
ANSWERS: Final[dict[str, type[Answer]]] = {
    STARTED: AnswerStarted,
    DELTA: AnswerDelta,
    COMPLETED: AnswerCompleted,
    FAILED: AnswerFailed,
}
#: Kind of answer → name of its frame.
_NAMES: Final = {kind: name for name, kind in ANSWERS.items()}


def answer_event(answer: Answer, *, agent_id: str, conversation_id: str, at: datetime) -> AnswerEvent:
    """Write the body of an answer frame.

    Args:
        answer: What to say.
        agent_id: The app id.
        conversation_id: The conversation as the gateway names it.
        at: When it is said.
    """
    run = answer.run
    kind, _, ident = run.to.partition(":")
    event: AnswerEvent = {
        "event_type": _NAMES[type(answer)],
        "agent_id": agent_id,
        "user_id": run.asker,
        "conversation_id": conversation_id,
        "ask_msg_id": run.question_id,
        "assistant_msg_id": run.message_id,
        "run_id": run.run_id,
        "to_user_id": run.asker or (ident if kind == "user" else ""),
        "to_group_id": ident if kind == "group" else "",
        "created_at": epoch_ms(at),
    }
    _add_details(event, answer)
    return event


def _add_details(event: AnswerEvent, answer: Answer) -> None:
    match answer:
        case AnswerDelta():
            event["seq"] = answer.seq
            event["event"] = "reasoning_delta" if answer.reasoning else "delta"
            event["show_type"] = answer.show_type
            event["delta"] = answer.text
            event["is_completed"] = answer.is_completed
        case AnswerCompleted():
            event["seq"] = answer.seq
            event["markdown"] = answer.text
            event["finish_reason"] = answer.finish_reason
            if answer.reasoning:
                event["reasoning"] = answer.reasoning
        case AnswerFailed():
            event["seq"] = answer.seq
            event["error_code"] = answer.error_code
            event["message"] = answer.message


def read_answer(event_type: str, event: Mapping[str, Any], *, event_id: str) -> Answer:
    """Read the body of an answer frame.

    Args:
        event_type: One of `ANSWERS`.
        event: The body.
        event_id: The frame's id.
    """
    run, kind = _read_run(event), ANSWERS[event_type]
    if kind is AnswerStarted:
        return AnswerStarted(id=event_id, run=run)
    number = event.get("seq")
    seq = number if isinstance(number, int) else 0
    if kind is AnswerDelta:
        return AnswerDelta(
            id=event_id,
            run=run,
            seq=seq,
            text=text_of(event.get("delta")),
            reasoning=event.get("event") == "reasoning_delta",
            show_type=text_of(event.get("show_type")),
            is_completed=event.get("is_completed") is True,
        )
    if kind is AnswerCompleted:
        return AnswerCompleted(
            id=event_id,
            run=run,
            seq=seq,
            text=text_of(event.get("markdown")),
            reasoning=text_of(event.get("reasoning")),
            finish_reason=text_of(event.get("finish_reason")),
        )
    return AnswerFailed(
        id=event_id,
        run=run,
        seq=seq,
        error_code=text_of(event.get("error_code")),
        message=text_of(event.get("message")),
    )


def _read_run(event: Mapping[str, Any]) -> Run:
    group = text_of(event.get("to_group_id"))
    asker = text_of(event.get("user_id"))
    return Run(
        run_id=text_of(event.get("run_id")),
        message_id=text_of(event.get("assistant_msg_id")),
        to=f"group:{group}" if group else f"user:{text_of(event.get('to_user_id')) or asker}",
        asker=asker,
        chat_id=text_of(event.get("conversation_id")),
        question_id=text_of(event.get("ask_msg_id")),
    )


def ack_event(answer: AnswerCompleted | AnswerFailed, *, error: str = "") -> AckEvent:
    """Write the body of an acknowledgement.

    Args:
        answer: What is acknowledged.
        error: Why it is refused, or "" when it is taken.
    """
    event: AckEvent = {
        "reply_to_event_id": answer.id,
        "run_id": answer.run.run_id,
        "seq": answer.seq,
        "ok": not error,
    }
    if error:
        event["error"] = error
    return event


def read_ack(event: Mapping[str, Any], frame: object = "") -> Ack:
    """Read an acknowledgement.

    A peer that leaves ``ok`` out, or writes it as 1 or "true", has still acknowledged
    (protocols/miti.md 10, defect 31); an error text without ``ok`` is a refusal.

    Raises:
        RemoteProtocolError: It does not say of what.
    """
    ident = text_of(event.get("reply_to_event_id"))
    if not ident:
        raise RemoteProtocolError("an acknowledgement of nothing", frame=frame)
    ok, error = event.get("ok"), text_of(event.get("error"))
    taken = not error if ok is None else ok is True or text_of(ok).lower() in ("true", "1")
    return Ack(ident, taken, "" if taken else error or "refused without a reason")
