"""The face of the agent SDK: programs of both versions, and what it does better."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import textwrap
import time

import pytest

from botbook._errors import AgentBusy, AnswerError, DeadlineExceeded, HandshakeError, StoreError
from botbook.compat import agent as face
from botbook.compat.agent import (
    OM,
    AgentApi,
    AgentBusyException,
    AgentException,
    EServerMessage,
    MsgError,
    MsgEventCustomUpdate,
    MsgEventEnd,
    MsgEventSendFile,
    MsgEventTextChunk,
    MsgEventToolCallChunk,
    MsgEventToolResult,
    MsgGracefulDisconnect,
    MsgStatus,
    ServerMessage,
)
from botbook.compat.agent.errors import translated
from botbook.wire.agent_frames import STATUS, encode
from tests.agent_rig import agent_place, until


@pytest.fixture
async def place(tmp_path):
    async with agent_place("loopback", tmp_path / "journal.sqlite") as made:
        yield made


@pytest.fixture
async def api(place):
    """A connected client; what its callback got is in ``heard``."""
    heard = []
    made = AgentApi("tester", place.base_url, callback=heard.append, store=place.store)
    made.heard = heard
    await made.connect()
    yield made
    await made.close()


async def chunks(stream):
    return [chunk async for chunk in stream]


def text_of(messages):
    return "".join(message.text for message in messages if isinstance(message, MsgEventTextChunk))


async def failing(stream):
    """The error of an answer, and the seconds until it came."""
    began = time.monotonic()
    with pytest.raises((AgentException, AgentBusyException)) as caught:
        await chunks(stream)
    return caught.value, time.monotonic() - began


# ---------------------------------------------------------------------------- programs

#: SDK 1.0: a whole address; the answer is awaited, then looped over, and closed in the end.
WHOLE_ADDRESS = """
import asyncio
from botbook.compat.agent.agent_api import AgentApi
from botbook.compat.agent.server import *

async def main():
    api = AgentApi("agent-1", "{base_url}agent_ws/")
    await api.connect()
    try:
        answer = await api.send_message("search for cats")
        async for part in answer:
            if isinstance(part, MsgEventTextChunk):
                print(part.text, end="")
            elif isinstance(part, MsgEventToolCallChunk):
                print(f"[{{part.tool_name}} {{part.args_chunk}}]", end="")
            elif isinstance(part, MsgEventToolResult):
                print(f"[{{part.result}}]", end="")
            elif isinstance(part, MsgEventEnd):
                print(f"[{{part.tokens_used}}]")
    finally:
        await api.close()

asyncio.run(main())
"""

#: SDK 1.0, its first form: the address alone, a context, names in OM, tokens on the answer.
CONTEXT = """
import asyncio
from botbook.compat.agent.agent_api import AgentApi
from botbook.compat.agent.server import OM

async def main():
    async with AgentApi("{base_url}agent_ws/", callback=lambda said: print(type(said).__name__)) as agent:
        answer = await agent.send_message("Hello")
        async for part in answer:
            match part:
                case OM.EventTextChunk():
                    print(part.text, end="")
        print(f"[{{answer.tokens}}]")

asyncio.run(main())
"""

#: SDK 1.1: a base address and a chat, attachments, a loop over the call itself, a busy chat.
BASE_ADDRESS = """
import asyncio
from botbook.compat.agent.agent_api import AgentApi, AgentBusyException
from botbook.compat.agent.server import MsgEventSendFile, MsgEventTextChunk

async def main():
    api = AgentApi("agent-1", "{base_url}", chat_id=3)
    await api.connect()
    try:
        await AgentApi("agent-2", "{base_url}", chat_id=3).connect()
    except AgentBusyException:
        print("busy")
    async for part in api.send_message("a report", ["data/in.csv"]):
        match part:
            case MsgEventTextChunk():
                print(part.text, end="")
            case MsgEventSendFile():
                print(f"[{{part.path}}]", end="")
    await api.close()

