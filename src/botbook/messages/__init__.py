"""What a message is made of: a chain of components, with a text view and LangBot's JSON both ways.

What was read from JSON keeps that JSON beside its fields, so that writing it again gives back every
key, known or not (protocols/langbot.md 8).
"""

from __future__ import annotations

from botbook.messages.chain import Forward, MessageChain, Node, Quote
from botbook.messages.components import (
    At,
    AtAll,
    Component,
    Face,
    File,
    Image,
    Plain,
    Platform,
    Source,
    Unknown,
    Voice,
)

__all__ = [
    "At",
    "AtAll",
    "Component",
    "Face",
    "File",
    "Forward",
    "Image",
    "MessageChain",
    "Node",
    "Plain",
    "Platform",
    "Quote",
    "Source",
    "Unknown",
    "Voice",
]
