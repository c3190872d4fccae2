"""The fixture for pytest: ``pytest_plugins = ["botbook.testing.plugin"]``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from botbook.testing.talk import Conversation
from botbook.testing.talk import conversation as begin

__all__ = ["conversation"]


@pytest.fixture
def conversation() -> Iterator[Callable[..., Conversation]]:
    """Begins conversations that end with the test: ``c = conversation(handler)``."""
    with ExitStack() as stack:

        def talk(*handlers: Any, **options: Any) -> Conversation:
            return stack.enter_context(begin(*handlers, **options))

        yield talk
