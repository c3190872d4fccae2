"""A Miti gateway with as little in it as can be, in a process of its own.

Prints its port. For each socket that opens it writes the events of the case, then waits. Replies are
stamped on arrival, so that latencies of all clients are taken on one clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

from aiohttp import WSMsgType, web


def event(number: int, chats: int) -> str:
    user = f"u{number % chats}"
    now = str(int(time.time() * 1000))
    return json.dumps(
        {
            "schema": "1.0",
            "header": {
                "event_id": f"ev-{number}",
                "event_type": "im.message.receive",
                "app_id": "cli_bench",
                "create_time": now,
            },
            "event": {
                "sender": {"user_id": user, "name": ""},
                "message": {
                    "message_id": f"m-{number}",
                    "conversation_id": f"si_bot_{user}",
                    "session_type": "single",
                    "msg_type": "text",
                    "content": {"text": f"message number {number} of a benchmark"},
                    "send_time": now,
                },
            },
        }
    )


class Bench:
    def __init__(self, count: int, chats: int, after: str) -> None:
        self.frames = [event(n, chats) for n in range(count)]
        self.after = after
        self.written_at = 0.0
        self.replies: list[tuple[float, str]] = []
        self.handshakes: list[float] = []

    async def token(self, request: web.Request) -> web.Response:
        return web.json_response({"errCode": 0, "data": {"token": "bench-token", "expires_in": 7200}})

    async def send(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.replies.append((time.perf_counter(), body.get("to_user_id", "")))
        data = {"message_id": f"r{len(self.replies)}", "server_time": str(int(time.time() * 1000))}
        return web.json_response({"errCode": 0, "data": data})

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        self.handshakes.append(time.perf_counter())
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        if self.after == "close":
            await socket.close(code=1000)
            return socket
        self.written_at = time.perf_counter()
        for frame in self.frames:
            await socket.send_str(frame)
        if self.after == "drop":
            await asyncio.sleep(6)
            request.transport.abort()
            return socket
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                break
        return socket

    async def report(self, request: web.Request) -> web.Response:
        latencies = [at - self.written_at for at, _ in self.replies]
        return web.json_response({"latencies": latencies, "handshakes": self.handshakes})


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--chats", type=int, default=100)
    parser.add_argument("--after", choices=["wait", "close", "drop"], default="wait")
    parser.add_argument("--seconds", type=float, default=120.0)
    given = parser.parse_args()
    bench = Bench(given.count, given.chats, given.after)
    app = web.Application()
    app.router.add_post("/chat/agent/v1/auth/token", bench.token)
    app.router.add_post("/chat/agent/v1/messages/send", bench.send)
    app.router.add_get("/chat/agent/gateway", bench.socket)
    app.router.add_get("/report", bench.report)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.sleep(given.seconds)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
