"""Questions to the embedded agent, in memory and over loopback."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import threading
import time

import pytest

from botbook import _asking
from botbook._asking import Asked, Questions
from botbook._clock import SYSTEM, FakeClock
from botbook._errors import (
    AgentBusy,
    AnswerError,
    ConnectionLost,
    HandshakeError,
    LocalProtocolError,
    NotSupported,
)
from botbook._lines import IDLE
from botbook._net.loop import io_loop
from botbook.bot import AsyncBot, Bot
from botbook.events import Event
from botbook.wire.agent_frames import MAIN, encode
from tests.agent_rig import agent_place, until
from tests.defects.rig import pass_time, pass_until


@pytest.fixture
def store(tmp_path):
    return tmp_path / "journal.sqlite"


@pytest.fixture(params=["memory", "loopback"])
async def place(request, store):
    async with agent_place(request.param, store) as made:
        yield made


@pytest.fixture
async def one(store):
    """A place where the kind of connection makes no difference."""
    async with agent_place("memory", store) as made:
        yield made


@pytest.fixture
async def far(store):
    """A place behind a port."""
    async with agent_place("loopback", store) as made:
        yield made


async def failing(work):
    """The error of an answer, and the seconds until it came."""
    began = time.monotonic()
    with pytest.raises(AnswerError) as caught:
        await work
    return caught.value, time.monotonic() - began


def rows_of(bot, asked):
    frame = bot.events(bot=bot.name)
    return frame[frame["reply_to"] == asked.id]


# ---------------------------------------------------------------------------- an answer


async def test_an_answer_streams_in_and_every_frame_is_a_row(place):
    async with place.bot() as bot:
        asked = bot.ask("What is a retention curve?")
        seen = [event async for event in asked]
        pieces = [event.text for event in seen if event.type == "message.delta"]
        assert len(pieces) > 5
        assert asked.text == "".join(pieces) == seen[-1].text
        assert (seen[-1].type, seen[-1].role, seen[-1].error) == ("message.received", "assistant", "")
        assert (asked.done, asked.error, asked.tokens) == (True, "", seen[-1].tokens)
        assert asked.tokens > 5
        assert 0 < asked.seconds < 5
        assert seen[-1].latency_s == pytest.approx(asked.seconds, abs=0.2)
        assert list(rows_of(bot, asked)["event_id"]) == [event.event_id for event in seen]
        assert list(asked.events["event_id"]) == [event.event_id for event in seen]
        assert list(asked.events.columns) == list(bot.events().columns)
        question = bot.events(type="message.sent").iloc[0]
        assert (question["text"], question["message_id"]) == ("What is a retention curve?", asked.id)
        assert (str(asked), place.asked()) == (asked.text, ["What is a retention curve?"])


async def test_awaiting_gives_the_same_answer_and_may_be_done_twice(one):
    async with one.bot() as bot:
        asked = bot.ask("Hello")
        assert await asked is asked
        assert await asked is asked
        again = [event.text async for event in asked if event.type == "message.delta"]
        assert "".join(again) == asked.text
        assert repr(asked) == f"<Asked 'Hello': done, {len(asked.text)} characters>"


async def test_tools_with_arguments_and_result(one):
    async with one.bot() as bot:
        asked = await bot.ask("search for cats")
        (tool,) = asked.tools
        assert (tool["name"], tool["error"]) == ("search", "")
        assert tool["arguments"]["limit"] == 2
        assert [page["score"] for page in tool["result"]] == [0.92, 0.4]
        types = [name for name in asked.events["type"] if name.startswith("agent.")]
        assert types == ["agent.tool_call", "agent.tool_result"]


async def test_arguments_that_are_no_json_are_kept_as_text(one):
    async with one.bot() as bot:
        (tool,) = (await bot.ask("bad args please")).tools
        assert (tool["arguments"], tool["result"]) == ('{"query": "cats", ', "bad arguments")


async def test_a_tool_that_fails_and_a_sub_agent(one):
    async with one.bot() as bot:
        (tool,) = (await bot.ask("tool error")).tools
        assert (tool["error"], tool["result"]) == ("timed out", {"error": "timed out"})
        asked = await bot.ask("delegate it")
        assert asked.voices == {"tools:researcher": "Reading two papers."}
        assert "Reading" not in asked.text
        assert (asked.progress, asked.places) == ([], [0])


async def test_progress_and_a_file(one):
    async with one.bot() as bot:
        asked = await bot.ask("a report", attachments=["data/in.csv"])
        assert asked.progress == [("writing", 0.25), ("writing", 0.5), ("writing", 0.75), ("writing", 1.0)]
        assert asked.files == ["reports/report.md"]
        assert asked.text.startswith("Thank you for data/in.csv.")


async def test_a_path_that_leaves_the_workspace_is_a_row_and_no_file(one):
    async with one.bot() as bot:
        asked = await bot.ask("escape")
        row = asked.events[asked.events["type"] == "agent.file"].iloc[0]
        assert (asked.files, row["text"]) == ([], "../../etc/passwd")
        assert "not inside" in row["error"]
        with pytest.raises(LocalProtocolError, match="not inside"):
            await bot.ask("x", attachments=["../secret"])
        assert one.asked() == ["escape"]


@pytest.mark.parametrize(
    ("given", "share"),
    [(0.5, 0.5), (50, 0.5), (1, 1.0), (0, 0.0), (-1, None), (101, None), (True, None), ("x", None)],
)
async def test_the_share_of_work_done(one, given, share):
    async with one.bot() as bot:
        one.fault("silent")
        asked = bot.ask("how far?")
        await until(one.asked)
        one.raw(
            encode("AGENT_EVENT_CUSTOM_UPDATE", payload={"progress": given, "message": "m"}, source=MAIN),
            encode("AGENT_EVENT_END", tokens_used=1),
        )
        assert (await asked).progress == [("m", share)]


# ---------------------------------------------------------------------------- failures


async def test_a_failure_keeps_what_had_arrived(one):
    async with one.bot() as bot:
        error, _ = await failing(bot.ask("boom"))
        assert (error.code, error.answer.text) == ("LLM_UNAVAILABLE", "I will try. ")
        assert error.answer.error == "LLM_UNAVAILABLE: the model does not answer"
        assert "LLM_UNAVAILABLE: the model does not answer" in str(error)
        last = rows_of(bot, error.answer).iloc[-1]
        assert (last["text"], last["error"]) == ("I will try. ", error.answer.error)
        assert (await bot.ask("and now?")).error == ""


@pytest.mark.parametrize("code", ["INTERNAL", "CHAT_BUSY", "PARSE_ERROR", ""])
async def test_error_codes(one, code):
    async with one.bot() as bot:
        one.fault("error", code=code, details="the model is busy")
        error, _ = await failing(bot.ask("x"))
        assert error.code == code
        assert isinstance(error, AgentBusy) == (code == "CHAT_BUSY")
        assert "the model is busy" in error.answer.error


async def test_frames_that_are_unknown_or_malformed_do_no_harm(one):
    async with one.bot() as bot:
        asked = bot.ask("slowly please")
        await until(lambda: asked.text)
        one.raw('{"type": "AGENT_EVENT_NEW", "x": 1}')
        one.fault("poison")
        assert len((await asked).text) > 20
        assert "AGENT_EVENT_NEW" in list(asked.events["text"])
        assert (bot.status().malformed, bot.status().reconnects) == (6, 0)


async def test_a_second_question_is_refused_while_the_first_is_answered(one):
    async with one.bot() as bot:
        first = bot.ask("slowly please")
        await until(lambda: first.text)
        with pytest.raises(AgentBusy, match="answering already") as caught:
            await bot.ask("me too")
        assert caught.value.answer.question == "me too"
        assert caught.value.answer.error.startswith("BUSY: ")
        assert (await first).error == ""
        assert one.asked() == ["slowly please"]


async def test_a_chat_that_another_client_has(place):
    async with place.bot(name="one", chat_id="3"), place.bot(name="two", chat_id="4") as two:
        with pytest.raises(AgentBusy, match="in use by another client"):
            await two.ask("x", chat="3")
        assert (await two.ask("y")).text
        with pytest.raises(AgentBusy, match="in use by another client"):
            await place.bot(name="three", chat_id="3").start()
        place.fault("upgrade_status", status=403)
        place.fault("close")
        await until(lambda: two.status().reconnects == 1)  # busy for a moment after the loss


async def test_other_gateways_have_no_chats_of_their_own(store):
    async with AsyncBot("langbot", base_url="sim", store=store) as bot:
        with pytest.raises(NotSupported):
            await bot.ask("x", chat="9")


# ---------------------------------------------------------------------------- lost links


@pytest.mark.parametrize("kind", ["rst", "fin", "graceful", "close"])
async def test_a_link_that_ends_in_mid_answer_fails_it_at_once_and_comes_back(far, kind):
    async with far.bot() as bot:
        asked = bot.ask("slowly please")
        await until(lambda: len(asked.text) > 10)
        far.fault(kind)
        error, seconds = await failing(asked)
        assert seconds < 1
        assert error.code == ("GRACEFUL_DISCONNECT" if kind == "graceful" else "ConnectionLost")
        assert len(error.answer.text) > 10
        last = rows_of(bot, asked)
        last = last[last["type"] == "message.received"]
        assert list(last["text"]) == [asked.text]
        assert list(last["error"]) == [asked.error]
        assert (await bot.ask("again")).error == ""  # asked while the link was down
        assert bot.status().reconnects == 1


async def test_what_had_arrived_is_whole_though_its_rows_were_on_their_way(one):
    """The last pieces wait for the disk when the link ends."""
    async with one.bot() as bot:
        one.fault("cut", after=200)
        error, _ = await failing(bot.ask("60 kB"))
        pieces = rows_of(bot, error.answer)
        pieces = pieces[pieces["type"] == "message.delta"]["text"]
        assert len(pieces) == 200
        assert error.answer.text == "".join(pieces)


async def test_a_question_waits_for_a_link_that_is_down_but_not_for_ever(store):
    async with agent_place("memory", store) as place:
        clock = FakeClock()
        bot = place.bot(clock=clock)
        await bot.start()
        place.fault("upgrade_status", status=503, times=1000)
        place.fault("close")
        await until(lambda: bot.status().state == "waiting")
        asked = bot.ask("is anybody there?")
        await pass_until(clock, lambda: asked.done)
        assert asked.error
        assert 9 < asked.seconds < 12
        with pytest.raises(HandshakeError):
            await asked
        await bot.stop()


async def test_a_bot_that_stops_ends_its_answers(one):
    bot = await one.bot().start()
    asked = bot.ask("slowly please")
    await until(lambda: asked.text)
    await bot.stop()
    error, seconds = await failing(asked)
    assert seconds < 1
    assert error.answer.text


async def test_a_bot_that_stops_while_a_chat_is_being_opened(far):
    bot = await far.bot().start()
    far.fault("no_status")  # so that the chat is never ready
    asked = bot.ask("x", chat="9")
    await bot.stop()
    with pytest.raises(ConnectionLost, match="stopped"):
        await asked
    await until(lambda: far.sockets == 0)
    assert far.asked() == []


# ---------------------------------------------------------------------------- left-overs


async def test_what_nobody_asked_for_is_a_row_and_part_of_no_answer(one):
    async with one.bot() as bot:
        one.say("by the way")
        await until(lambda: "by the way" in list(bot.events()["text"]))
        asked = await bot.ask("Hello")
        assert "by the way" not in asked.text
        stray = bot.events(type="message.received").iloc[0]
        assert (stray["text"], stray["reply_to"]) == ("by the way", "")


async def test_leaving_the_loop_stops_the_answer_and_the_next_one_is_clean(place):
    async with place.bot() as bot:
        async for event in bot.ask("a long story"):
            first = event
            break
        asked = await bot.ask("Hello")
        assert "word" not in asked.text
        assert asked.text
        assert first.reply_to != asked.id
        stopped = bot.events()
        stopped = stopped[(stopped["reply_to"] == first.reply_to) & (stopped["error"] != "")]
        assert list(stopped["error"]) == ["cancelled: stopped by the caller"]
        assert bot.status().reconnects == 0


async def test_a_question_that_is_stopped_before_it_could_be_asked(far):
    async with far.bot() as bot:
        asked = bot.ask("never mind", chat="9")
        await asked.stop()
        await until(lambda: far.sockets == 2)
        assert (await bot.ask("Hello", chat="9")).text
        assert far.asked() == ["Hello"]
        assert len(rows_of(bot, asked)) == 0
        with pytest.raises(AnswerError, match="stopped"):
            await asked


async def test_leaving_by_an_error_and_by_closing(one):
    async with one.bot() as bot:
        with pytest.raises(ZeroDivisionError):
            async for _ in bot.ask("a long story"):
                raise ZeroDivisionError
        async with contextlib.aclosing(bot.ask("a long story")) as asked:
            await anext(aiter(asked))
        assert asked.error.startswith("cancelled: ")
        reader = aiter(bot.ask("a long story"))
        await anext(reader)
        await reader.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(reader)
        assert "word" not in (await bot.ask("Hello")).text


async def test_the_rest_of_an_endless_answer_is_cut_off_when_the_next_question_comes(one):
    async with one.bot() as bot:
        one.fault("endless")
        asked = bot.ask("go on")
        await until(lambda: asked.text)
        await asked.stop()
        assert bot.status().state == "open"
        began = time.monotonic()
        answer = await bot.ask("Hello")
        assert "and so on" not in answer.text
        assert time.monotonic() - began < 5
        assert bot.status().reconnects == 1


# ---------------------------------------------------------------------------- time


async def test_an_answer_that_never_ends(one):
    async with one.bot() as bot:
        one.fault("endless")
        error, seconds = await failing(bot.ask("go on", timeout=0.4))
        assert error.code == "DeadlineExceeded"
        assert "longer than 0.4 s" in str(error)
        assert 0.3 < seconds < 2
        assert error.answer.text.startswith("and so on ")
        answer = await bot.ask("Hello")
        assert "and so on" not in answer.text


async def test_silence(one):
    async with one.bot() as bot:
        one.fault("silent")
        error, seconds = await failing(bot.ask("Hello?", silence=0.3))
        assert "silence for 0.3 s" in error.answer.error
        assert 0.2 < seconds < 2
        assert (await bot.ask("Hello")).error == ""


async def test_the_deadlines_by_the_clock(one):
    clock = FakeClock()
    async with one.bot(clock=clock) as bot:
        one.fault("silent")
        asked = bot.ask("Hello?")
        await until(one.asked)
        await pass_time(clock, _asking.SILENCE - 1)
        assert not asked.done
        await pass_until(clock, lambda: asked.done)
        assert asked.seconds == pytest.approx(_asking.SILENCE, abs=1)
        one.fault("endless", seconds=0.2)
        asked = bot.ask("go on", timeout=1e9)
        await pass_until(clock, lambda: asked.text)
        for _ in range(5):  # each piece is a sign of life
            await pass_time(clock, _asking.SILENCE - 5)
            before = len(asked.text)
            await until(lambda before=before: len(asked.text) > before)
        assert not asked.done


def event(kind, **given):
    now = SYSTEM.now()
    return Event(
        event_id="e", type=kind, at=now, received_at=now, gateway="agent", bot="b", role="assistant",
        reply_to="q", **given,
    )  # fmt: skip


async def test_a_disk_that_takes_nothing_does_not_hold_up_who_waits():
    clock = FakeClock()
    asked = Asked("q", "x", began=0.0, hop=lambda work: work, cancel=lambda asked: asyncio.sleep(0))
    questions = Questions(
        clock=clock,
        lost=lambda asked, error: event("message.received", error=error),
        publish=lambda events: None,
    )
    questions.add(asked, None)
    questions.stamped(event("message.edited", text="ha"))
    questions.stamped(event("message.delta", text="lf"))
    questions.end(asked, "Full: no room")
    questions.end(asked, "second: reasons do not count")
    assert not asked.done
    await clock.advance(_asking.GRACE)
    assert (asked.done, asked.error, asked.text, questions.pending) == (True, "Full: no room", "half", False)


# ---------------------------------------------------------------------------- cancelling


async def test_cancelling_the_task(one):
    async with one.bot() as bot:
        for way in ("loop", "await"):
            asked = bot.ask("a long story")

            async def read(asked=asked, way=way):
                if way == "await":
                    await asked
                async for _ in asked:
                    pass

            task = asyncio.create_task(read())
            await until(lambda asked=asked: asked.text)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert asked.done
            assert asked.error == "cancelled: the answer was stopped"
        assert "word" not in (await bot.ask("Hello")).text
        assert bot.status().reconnects == 0


@pytest.fixture
def aside(store):
    """A place for tests that hold their own thread."""
    manager = agent_place("loopback", store)
    yield io_loop().run(manager.__aenter__())
    io_loop().run(manager.__aexit__(None, None, None))


def test_the_stop_button_in_a_blocking_call(aside):
    with Bot("agent", base_url=aside.base_url, store=aside.store) as bot:
        threading.Timer(0.4, _thread.interrupt_main).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            bot.ask("slowly, a long story")
        assert 0.3 < time.monotonic() - began < 1.0
        answer = bot.ask("Hello")
        assert answer.text
        assert "word" not in answer.text
        assert bot.status().reconnects == 0


def test_two_loops_at_once(aside):
    """The methods of a bot may be awaited on any loop; each gets its own answer."""
    with Bot("agent", base_url=aside.base_url, store=aside.store) as bot:
        got = {}

        async def read(chat):
            pieces = [
                e.text async for e in bot.aio.ask(f"chat {chat}", chat=chat) if e.type == "message.delta"
            ]
            got[chat] = "".join(pieces)

        threads = [threading.Thread(target=asyncio.run, args=(read(chat),)) for chat in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        received = bot.events(type="message.received")
        assert got == dict(zip(received["chat_id"], received["text"], strict=True))


# ---------------------------------------------------------------------------- several chats


async def test_chats_run_side_by_side_each_in_order(place):
    async with place.bot() as bot:
        chats = [str(number) for number in range(1, 13)]

        async def talk(chat):
            seen = []
            for turn in range(2):
                asked = bot.ask(f"question {turn} of {chat}", chat=chat)
                seen += [event async for event in asked]
            return seen

        for chat, seen in zip(chats, await asyncio.gather(*map(talk, chats)), strict=True):
            assert {event.chat_id for event in seen} == {chat}
            rows = bot.events()
            rows = rows[(rows["chat_id"] == chat) & (rows["role"] == "assistant")]
            assert list(rows["event_id"]) == [event.event_id for event in seen]
        assert place.sockets == 13


async def test_one_chat_that_ends_leaves_the_others_alone(one):
    async with one.bot() as bot:
        first, second = bot.ask("slowly please", chat="1"), bot.ask("slowly please", chat="2")
        await until(lambda: first.text and second.text)
        await io_loop().call(bot._connection.lines._chats["1"].link.renew("test"))
        error, _ = await failing(first)
        assert error.code == "ConnectionLost"
        assert (await second).error == ""
        assert (await bot.ask("Hello", chat="1")).text


async def test_idle_chats_are_closed_and_opened_again(one):
    clock = FakeClock()
    async with one.bot(clock=clock) as bot:
        await bot.ask("x", chat="5")
        busy = bot.ask("a long story, slowly", chat="6", silence=1e9, timeout=1e9)
        await until(lambda: busy.text)
        assert one.sockets == 3
        await pass_time(clock, IDLE / 2)
        assert one.sockets == 3
        await pass_until(clock, lambda: one.sockets == 2, step=IDLE / 8, limit=2 * IDLE)
        assert bot._connection.lines.chats == ["6"]
        assert (await bot.ask("x", chat="5")).text
        await busy.stop()
        await pass_until(clock, lambda: one.sockets == 1, step=IDLE / 8, limit=3 * IDLE)


# ---------------------------------------------------------------------------- slow readers


async def test_a_slow_reader_is_not_flooded_and_holds_up_nobody_else(place, monkeypatch):
    monkeypatch.setattr(_asking, "UNREAD", 50)
    async with place.bot() as bot:
        place.fault("endless", seconds=0.05)
        asked = bot.ask("go on", chat="1")
        most, texts = 0, []
        async for got in asked:
            texts.append(got.text)
            await asyncio.sleep(0.01)
            most = max(most, asked.unread)
            if len(texts) == 5:
                assert (await bot.ask("Hello", chat="2", timeout=10)).text
            if len(texts) == 60:
                break
        assert set(texts) == {"and so on "}
        assert 50 < most < 1_000
        await until(lambda: asked.done)


async def test_who_does_not_iterate_is_not_waited_for(one):
    async with one.bot() as bot:
        asked = bot.ask("60 kB")
        await asked
        assert asked.unread == 0
        assert len(asked.text) > 59_000
        assert len(asked.rest()) == len(asked.events)
        news = []
        watched = await bot.ask("Hello", watch=lambda asked: news.append(len(asked.text)))
        assert news == sorted(news)
        assert news[-1] == len(watched.text)
