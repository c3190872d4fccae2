"""A backend made of nothing, a raw control connection, and a runtime for a test."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator

import aiohttp

from botbook._errors import SandboxError
from botbook._local.backends.base import PROTECTIONS, Protection, Report
from botbook._local.box_server import BoxServer
from botbook._local.policy import Policy, Rules
from botbook._local.runtime import BoxRuntime

TOKEN = "a-token-of-the-tests"
CONTEXT = {"instance_uuid": "i", "workspace_uuid": "w", "placement_generation": 1}


class FakeChild:
    """Ends when it is told to, with what it is told."""

    def __init__(self, command) -> None:
        loop = asyncio.get_running_loop()
        self.command = command
        self.stdin = FakeWriter() if command.stdin else None
        self.stdout, self.stderr = asyncio.StreamReader(), asyncio.StreamReader()
        self.out_of_memory = False
        self.killed = self.terminated = self.closed = False
        self._code = loop.create_future()

    def end(self, code: int = 0, out: bytes = b"", err: bytes = b"") -> None:
        for stream, data in ((self.stdout, out), (self.stderr, err)):
            stream.feed_data(data)
            stream.feed_eof()
        if not self._code.done():
            self._code.set_result(code)

    def fail(self, error: Exception) -> None:
        self._code.set_exception(error)

    async def wait(self) -> int:
        return await asyncio.shield(self._code)

    def terminate(self) -> None:
        self.terminated = True

    async def kill(self) -> None:
        if not self._code.done():
            self.killed = True
            self.end(137)

    def close(self) -> None:
        self.closed = True


class FakeWriter:
    def __init__(self) -> None:
        self.data, self.closed = b"", False

    def write(self, data: bytes) -> None:
        self.data += data

    async def drain(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class FakeCell:
    def __init__(self, backend, plan) -> None:
        self.id, self.plan, self.watched = f"fake-{plan.name}", plan, ()
        self.ended = asyncio.Event()
        self.children: list[FakeChild] = []
        self.mounted = []
        self._backend = backend

    async def run(self, command) -> FakeChild:
        child = FakeChild(command)
        self.children.append(child)
        if (answer := self._backend.answers.get(command.argv[-1])) is not None:
            child.end(*answer)
        return child

    async def mount(self, mount) -> None:
        if self._backend.no_mounts:
            raise SandboxError("no", code="BoxValidationError")
        self.mounted.append(mount)

    async def close(self) -> None:
        self.ended.set()
        for child in self.children:
            await child.kill()


class FakeBackend:
    """Commands end at once if `answers` knows them, by (code, stdout, stderr); else when a test says so."""

    name = "fake"

    def __init__(self, *, available: bool = True) -> None:
        self.available, self.no_mounts = available, False
        self.cells: dict[str, FakeCell] = {}
        self.answers = {"true": (0, b"", b""), "echo": (0, b" out\n", b"err\n")}
        self.slow: dict[str, asyncio.Event] = {}
        self.broken: set[str] = set()
        self.closed = False

    async def probe(self) -> Report:
        protections = tuple(Protection(name, True, "said so") for name in PROTECTIONS)
        reason = "" if self.available else "there is no kernel"
        return Report(backend=self.name, available=self.available, reason=reason, protections=protections)

    async def open(self, plan) -> FakeCell:
        session = plan.spec.session_id
        if (gate := self.slow.get(session)) is not None:
            await gate.wait()
        if session in self.broken:
            raise SandboxError("it broke")
        cell = self.cells[session] = FakeCell(self, plan)
        return cell

    async def close(self) -> None:
        self.closed = True


class Raw:
    """One control connection, frame by frame."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self._seq = itertools.count(1)
        self._kept: dict[object, dict] = {}
        self.others: list[dict] = []

    async def send(self, action: str, data: dict | None = None, **more) -> int:
        seq = next(self._seq)
        await self.socket.send_str(json.dumps({"seq_id": seq, "action": action, "data": data or {}, **more}))
        return seq

    async def reply(self, seq: object) -> dict:
        while seq not in self._kept:
            message = json.loads(await self.socket.receive_str(timeout=20))
            if "code" in message:
                self._kept[message["seq_id"]] = message
            else:
                self.others.append(message)
        return self._kept.pop(seq)

    async def call(self, action: str, data: dict | None = None, **more) -> dict:
        return await self.reply(await self.send(action, data, **more))

    async def data(self, action: str, data: dict | None = None, **more) -> dict:
        reply = await self.call(action, data, **more)
        assert reply["code"] == 0, reply
        return reply["data"]

    async def error(self, action: str, data: dict | None = None, **more) -> str:
        reply = await self.call(action, data, **more)
        assert (reply["code"], reply["data"], reply["chunk_status"]) == (1, {}, "continue")
        return reply["message"]


class Served:
    """A runtime that listens."""

    def __init__(self, server: BoxServer, url: str, http: aiohttp.ClientSession) -> None:
        self.server, self.url, self.http = server, url, http
        self.runtime = server.runtime

    @property
    def base(self) -> str:
        return self.url.removesuffix("/rpc/ws")

    @contextlib.asynccontextmanager
    async def raw(self, token: str = TOKEN, **headers: str) -> AsyncIterator[Raw]:
        sent = {"X-LangBot-Box-Control-Token": token, **headers}
        async with self.http.ws_connect(self.url, headers=sent, max_msg_size=0) as socket:
            yield Raw(socket)


@contextlib.asynccontextmanager
async def served(
    backend, *, rules: Rules | None = None, policy: Policy | None = None, **more
) -> AsyncIterator[Served]:
    runtime = BoxRuntime(backend, policy or Policy({TOKEN: rules or Rules()}), **more)
    server = BoxServer(runtime)
    url = await server.listen()
    async with aiohttp.ClientSession() as http:
        try:
            yield Served(server, url, http)
        finally:
            await server.close()
