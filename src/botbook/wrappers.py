"""Wrappers around handlers: throttle, timeout, retry, log, require_mention, ignore_self, and your own.

@bot.on("message.received")
@wrappers.throttle(1, per=10, otherwise="One at a time, please.")
async def answer(event): ...
"""

from __future__ import annotations

from botbook._bus.wrappers import (
    Around,
    Proceed,
    ignore_self,
    log,
    require_mention,
    retry,
    throttle,
    timeout,
    wrapper,
)

__all__ = [
    "Around",
    "Proceed",
    "ignore_self",
    "log",
    "require_mention",
    "retry",
    "throttle",
    "timeout",
    "wrapper",
]
