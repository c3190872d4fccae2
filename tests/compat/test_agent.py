"""`MitiAgent` over a real socket: handlers, answers, calls and its life."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref

import pytest

from botbook._clock import FakeClock
from botbook._errors import ConnectionLost
from botbook._net.loop import handler_loop
from botbook.compat import miti
from botbook.compat.miti import (
    AckTimeout,
    ApiError,
    AuthError,
    BackpressureError,
    FrameRefused,
    MitiAgent,
    build_assistant_completed_event,
    enable_logging,
)
from tests.defects.rig import answer_frames, envelope, pass_until, push, sent, until

# ---------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "url",
    [
        "http://evil",
        "http://evil.example/chat",
        "ftp://localhost/",
        "ws://localhost/chat",
        " https://www.miti.chat/chat",
        "http://localhost:1@evil/",
        "http://localhost.evil/",
        "localhost:10006",
        "https://",
        "http://localhost:port/",
    ],
)
def test_an_address_that_would_send_the_secret_in_the_clear_is_refused(url):
    with pytest.raises(ValueError, match=r"."):
        MitiAgent("cli_x", "s3cret", base_url=url)


@pytest.mark.parametrize(
    "url",
    [
        "https://chat.example/chat",
        "http://localhost:10006/chat",
        "http://LOCALHOST/",
        "http://127.0.0.1:1/x//",
    ],
)
def test_these_addresses_are_fine(url):
    agent = MitiAgent("cli_x", "s3cret", base_url=url)
    assert agent.app_id == "cli_x"
    assert "s3cret" not in f"{agent!r} {vars(agent)}"


def test_the_address_comes_from_the_environment_and_empty_is_none(monkeypatch):
    monkeypatch.setenv("MITI_API_BASE_URL", "http://evil")
    for given in (None, ""):
        with pytest.raises(ValueError, match="this machine only"):
            MitiAgent("a", "s", base_url=given)
    monkeypatch.setenv("MITI_API_BASE_URL", "")
    assert repr(MitiAgent("a", "s")) == "<MitiAgent a: does not run>"


def test_every_name_of_the_package_is_there():
    assert sorted(miti.__all__) == miti.__all__
    assert issubclass(BackpressureError, RuntimeError)


# ---------------------------------------------------------------------------- handlers


class AsObject:
    """A handler that is an object."""

    def __init__(self):
        self.heard = []

    async def __call__(self, event):
        self.heard.append(event.event.message.content["text"])


async def test_handlers_of_every_kind(place):
    agent, heard, as_object = place.agent(), {}, AsObject()
    home = asyncio.get_running_loop()

    @agent.on_message
    async def on_our_loop(event):
        heard["async"] = asyncio.get_running_loop() is home

    @agent.on_message
    def on_a_thread(event):
        heard["def"] = threading.current_thread() is not threading.main_thread()

    @agent.on("im.message.receive")
    def gives_work_back(event):
        return on_our_loop(event)

    agent.on_message(as_object)

    @agent.on_group_at
    async def in_groups(event):
        heard["group"] = (event.event.group_id, event.event.sender.name, event.is_group_at)

    @agent.on("im.odd")
    async def odd(event):
        heard["odd"] = event.raw["event"]

    async with place.running(agent):
        place.world.say("ann", "hi")
        place.world.say("bob", "hi", group="garden", name="Bo")
        push(place.world, envelope("im.odd", {"x": [1]}))
        push(place.world, envelope("im.unheard", {}, "e2"))
        await until(lambda: len(heard) == 4 and as_object.heard)
        assert [name for name in agent._bot.handlers()["name"] if "AsObject" in name]
    assert heard == {"async": True, "def": True, "group": ("garden", "Bo", True), "odd": {"x": [1]}}
    assert as_object.heard == ["hi"]


async def test_running_a_cell_again_replaces_its_handler_also_while_the_agent_runs(place):
    agent, heard = place.agent(), []

    def cell(text):
        @agent.on_message
        async def handle(event):
            heard.append(text)

    cell("old")
    async with place.running(agent):
        cell("new")
        place.world.say("ann", "hi")
        await until(lambda: heard)
        place.world.say("ann", "hi")
        await until(lambda: len(heard) == 2)
    assert heard == ["new", "new"]


async def test_a_handler_that_fails_is_logged_and_the_next_event_is_handled(place, caplog):
    agent, heard = place.agent(), []

    @agent.on_message
    async def handle(event):
        heard.append(event)
        raise LookupError("nothing found")

    async with place.running(agent):
        place.world.say("ann", "one")
        place.world.say("ann", "two")
        await until(lambda: len(heard) == 2)
        await until(lambda: len(agent._bot.errors()) == 2)
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(logged) == 2
    assert "im.message.receive failed" in logged[0].getMessage()
    assert logged[0].exc_info


async def test_off_before_the_agent_runs(place):
    agent, heard = place.agent(), []
    agent.on("*")(heard.append)
    assert agent.off(heard.append) is False  # a bound method is another one each time
    ((_, kept),) = agent._handlers.values()
    assert agent.off(kept)
    assert agent._handlers == {}


# ---------------------------------------------------------------------------- answers


async def test_replies_with_markdown_and_with_text(place):
    agent = place.agent()
    told = []

    @agent.on_message
    async def private(event):
        told.append(await event.reply("**hi**"))
        told.append(await event.reply("plain", use_markdown=False))

    @agent.on_group_at
    async def group(event):
        told.append(await event.reply("to all"))

    async with place.running(agent):
        asked = place.world.say("ann", "hi")
        await until(lambda: len(told) == 2)
        place.world.say("ann", "hi", group="garden")
        await until(lambda: len(told) == 3)
    markdown, text, all_ = (entry["body"] for entry in sent(place.world, "send"))
    assert (markdown["msg_type"], markdown["to_user_id"]) == ("stream_full", "ann")
    assert markdown["content"]["ask_msg_id"] == asked
    assert markdown["content"]["content_list"][0]["content"] == '{"markdown": {"delta": "**hi**"}}'
    assert text == {"msg_type": "text", "content": {"text": "plain"}, "to_user_id": "ann"}
    assert (all_["to_group_id"], "to_user_id" in all_) == ("garden", False)
    assert all(set(answer) == {"message_id", "server_time"} for answer in told)


async def test_a_streamed_answer_in_a_group(place):
    agent, done = place.agent(), []

    @agent.on_group_at
    async def handle(event):
        message = await event.reply_started(run_id="r1", assistant_msg_id="am1")
        await event.reply_delta(
            "think", seq=1, run_id="r1", assistant_msg_id=message, event="reasoning_delta"
        )
        await event.reply_delta("Hal", seq=2, run_id="r1", assistant_msg_id=message)
        await event.reply_completed("Hallo", seq=3, run_id="r1", assistant_msg_id=message, reasoning="think")
        done.append(event.event.message.message_id)

    async with place.running(agent):
        place.world.say("ann", "hi", group="garden")
        await until(lambda: done)
    frames = [entry["frame"]["event"] for entry in sent(place.world, "frame")]
    assert [frame["event_type"].partition(".")[2] for frame in frames] == [
        "started",
        "delta",
        "delta",
        "completed",
    ]
    for frame in frames:
        assert frame["agent_id"] == agent.app_id
        assert (frame["run_id"], frame["assistant_msg_id"]) == ("r1", "am1")
        assert (frame["to_user_id"], frame["to_group_id"], frame["user_id"]) == ("ann", "garden", "ann")
        assert (frame["ask_msg_id"], frame["conversation_id"]) == (done[0], "sg_garden")
    assert [frame.get("seq") for frame in frames] == [None, 1, 2, 3]
    assert (frames[1]["event"], frames[2]["event"]) == ("reasoning_delta", "delta")
    assert (frames[3]["markdown"], frames[3]["reasoning"]) == ("Hallo", "think")


async def test_a_plain_function_streams_too(place):
    agent, done = place.agent(), []

    @agent.on_message
    def handle(event):
        message = event.reply_started(run_id="r1")
        event.reply_delta("a", seq=1, run_id="r1", assistant_msg_id=message)
        event.reply_completed("ab", seq=2, run_id="r1", assistant_msg_id=message)
        done.append(event.reply("and a reply")["message_id"])

    async with place.running(agent):
        place.world.say("ann", "hi")
        await until(lambda: done)
    assert len(answer_frames(place.world, "completed")) == 1
    assert done[0]


async def test_an_answer_that_the_gateway_refuses_or_never_acknowledges(place):
    clock = FakeClock()
    agent, caught = place.agent(clock=clock), []

    @agent.on_message
    async def handle(event):
        try:
            if event.event.sender.user_id == "ann":
                await event.reply_completed("x", seq=1, run_id="r1", assistant_msg_id="am1")
            else:
                await event.reply_failed(run_id="r2", seq=4, error_code="model", message="no model")
        except Exception as error:
            caught.append(error)

    async with place.running(agent):
        place.world.fault("ack_refused", error="too long")
        place.world.say("ann", "hi")
        await until(lambda: caught)
        place.world.fault("ack_lost", times=-1)
        place.world.say("bob", "hi")
        await until(lambda: answer_frames(place.world, "failed"))
        began = clock.monotonic()
        await pass_until(clock, lambda: len(caught) == 2, step=1)
        assert 25 <= clock.monotonic() - began <= 60
    refused, timeout = caught
    assert isinstance(refused, FrameRefused)
    assert isinstance(refused, RuntimeError)
    assert isinstance(refused, ApiError)
    assert "too long" in str(refused)
    assert isinstance(timeout, AckTimeout)
    assert isinstance(timeout, TimeoutError)
    frames = answer_frames(place.world, "failed")
    assert len(frames) == 3
    assert len({frame["header"]["event_id"] for frame in frames}) == 1
    assert (frames[0]["event"]["error_code"], frames[0]["event"]["message"]) == ("model", "no model")


async def test_a_cancel_is_heard_while_its_answer_still_runs(place):
    agent, cancelled, pieces = place.agent(), {}, []

    @agent.on_cancel
    async def cancel(event):
        cancelled[event.event.run_id].set()

    @agent.on_message
    async def handle(event):
        cancelled["r1"] = asyncio.Event()
        message = await event.reply_started(run_id="r1")
        while not cancelled["r1"].is_set():
            pieces.append(len(pieces) + 1)
            await event.reply_delta("…", seq=len(pieces), run_id="r1", assistant_msg_id=message)
            await asyncio.sleep(0.01)
        await event.reply_failed(run_id="r1", assistant_msg_id=message, error_code="cancelled")

    async with place.running(agent):
        place.world.say("ann", "count")
        await until(lambda: len(answer_frames(place.world, "delta")) > 2)
        assert place.world.cancel() == "r1"
        await until(lambda: answer_frames(place.world, "failed"))


# ---------------------------------------------------------------------------- calls


async def test_calls_need_no_running_agent_and_share_its_token(place):
    agent = place.agent()
    told = await agent.send_message(to_user_id="ann", content={"text": "x"})
    assert set(told) == {"message_id", "server_time"}
    assert told["server_time"].isdecimal()
    await agent.send_markdown_reply("**x**", to_group_id="garden", ask_msg_id="m1")
    await agent.send_message(to_user_id="ann", msg_type="text", content={"text": "y"})
    place.world.fault("no_data")
    assert await agent.send_message(to_user_id="ann", content={"text": "z"}) == {}
    async with place.running(agent):
        assert (await agent.send_message(to_user_id="ann", content={"text": "w"}))["message_id"]
    assert len(sent(place.world, "token")) == 1
    await agent.close()
    await agent.close()
    assert (await agent.send_message(to_user_id="ann", content={"text": "v"}))["message_id"]
    await agent.close()


async def test_a_message_has_one_address(place):
    agent = place.agent()
    for addresses in ({}, {"to_user_id": "u", "to_group_id": "g"}, {"to_user_id": ""}):
        with pytest.raises(ValueError, match="either to_user_id or to_group_id"):
            await agent.send_message(**addresses, content={"text": "x"})
    assert sent(place.world, "send") == []


async def test_what_the_gateway_says_no_to(place):
    agent = place.agent()
    place.world.fault("no_permission")
    with pytest.raises(ApiError) as caught:
        await agent.send_message(to_user_id="ann", content={"text": "x"})
    assert caught.value.code == 10012
    with pytest.raises(ApiError):
        await agent.send_message(to_user_id="ann", msg_type="sculpture")
    await agent.close()


async def test_frames_need_a_running_agent_and_an_id(place):
    agent = place.agent()
    frame = build_assistant_completed_event(agent_id="a", run_id="r", seq=1, markdown="x")
    with pytest.raises(RuntimeError, match="does not run"):
        await agent.send_gateway_event(frame)
    async with place.running(agent):
        await agent.send_gateway_event(frame)
        await agent.send_gateway_event({"header": {}, "event": {}}, wait_for_ack=False)
        for without in ({}, {"header": {}}, {"header": {"event_id": ""}}):
            with pytest.raises(ValueError, match="event_id"):
                await agent.send_gateway_event(without)
        place.world.fault("ack_lost")
        waiting = asyncio.create_task(agent.send_gateway_event(frame))
        await until(lambda: len(answer_frames(place.world, "completed")) == 2)
    with pytest.raises(ConnectionLost, match="stopped"):
        await asyncio.wait_for(waiting, 5)


async def test_history_as_it_comes_and_page_by_page(place):
    agent = place.agent()
    for n in range(7):
        place.world.say("ann", str(n), group="garden", name="Ann")
    page = await agent.get_history("sg_garden", limit=4)
    assert [message.content["text"] for message in page] == [f"@bot {n}" for n in (3, 4, 5, 6)]
    assert {(message.role, message.sender_name) for message in page} == {("user", "Ann")}
    assert all(message.send_time.isdecimal() for message in page)
    earlier = await agent.get_history("sg_garden", 4, before_message_id=page[0].message_id)
    assert [message.content["text"] for message in earlier] == ["@bot 0", "@bot 1", "@bot 2"]
    place.world.fault("bare_history")
    (last,) = await agent.get_history("sg_garden", limit=1)
    assert (last.message_id, last.send_time) == ("", "")
    queries = [entry["query"] for entry in sent(place.world, "history")]
    assert queries[0] == {"conversation_id": "sg_garden", "limit": "4"}
    assert queries[1]["before_message_id"] == page[0].message_id
    await agent.close()


# ---------------------------------------------------------------------------- life


async def test_it_runs_once_at_a_time_and_may_run_again(place):
    agent = place.agent()
    for _ in range(2):
        async with place.running(agent):
            assert repr(agent) == f"<MitiAgent {agent.app_id}: runs>"
            with pytest.raises(RuntimeError, match="runs already"):
                await agent.run_async()
        assert place.world.miti.sockets == 0


async def test_close_from_another_loop(place):
    agent = place.agent()
    async with place.running(agent) as task:
        await asyncio.to_thread(lambda: asyncio.run(agent.close()))
        await asyncio.wait_for(task, 10)


async def test_close_inside_a_handler_lets_it_finish(place):
    agent, done = place.agent(), []

    @agent.on_message
    async def handle(event):
        await agent.close()
        await event.reply("bye")
        done.append(event)

    async with place.running(agent) as task:
        place.world.say("ann", "stop")
        await asyncio.wait_for(task, 10)
    assert done
    assert len(sent(place.world, "send")) == 1


async def test_close_when_the_programs_loop_has_gone(place):
    agent, kept = place.agent(), []

    def elsewhere():
        loop = asyncio.new_event_loop()
        task = loop.create_task(agent.run_async(register_signals=False))
        task._log_destroy_pending = False

        async def wait():
            await until(lambda: place.world.miti.sockets and len(asyncio.all_tasks()) == 2)

        loop.run_until_complete(wait())
        loop.close()
        kept.extend([task, agent._bot])

    await asyncio.to_thread(elsewhere)
    await agent.close()
    assert kept[1].status().state == "stopped"
    kept.clear()
    gc.collect()  # and the abandoned task ends without a word


async def test_the_first_token_is_tried_for_again(place):
    clock = FakeClock()
    agent = place.agent(clock=clock)
    place.world.fault("http", status=503, where="token")
    task = asyncio.create_task(agent.run_async(register_signals=False))
    await pass_until(clock, lambda: place.world.miti.sockets == 1, limit=9)
    assert [entry["status"] for entry in sent(place.world, "token")] == [503, 200]
    await agent.close()
    await asyncio.wait_for(task, 10)


@pytest.mark.parametrize("wrong", [{"app_id": "cli_other"}, {"app_secret": "wrong"}])
async def test_wrong_credentials(place, wrong):
    agent = place.agent(**wrong)
    with pytest.raises(AuthError) as caught:
        await agent.run_async(register_signals=False)
    assert caught.value.code in (10001, 10002)
    assert repr(agent).endswith("does not run>")
    with pytest.raises(AuthError):
        await agent.send_message(to_user_id="ann", content={"text": "x"})
    await agent.close()


def test_no_credentials_at_all(monkeypatch, tmp_path):
    monkeypatch.setenv("BOTBOOK_PROFILES", str(tmp_path / "none.toml"))
    agent = MitiAgent("", "", "http://localhost:1/chat", store=tmp_path / "journal.sqlite")
    with pytest.raises(Exception, match="an app id and an app secret"):
        agent.run()
    assert repr(agent).endswith("does not run>")


async def test_an_agent_that_nobody_holds_lets_go_of_its_connections(place):
    agent = place.agent()
    await agent.send_message(to_user_id="ann", content={"text": "x"})
    bot, held = agent._bot, weakref.ref(agent)
    assert bot._connection.parts.http._session is not None
    del agent
    await asyncio.to_thread(gc.collect)
    assert held() is None
    assert bot._connection.parts.http._session is None


async def test_an_agent_that_ran_is_not_held_either(place):
    agent = place.agent()
    agent.on_message(print)
    async with place.running(agent):
        pass
    held = weakref.ref(agent)
    del agent
    await asyncio.sleep(0)
    gc.collect()
    handler_loop()
    assert held() is None


def test_logging_twice_is_one_handler(capsys):
    logger = logging.getLogger("botbook")
    before, level = list(logger.handlers), logger.level
    try:
        enable_logging()
        enable_logging(logging.DEBUG, fmt="SDK %(message)s")
        assert len(logger.handlers) == len(before) + 1
        logger.debug("once")
        assert capsys.readouterr().err.count("SDK once") == 1
    finally:
        for handler in [handler for handler in logger.handlers if handler not in before]:
            logger.removeHandler(handler)
        logger.setLevel(level)
