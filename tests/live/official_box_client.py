"""The vendor's own client, unchanged, put through its list; runs in the vendor's environment.

Argument: JSON with url, relay, headers and whether to send a context. Prints JSON: what came of each step.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys

import websockets
from langbot_plugin.box.client import ActionRPCBoxClient
from langbot_plugin.box.models import BoxManagedProcessSpec, BoxSpec
from langbot_plugin.runtime.io.controllers.ws.client import WebSocketClientController
from langbot_plugin.runtime.io.handler import Handler


class Run:
    """One run over one connection."""

    def __init__(self, settings: dict) -> None:
        self.settings, self.steps = settings, {}
        self.client = ActionRPCBoxClient(logging.getLogger("box"))
        self.more = {}
        if settings["context"]:
            from langbot_plugin.entities.io.context import ActionContext

            self.more = {"action_context": ActionContext(instance_uuid="inst-1", workspace_uuid="ws-1")}

    async def step(self, name: str, work) -> None:
        try:
            self.steps[name] = plain(await work)
        except Exception as error:
            self.steps[name] = {"error": type(error).__name__, "text": str(error)[:300]}

    async def all(self) -> None:
        client, more = self.client, self.more
        await client.initialize()
        await self.step("backend", client.get_backend_info())
        await self.step("init", client.init({"backend": "local", "local": {"profile": "default"}}))
        spec = {"session_id": "official", "read_only_rootfs": False}

        def run(cmd: str, **change):
            return client.execute(BoxSpec(**{**spec, "cmd": cmd, **change}), **more)

        await self.step("create", client.create_session(BoxSpec(**spec), **more))
        await self.step("exec", run("echo out; echo err >&2; exit 3"))
        await self.step("env", run("echo $A; pwd; ls", env={"A": "a b"}, workdir="/tmp"))
        await self.step("stays", run("echo kept > kept"))
        await self.step("stayed", run("cat kept"))
        await self.step("large", run("head -c 900000 /dev/zero | tr '\\0' a"))
        await self.step("larger", run("head -c 3000000 /dev/zero | tr '\\0' a"))
        await self.step("long", run("echo " + "y" * 60_000))
        await self.step("cut", run(": " + "y" * 90_000 + "\necho after"))
        await self.step("timeout", run("echo started; sleep 20", timeout_sec=1))
        await self.step("after timeout", run("echo alive"))
        await self.step("conflict", client.create_session(BoxSpec(**spec, memory_mb=64), **more))
        await self.step("empty", run(" "))
        await self.step("blocked", run("true", session_id="other", host_path="/etc"))
        await self.step("missing", client.get_session("nowhere", **more))
        await self.step("status", client.get_status(**more))
        await self.step("sessions", client.get_sessions(**more))
        process = BoxManagedProcessSpec(process_id="echo", command="cat", args=["-u"], env={"K": "secret"})
        await self.step("no process", client.get_managed_process("official", "echo", **more))
        await self.step("start", client.start_managed_process("official", process, **more))
        await self.step("relay", self.relay())
        await self.step("process", client.get_managed_process("official", "echo", **more))
        await self.step("stop", client.stop_managed_process("official", "echo", **more))
        await self.step("stopped", client.get_managed_process("official", "echo", **more))
        await self.step("delete", client.delete_session("official", **more))
        await self.step("deleted", client.get_session("official", **more))
        await self.step("shutdown", client.shutdown())

    async def relay(self) -> list[str]:
        url = self.client.get_managed_process_websocket_url(
            "official", self.settings["relay"], "echo", **self.more
        )
        headers = {"additional_headers": self.settings["headers"]} if self.settings["headers"] else {}
        async with websockets.connect(url, proxy=None, **headers) as socket:
            await socket.send("one")
            await socket.send("two\nthree")
            await socket.send("x" * 200_000)
            text = ""
            while len(text.replace("\n", "")) < 200_011:
                text += await asyncio.wait_for(socket.recv(), 10)
            return [part if len(part) < 100 else f"{len(part)}" for part in text.split("\n") if part]


def plain(value):
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    text = json.dumps(value, default=str)
    if len(text) > 5000 and isinstance(value, dict):
        return {key: short(item) for key, item in value.items()}
    return value


def short(item):
    """Long text by its length."""
    return len(item) if isinstance(item, str) and len(item) > 1000 else item


async def main() -> dict:
    """Connect, run, disconnect."""
    run = Run(json.loads(sys.argv[1]))

    async def failed(_, error) -> None:
        run.steps["connection"] = repr(error)

    async def connected(connection) -> None:
        handler = type("Plain", (Handler,), {})(connection)
        run.client.set_handler(handler)
        task = asyncio.create_task(handler.run())
        try:
            await run.all()
        finally:
            task.cancel()

    headers = run.settings["headers"]
    more = {"additional_headers": headers} if headers else {}
    await WebSocketClientController(run.settings["url"], failed, **more).run(connected)
    return run.steps


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))