asyncio.run(main())
"""


TOOL = 'Let me look that up. [search {"query": "search for cats", "limit": 2}][['
REPORT = "[reports/report.md]Here it is: `reports/report.md`."


@pytest.mark.parametrize(
    ("program", "first", "last", "chat"),
    [
        (WHOLE_ADDRESS, TOOL, "]", "0"),
        (WHOLE_ADDRESS.replace("agent_ws/", "ws"), TOOL, "]", "0"),
        (CONTEXT, "MsgStatus", "]", "0"),
        (BASE_ADDRESS, "busy\nThank you for data/in.csv. ", REPORT, "3"),
    ],
    ids=["1.0", "1.0-ws", "1.0-context", "1.1"],
)
async def test_programs_of_the_sdk(place, tmp_path, program, first, last, chat):
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(program).format(base_url=place.base_url), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-Werror",
        script,
        cwd=tmp_path,
        env=os.environ | {"BOTBOOK_STORE": str(place.store)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, err.decode()) == (0, "")
    said = out.decode().strip()
    assert said.startswith(first)
    assert said.endswith(last)
    (asked,) = [entry for entry in place.world.log() if entry["what"] == "ask"]
    assert asked["chat"] == chat
    await until(lambda: place.sockets == 0)


async def test_a_host_keeps_clients_by_user_and_drops_them_as_they_go(place):
    """How the README expects connections to be held."""
    clients, dropped = {}, []

    def drop(client):
        dropped.append(clients.pop(client.chat_id))

    async def ask(user, text):
        if user not in clients:
            clients[user] = AgentApi(
                f"agent-{user}", place.base_url, None, drop, chat_id=user, store=place.store
            )
            await clients[user].connect()
        return text_of(await chunks(clients[user].send_message(text)))

    assert all(await asyncio.gather(*(ask(user, "Hello") for user in (1, 2, 3))))
    assert place.sockets == 3
    place.fault("close")
    await until(lambda: not clients)
    assert len(dropped) == 3
    assert await ask(2, "again")  # the chat was let go of: no 403
    assert len(dropped) == 3
    await clients[2].close()
    assert len(dropped) == 3  # its own close is no disconnect


# ---------------------------------------------------------------------------- messages


async def test_an_answer_as_messages(api):
    answer = api.send_message("a report")
    got = await chunks(answer)
    kinds = [type(message) for message in got if not isinstance(message, MsgEventTextChunk)]
    updates = [MsgEventCustomUpdate] * 4
    assert kinds == [MsgEventToolCallChunk, *updates, MsgEventToolResult, MsgEventSendFile, MsgEventEnd]
    assert text_of(got) == answer.answer.text
    assert got[-1] == MsgEventEnd(tokens_used=answer.tokens)
    assert answer.tokens > 5
    assert MsgEventSendFile(path="reports/report.md") in got
    assert MsgEventCustomUpdate(payload={"status": "writing", "progress": 0.5}) in got
    assert await chunks(answer) == []  # it is over
    assert api.heard == [MsgStatus()]


async def test_a_file_outside_the_workspace_is_not_handed_on(api):
    got = await chunks(api.send_message("escape"))
    assert not any(isinstance(message, MsgEventSendFile) for message in got)


def test_messages_look_like_those_of_the_sdk():
    chunk = MsgEventTextChunk(text="é")
    assert (chunk.type, chunk.type.value) == (EServerMessage.AGENT_EVENT_TEXT_CHUNK, "AGENT_EVENT_TEXT_CHUNK")
    assert chunk.model_dump() == {"type": "AGENT_EVENT_TEXT_CHUNK", "text": "é", "source": "main"}
    assert chunk.model_dump_json() == '{"type":"AGENT_EVENT_TEXT_CHUNK","text":"é","source":"main"}'
    assert isinstance(chunk, ServerMessage)
    assert isinstance(chunk, OM.AgentEvent)
    assert not isinstance(MsgStatus(), OM.AgentEvent)
    assert OM.EventEnd is MsgEventEnd


def test_the_names():
    assert face.__all__ == sorted(face.__all__, key=lambda name: (not name.isupper(), name))
    assert all(getattr(face, name).__doc__ or name == "AgentEventUnion" for name in face.__all__)


# ---------------------------------------------------------------------------- what comes besides


async def test_what_nobody_asked_for_goes_to_the_callback(place, api):
    place.say("by the way")
    await until(lambda: len(api.heard) == 3)
    assert api.heard == [MsgStatus(), MsgEventTextChunk(text="by the way"), MsgEventEnd(tokens_used=3)]
    place.raw(encode(STATUS), encode("ERROR", code="X", details="y"), encode("SOMETHING_NEW"), "no json")
    await until(lambda: len(api.heard) == 5)
    assert api.heard[3:] == [MsgStatus(), MsgError(code="X", details="y")]
    assert "by the way" not in text_of(await chunks(api.send_message("Hello")))


async def test_what_was_left_early_goes_to_the_callback_and_into_no_other_answer(api):
    read = []
    async for chunk in api.send_message("a long story"):
        read.append(chunk)
        if len(read) == 3:
            break
    got = await chunks(api.send_message("Hello"))
    assert "word" not in text_of(got)
    heard = api.heard[1:]
    whole = "".join(f"word{number} " for number in range(120)).strip()
    assert text_of([*read, *heard]) == whole  # nothing is lost and nothing comes twice
    assert isinstance(heard[-1], MsgEventEnd)


async def test_a_callback_that_fails_is_logged(place, caplog):
    def fail(message):
        raise ZeroDivisionError

    async with AgentApi("t", place.base_url, callback=fail, on_disconnect=fail, store=place.store) as api:
        assert text_of(await chunks(api.send_message("Hello")))
        place.fault("close")
        await until(lambda: "on_disconnect of t failed" in caplog.text)
    assert "the callback of t failed" in caplog.text


# ---------------------------------------------------------------------------- failures


async def test_an_error_of_the_agent(api):
    error, _ = await failing(api.send_message("boom"))
    assert isinstance(error, AgentException)
    assert isinstance(error, RuntimeError)
    assert (error.code, error.details) == ("LLM_UNAVAILABLE", "the model does not answer")
    assert str(error) == "Agent error (LLM_UNAVAILABLE): the model does not answer"
    assert error.answer.text == "I will try. "
    assert MsgError(code="LLM_UNAVAILABLE", details="the model does not answer") in api.heard
    assert text_of(await chunks(api.send_message("Hello")))


@pytest.mark.parametrize(
    ("fault", "code"),
    [("rst", "CONNECTION_ERROR"), ("graceful", "GRACEFUL_DISCONNECT"), ("close", "CONNECTION_ERROR")],
)
async def test_a_connection_that_ends_in_mid_answer(place, api, fault, code):
    """The official client would wait for ever (protocols/agent.md, known limits)."""
    stream = api.send_message("slowly please")
    first = await anext(stream)
    place.fault(fault)
    error, seconds = await failing(stream)
    assert (error.code, seconds < 1) == (code, True)
    assert error.answer.text.startswith(first.text)
    assert (MsgGracefulDisconnect() in api.heard) == (fault == "graceful")
    assert text_of(await chunks(api.send_message("again")))  # it came back by itself
    await until(lambda: api.heard.count(MsgStatus()) == 2)


async def test_one_request_at_a_time(place, api):
    stream = api.send_message("slowly please")
    await anext(stream)
    for second in (api.send_message("me too"), api.send_message("and me")):
        with pytest.raises(AgentBusyException):
            await second
    rest = await chunks(stream)
    assert isinstance(rest[-1], MsgEventEnd)
    assert place.asked() == ["slowly please"]


async def test_deadlines(place, api):
    place.fault("endless")
    error, seconds = await failing(api.send_message("go on", timeout=0.3))
    assert (error.code, seconds < 2) == ("TIMEOUT", True)
    place.fault("silent")
    error, seconds = await failing(api.send_message("Hello?", silence=0.3))
    assert (error.code, seconds < 2) == ("TIMEOUT", True)
    assert text_of(await chunks(api.send_message("Hello")))


async def test_a_cancelled_caller_does_not_look_like_a_finished_answer(api):
    task = asyncio.create_task(chunks(api.send_message("a long story")))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stream = api.send_message("a long story")
    await anext(stream)
    await stream.aclose()
    await stream.aclose()
    assert await chunks(stream) == []
    async with contextlib.aclosing(api.send_message("Hello")) as stream:
        assert "word" not in text_of(await chunks(stream))


@pytest.mark.parametrize(
    ("fault", "options", "code"),
    [
        ("bad_status", {}, "INVALID_STATUS"),
        ("upgrade_status", {"status": 500}, "CONNECTION_ERROR"),
        ("upgrade_status", {"status": 404}, "CONNECTION_ERROR"),
    ],
)
async def test_connecting_fails(place, fault, options, code):
    place.fault(fault, **options)
    api = AgentApi("t", place.base_url, store=place.store)
    with pytest.raises(AgentException) as caught:
        await api.connect()
    assert caught.value.code == code
    await api.connect()  # the next try goes well
    await api.connect()
    await api.close()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HandshakeError("UNEXPECTED_MSG_TYPE: the first frame is not text"), "UNEXPECTED_MSG_TYPE"),
        (HandshakeError("it refuses: 500", status=500), "CONNECTION_ERROR"),
        (DeadlineExceeded("the peer was not ready within 5 s"), "TIMEOUT"),
        (AnswerError("the answer was stopped", code="cancelled"), "CANCELLED"),
        (AnswerError("the answer failed: ConnectionLost: gone", code="ConnectionLost"), "CONNECTION_ERROR"),
        (AnswerError("the answer failed: X: y", code="X"), "X"),
        (StoreError("no disk"), "CONNECTION_ERROR"),
    ],
)
def test_the_codes_of_the_sdk(error, code):
    made = translated(error)
    assert (made.code, isinstance(made, AgentException)) == (code, True)


@pytest.mark.parametrize("error", [AgentBusy("busy"), HandshakeError("no", status=403)])
def test_busy(error):
    assert isinstance(translated(error), AgentBusyException)


async def test_nobody_is_there_and_nobody_is_connected(place):
    api = AgentApi("t", "http://127.0.0.1:9/", store=place.store)
    with pytest.raises(AgentException) as caught:
        await api.connect()
    assert caught.value.code == "CONNECTION_ERROR"
    for stream in (api.send_message("x"), api.send_message("y")):
        with pytest.raises(AgentException) as caught:
            await stream
        assert caught.value.code == "NOT_CONNECTED"
    await api.close()
    assert repr(api) == "<AgentApi t, chat 0: not connected>"


async def test_an_attachment_outside_the_workspace(api):
    error, _ = await failing(api.send_message("x", ["../../etc/passwd"]))
    assert error.code == "INVALID_REQUEST"
    assert text_of(await chunks(api.send_message("Hello")))


@pytest.mark.parametrize(
    "address", ["", "ftp://localhost/", "ws://example.org/", "http://example.org/", "ws://u:p@localhost"]
)
def test_addresses_that_are_none(address):
    with pytest.raises(ValueError, match=r"address|machine"):
        AgentApi("t", address)


# ---------------------------------------------------------------------------- life


async def test_everything_is_in_the_journal(place, api):
    await chunks(api.send_message("Hello"))
    frame = api._bot.events(bot="tester")
    assert {"message.sent", "message.delta", "message.received", "connection.opened"} == set(frame["type"])


async def test_a_client_that_nobody_closed_lets_go_of_its_chat(place):
    api = AgentApi("t", place.base_url, store=place.store)
    await api.connect()
    assert place.sockets == 1
    del api
    gc.collect()
    await until(lambda: place.sockets == 0)


async def test_closing_in_mid_answer(place):
    api = AgentApi("t", place.base_url, store=place.store)
    await api.connect()
    stream = api.send_message("slowly please")
    await anext(stream)
    await api.close()
    error, seconds = await failing(stream)
    assert (error.code, seconds < 1) == ("CONNECTION_ERROR", True)
    await api.connect()
    assert text_of(await chunks(api.send_message("Hello")))
    await api.close()
