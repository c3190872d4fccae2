"""Record what a real LangBot says, for the tests beside this file.

    python record.py INFO.json OUT.jsonl

INFO.json names a prepared server: base_url, user, password, token, api_key, workspace_uuid,
pipeline_uuid, page_bot_uuid, wecom_bot_uuid. Its model answers "You said: …" and knows the words
boom (fails), slow, long and think. One line of OUT is one fact:

    {"case", "dir": "open",    "path", "origin"}         an upgrade that was tried
    {"case", "dir": "refused", "status"}                 and refused
    {"case", "dir": "out"|"in", "frame"}                 one frame, in the order seen
    {"case", "dir": "close",   "code", "reason"}         how it ended
    {"case", "dir": "rest", "method", "path", "auth", "status", "type", "body"}

Secrets and places of the machine are replaced before anything is written.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
import uuid
import zlib
from pathlib import Path
from typing import Any

import aiohttp

QUIET_S = 1.2
SLOW_S = 3.4
PLAIN = "Plain"


def png() -> bytes:
    """A picture of one dot."""

    def part(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = part(b"IHDR", b"\0\0\0\1\0\0\0\1\x08\0\0\0\0")
    return b"\x89PNG\r\n\x1a\n" + head + part(b"IDAT", zlib.compress(b"\0\x80")) + part(b"IEND", b"")


def says(text: str, **more: Any) -> str:
    return json.dumps({"type": "message", "message": [{"type": PLAIN, "text": text}], **more})


class Recorder:
    """Drives one server and keeps what it says."""

    def __init__(self, info: dict[str, Any], out: Path, http: aiohttp.ClientSession) -> None:
        self.info, self.http, self.rows, self.out = info, http, [], out
        self.base = info["base_url"]
        home = re.escape(info.get("home", "/nowhere"))
        self.hidden = [
            (re.compile(re.escape(info["token"])), "<token>"),
            (re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+"), "<token>"),
            (re.compile(r"lbk_[\w-]+"), "<api-key>"),
            (re.compile(home), "/srv/langbot"),
            (
                re.compile(r'(Token|Secret|EncodingAESKey|access-token|\w+_secret)(\\*": ?\\*")[^"\\]+'),
                r"\1\2<secret>",
            ),
            (re.compile(r"/usr/(local/)?lib/python3\.\d+"), "/usr/lib/python3"),
        ]

    def keep(self, case: str, way: str, **fact: Any) -> None:
        line = json.dumps({"case": case, "dir": way, **fact}, ensure_ascii=False)
        for pattern, word in self.hidden:
            line = pattern.sub(word, line)
        self.rows.append(line)

    # --- sockets ---------------------------------------------------------------------------------

    def hello(self) -> str:
        return json.dumps(
            {
                "type": "authenticate",
                "token": self.info["token"],
                "workspace_uuid": self.info.get("workspace_uuid") or "",
            }
        )

    async def socket(
        self,
        case: str,
        *frames: str | float,
        session: str = "person",
        path: str = "",
        origin: str = "http://127.0.0.1",
        first: str | None = None,
        quiet: float = QUIET_S,
    ) -> None:
        path = path or f"/api/v1/pipelines/{self.info['pipeline_uuid']}/ws/connect?session_type={session}"
        self.keep(case, "open", path=path, origin=origin)
        url = self.base.replace("http", "ws", 1) + path
        try:
            async with self.http.ws_connect(url, origin=origin or None) as ws:
                reader = asyncio.create_task(self.pump(case, ws))
                first = self.hello() if first is None else first
                for frame in ([first] if first else []) + list(frames):
                    if isinstance(frame, float):
                        await asyncio.sleep(frame)
                    elif not ws.closed:
                        self.keep(case, "out", frame=frame)
                        await ws.send_str(frame)
                        await asyncio.sleep(0.4)
                await self.settle(reader, quiet)
        except aiohttp.WSServerHandshakeError as error:
            self.keep(case, "refused", status=error.status)

    async def pump(self, case: str, ws: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            got = await ws.receive()
            self.last = time.monotonic()
            if got.type is not aiohttp.WSMsgType.TEXT:
                self.keep(case, "close", code=ws.close_code, reason=str(got.extra or ""))
                return
            self.keep(case, "in", frame=got.data)

    async def settle(self, reader: asyncio.Task[None], quiet: float) -> None:
        self.last = time.monotonic()
        while not reader.done() and time.monotonic() - self.last < quiet:
            await asyncio.sleep(0.05)
        reader.cancel()

    # --- REST ------------------------------------------------------------------------------------

    async def rest(
        self, case: str, method: str, path: str, body: Any = None, *, auth: str = "token", **options: Any
    ) -> Any:
        headers = {
            "token": {"Authorization": f"Bearer {self.info['token']}"},
            "api_key": {"X-API-Key": self.info["api_key"]},
            "bad": {"Authorization": "Bearer nonsense"},
            "none": {},
        }[auth]
        async with self.http.request(
            method, self.base + path, json=body, headers=headers, **options
        ) as answer:
            text = await answer.text()
            kind = answer.headers.get("Content-Type", "").partition(";")[0]
            if kind == "text/html":
                text = text[:400]
            sent = {} if body is None else {"sent": body}
            self.keep(
                case,
                "rest",
                method=method,
                path=path,
                auth=auth,
                **sent,
                status=answer.status,
                type=kind,
                body=text,
            )
        try:
            return json.loads(text).get("data")
        except (ValueError, AttributeError):
            return None

    async def upload(self, case: str, path: str, name: str, data: bytes) -> Any:
        form = aiohttp.FormData()
        form.add_field("file", data, filename=name)
        return await self.rest(case, "POST", path, data=form)

    # --- the cases -------------------------------------------------------------------------------

    async def chats(self) -> None:
        await self.socket("short", says("hello there my friend"), json.dumps({"type": "ping"}))
        await self.socket(
            "slow", says("slow one two three four five six seven eight nine ten eleven twelve"), quiet=SLOW_S
        )
        await self.socket("long", says("long"))
        await self.socket("failing", says("boom"), says("after the failure"))
        await self.socket("think", says("think about it"))
        await self.socket("whole", says("slow and all at once one two three four five", stream=False))
        await self.socket("command", says("!version"))
        await self.socket(
            "queue",
            says("slow first a b c d e f g h i j"),
            says("slow second k l m n o p q r s t"),
            quiet=SLOW_S,
        )
        await self.socket("left", says("slow and gone a b c d e f g h i j k l m"), quiet=0.1)
        await self.socket("after-left", says("I came later"), quiet=SLOW_S)
        await asyncio.gather(
            self.socket("others-a", 1.0, says("slow from a one two three four five six seven"), quiet=SLOW_S),
            self.socket("others-b", 1.5, says("slow from b one two three four five six seven"), quiet=SLOW_S),
        )
        await self.socket(
            "group",
            says("nobody is asked"),
            says("ai hello group"),
            json.dumps(
                {
                    "type": "message",
                    "message": [
                        {"type": "At", "target": "websocketbot"},
                        {"type": PLAIN, "text": " hello bot"},
                    ],
                }
            ),
            session="group",
            quiet=2.5,
        )
        await self.socket("disconnect", json.dumps({"type": "disconnect"}))

    async def oddities(self) -> None:
        await self.socket("bad-json", "{nope", json.dumps({"type": "sing"}), json.dumps({"type": "ping"}))
        await self.socket("array", "[1,2]", says("still here?"))
        await self.socket("odd-message", json.dumps({"type": "message", "message": "text"}))
        await self.socket(
            "unknown-component", json.dumps({"type": "message", "message": [{"type": "Waltz", "a": 1}]})
        )
        await self.socket("no-origin", origin="")
        nowhere = f"/api/v1/pipelines/{uuid.uuid4()}/ws/connect?session_type=person"
        await self.socket("wrong-pipeline", says("anybody?"), path=nowhere)
        wrong = f"/api/v1/pipelines/{self.info['pipeline_uuid']}/ws/connect?session_type=crowd"
        await self.socket("wrong-session", path=wrong)
        space = self.info.get("workspace_uuid") or ""
        for case, token in (("wrong-token", "nonsense"), ("api-key-as-token", self.info["api_key"])):
            hello = json.dumps({"type": "authenticate", "token": token, "workspace_uuid": space})
            await self.socket(case, first=hello)
        await self.socket(
            "no-workspace", first=json.dumps({"type": "authenticate", "token": self.info["token"]})
        )
        await self.socket("silent", first="", quiet=11.5)

    async def beside(self) -> None:
        base = f"/api/v1/pipelines/{self.info['pipeline_uuid']}/ws"
        listening = asyncio.create_task(self.socket("broadcast", 2.0))
        await asyncio.sleep(1.0)
        await self.rest("connections", "GET", f"{base}/connections")
        for message in ("hello all", {"any": ["json", 1]}):
            await self.rest("broadcast", "POST", f"{base}/broadcast", {"message": message})
        await listening
        key = (await self.upload("upload", "/api/v1/files/images", "dot.png", png()) or {}).get("file_key")
        picture = [{"type": "Image", "path": key}, {"type": PLAIN, "text": "what is this"}]
        await self.socket("image", json.dumps({"type": "message", "message": picture}))
        paper = (
            await self.upload("upload-document", "/api/v1/files/documents", "note.txt", b"cats like milk")
            or {}
        ).get("file_id")
        file = [{"type": "File", "name": "note.txt", "path": paper}, {"type": PLAIN, "text": "read this"}]
        await self.socket("file", json.dumps({"type": "message", "message": file}))
        await self.upload("upload-refused", "/api/v1/files/images", "dot.exe", png())
        for session in ("person", "group", "crowd"):
            await self.rest("history", "GET", f"{base}/messages/{session}")
        await self.rest("history", "GET", f"{base}/messages/person", auth="api_key")
        await self.rest("reset", "POST", f"{base}/reset/person")
        await self.rest("history-after-reset", "GET", f"{base}/messages/person")
        await self.socket("after-reset", says("hello again"))
        pipeline = self.info["pipeline_uuid"]
        await self.rest("run", "POST", f"/api/v1/pipelines/{pipeline}/run", {"message": "hello run"})
        await self.rest("pipelines", "GET", "/api/v1/pipelines?sort_by=created_at&sort_order=DESC")
        await self.rest("pipeline-unknown", "GET", f"/api/v1/pipelines/{uuid.uuid4()}")

    async def embed(self) -> None:
        bot, visitor = self.info["page_bot_uuid"], str(uuid.uuid4())
        path = f"/api/v1/embed/{bot}/ws/connect?session_type=person&session_id={visitor}"
        first = json.dumps({"type": "authenticate", "token": ""})
        await self.socket("embed", says("hello from the page"), path=path, first=first)
        bad = f"/api/v1/embed/{bot}/ws/connect?session_type=person&session_id=7"
        await self.socket("embed-wrong-session", path=bad, first=first)
        await self.rest(
            "embed-history", "GET", f"/api/v1/embed/{bot}/messages/person?session_id={visitor}", auth="none"
        )
        for kind in (1, 2, 3, 9):
            body = {"message_id": 2, "feedback_type": kind}
            await self.rest("embed-feedback", "POST", f"/api/v1/embed/{bot}/feedback", body, auth="none")

    async def accounts(self) -> None:
        who = {"user": self.info["user"], "password": self.info["password"]}
        await self.rest("login", "POST", "/api/v1/user/auth", who, auth="none")
        await self.rest(
            "login-refused", "POST", "/api/v1/user/auth", {**who, "password": "wrong"}, auth="none"
        )
        for auth in ("token", "api_key", "bad", "none"):
            await self.rest("check-token", "GET", "/api/v1/user/check-token", auth=auth)
        await self.rest("info", "GET", "/api/v1/system/info", auth="none")
        await self.rest("context", "GET", "/api/v1/system/context", auth="api_key")
        await self.rest("workspaces", "GET", "/api/v1/workspaces")
        await self.rest("unknown-path", "GET", "/api/v1/nothing/here")
        await self.rest("unknown-path", "POST", "/api/v1/nothing/here", {})
        await self.rest("page", "GET", "/nothing")

    async def monitoring(self) -> None:
        base = "/api/v1/monitoring"
        lists = [
            "messages",
            "llm-calls",
            "tool-calls",
            "embedding-calls",
            "sessions",
            "errors",
            "feedback",
            "executions",
        ]
        for name in lists:
            for auth in ("token", "api_key"):
                await self.rest(f"monitoring-{name}", "GET", f"{base}/{name}?limit=12", auth=auth)
        for name in ("overview", "data?limit=3", "feedback/stats", "token-statistics?bucket=hour"):
            await self.rest(f"monitoring-{name.partition('?')[0]}", "GET", f"{base}/{name}")
        await self.rest(
            "monitoring-zero", "GET", f"{base}/messages?limit=3&startTime=2020-01-01&endTime=2020-01-02"
        )
        await self.rest("monitoring-second-page", "GET", f"{base}/messages?limit=2&offset=2")
        window = "startTime=2025-01-01T00%3A00%3A00Z&endTime=2027-01-01T00%3A00%3A00Z"
        await self.rest("monitoring-too-long", "GET", f"{base}/messages?limit=2&{window}")
        await self.rest("monitoring-bad-time", "GET", f"{base}/messages?startTime=yesterday")
        rows = await self.rest("monitoring-messages", "GET", f"{base}/messages?limit=1")
        row = rows["messages"][0]
        await self.rest("monitoring-details", "GET", f"{base}/messages/{row['id']}/details")
        await self.rest("monitoring-details-unknown", "GET", f"{base}/messages/nope/details")
        session = row["session_id"].replace(":", "%3A")
        await self.rest("monitoring-analysis", "GET", f"{base}/sessions/{session}/analysis")
        await self.rest("monitoring-export", "GET", f"{base}/export?type=feedback&limit=5")

    async def resources(self) -> None:
        bots = await self.rest("bots", "GET", "/api/v1/platform/bots")
        for bot in ((bots or {}).get("bots") or [])[:2]:
            path = f"/api/v1/platform/bots/{bot['uuid']}/logs"
            await self.rest("bot-logs", "POST", path, {"from_index": -1, "max_count": 5})
        path = f"/api/v1/platform/bots/{uuid.uuid4()}/logs"
        await self.rest("bot-logs-unknown", "POST", path, {"from_index": -1, "max_count": 5})
        for name in ("status", "sessions", "errors"):
            await self.rest(f"box-{name}", "GET", f"/api/v1/box/{name}")
        await self.rest("extensions", "GET", "/api/v1/extensions")
        bases = await self.rest("knowledge", "GET", "/api/v1/knowledge/bases")
        for base in ((bases or {}).get("bases") or [])[:1]:
            await self.rest("knowledge-files", "GET", f"/api/v1/knowledge/bases/{base['uuid']}/files")
            for query in ("milk", ""):
                await self.rest(
                    "retrieve", "POST", f"/api/v1/knowledge/bases/{base['uuid']}/retrieve", {"query": query}
                )
        path = f"/api/v1/knowledge/bases/{uuid.uuid4()}/retrieve"
        await self.rest("retrieve-unknown", "POST", path, {"query": "milk"})

    async def run(self, only: str) -> None:
        for name in ("chats", "oddities", "beside", "embed", "accounts", "monitoring", "resources"):
            if not only or name in only.split(","):
                await getattr(self, name)()
                print(name, len(self.rows), flush=True)
        self.out.write_text("\n".join(self.rows) + "\n", encoding="utf-8")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("info", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    info = {"password": "Passw0rd!", "home": str(given.info.resolve().parent)} | json.loads(
        given.info.read_text()
    )
    async with aiohttp.ClientSession() as http:
        await Recorder(info, given.out, http).run(given.only)


if __name__ == "__main__":
    asyncio.run(main())
