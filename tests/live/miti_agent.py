"""An agent on the official Miti SDK, run by ``test_miti_sdk.py`` in an environment of its own.

Reads its settings as one JSON line, then says on its standard output, a JSON line each, what it saw.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from miti_agent_sdk import MitiAgent


def say(what: str, **details) -> None:
    print(json.dumps({"what": what, **details}), flush=True)


async def stream(event, text: str, stopped: asyncio.Event) -> None:
    """Answer over the socket; wait to be stopped when the user asks for something long."""
    run = {"run_id": f"run-{event.event.message.message_id}", "assistant_msg_id": "answer-1"}
    await event.reply_started(**run)
    await event.reply_delta("thinking", seq=1, event="reasoning_delta", **run)
    await event.reply_delta("Good ", seq=2, **run)
    if "long" in text:
        say("streaming")
        await stopped.wait()
        await event.reply_failed(seq=3, error_code="cancelled", message="stopped by the user", **run)
    else:
        await event.reply_delta("day", seq=3, is_completed=True, **run)
        await event.reply_completed("Good day", seq=4, reasoning="thinking", **run)
    say("acknowledged", run_id=run["run_id"])


async def main() -> None:
    settings = json.loads(sys.stdin.readline())
    agent = MitiAgent(settings["app_id"], settings["app_secret"], base_url=settings["base_url"])
    stopped = asyncio.Event()

    async def answer(event) -> None:
        text = event.event.message.content["text"]
        if settings["streamed"]:
            await stream(event, text, stopped)
            return
        sent = await event.reply(f"re: {text}")
        message = event.event.message
        history = await agent.get_history(message.conversation_id, limit=3)
        said = [[item.role, item.content] for item in history]
        say("answered", text=text, event_id=event.header.event_id, sent=sent, history=said)

    agent.on_message(answer)
    agent.on_group_at(answer)
    if settings["streamed"]:

        @agent.on_cancel
        async def cancelled(event) -> None:
            say("cancelled", run_id=event.event.run_id, ask_msg_id=event.event.ask_msg_id)
            stopped.set()

    running = asyncio.create_task(agent.run_async(register_signals=False))
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    say("done", running=not running.done())
    # The SDK swallows cancellation (protocols/miti.md 10, defect 15).
    os._exit(0)


asyncio.run(main())
