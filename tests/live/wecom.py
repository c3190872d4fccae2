"""The WeCom side of a LangBot bot in webhook mode: it asks, and rates the answer it got.

Messages are sealed as WeCom seals them: AES-256-CBC over 16 random bytes, the length, the text, padded to 32
bytes, and signed with SHA-1 over the sorted token, time, nonce and cipher text. It is the one way to make
whole rating rows on a real server without an account of a chat platform (protocols/langbot.md 6).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import struct
import time
import uuid
from typing import Any

import aiohttp

__all__ = ["WeCom"]

BLOCK = 32


class WeCom:
    """One user who asks once and changes their mind about the answer.

    Args:
        base_url: Of the LangBot server.
        bot: Uuid of its WeCom bot.
        config: The bot's ``adapter_config``.
        user: Who asks.
    """

    def __init__(self, base_url: str, bot: str, config: dict[str, Any], *, user: str) -> None:
        self.url = f"{base_url}/bots/{bot}"
        self.token = config["Token"]
        self.key = base64.b64decode(config["EncodingAESKey"] + "=")
        self.user = user
        self.feedback_id = ""

    async def ask(self, text: str) -> None:
        """Ask, and wait for the whole answer."""
        step = await self._post(msgtype="text", text={"content": text})
        self.feedback_id = step["stream"].get("feedback", {}).get("id", "")
        for _ in range(60):
            if step["stream"].get("finish"):
                return
            await asyncio.sleep(0.25)
            step = await self._post(msgtype="stream", stream={"id": step["stream"]["id"]})
            self.feedback_id = self.feedback_id or step["stream"].get("feedback", {}).get("id", "")
        raise AssertionError("the answer has no end")

    async def rate(self, kind: int) -> None:
        """Rate the answer: 1 like, 2 dislike with reasons, 3 cancel."""
        rating: dict[str, Any] = {"id": self.feedback_id, "type": kind}
        if kind == 2:
            rating |= {"content": "not what I asked", "inaccurate_reason_list": [2, 4]}
        event = {"eventtype": "feedback_event", "feedback_event": rating}
        await self._post(msgtype="event", create_time=int(time.time()), event=event)

    async def _post(self, **said: Any) -> dict[str, Any]:
        body = {
            "msgid": uuid.uuid4().hex,
            "aibotid": "lab",
            "chattype": "single",
            "from": {"userid": self.user},
            **said,
        }
        sealed, stamp, nonce = self._seal(json.dumps(body)), str(int(time.time())), secrets.token_hex(5)
        signature = hashlib.sha1("".join(sorted([self.token, stamp, nonce, sealed])).encode()).hexdigest()
        query = {"msg_signature": signature, "timestamp": stamp, "nonce": nonce}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.url, params=query, json={"encrypt": sealed}) as answer,
        ):
            text = await answer.text()
        try:
            return json.loads(self._unseal(json.loads(text)["encrypt"]))
        except (ValueError, KeyError, TypeError):
            return {}

    def _cipher(self) -> Any:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        return Cipher(algorithms.AES(self.key), modes.CBC(self.key[:16]))

    def _seal(self, text: str) -> str:
        data = text.encode()
        plain = secrets.token_bytes(16) + struct.pack(">I", len(data)) + data
        fill = BLOCK - len(plain) % BLOCK
        writer = self._cipher().encryptor()
        return base64.b64encode(writer.update(plain + bytes([fill]) * fill) + writer.finalize()).decode()

    def _unseal(self, text: str) -> str:
        reader = self._cipher().decryptor()
        plain = reader.update(base64.b64decode(text)) + reader.finalize()
        (length,) = struct.unpack(">I", plain[16:20])
        return plain[20 : 20 + length].decode()
