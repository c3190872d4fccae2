"""Errors that are ours and, for programs written for the Miti SDK, of the type they catch."""

from __future__ import annotations

from botbook._errors import ApiError, DeadlineExceeded

__all__ = ["AckTimeout", "BackpressureError", "FrameRefused"]


class BackpressureError(RuntimeError):
    """Kept for programs that catch it; never raised, since nothing is turned away here."""


class FrameRefused(ApiError, RuntimeError):
    """The gateway acknowledged a frame with an error."""


class AckTimeout(DeadlineExceeded, TimeoutError):
    """A frame was never acknowledged, however often it was said."""
