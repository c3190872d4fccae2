"""Talk to handlers without a gateway, as tests do.

    with botbook.testing.conversation(handler) as c:
        c.user("hi")
        assert "hello" in c.reply()

`replay` plays a whole record through handlers instead. Nothing is sent, sleeps take no time, and time
and chance are the same at every run. For pytest, ``pytest_plugins = ["botbook.testing.plugin"]`` gives
the fixture ``conversation``.
"""

from __future__ import annotations

from botbook.testing.notebook import notebook_handlers
from botbook.testing.talk import Conversation, Turn, conversation, replay

__all__ = ["Conversation", "Turn", "conversation", "notebook_handlers", "replay"]
