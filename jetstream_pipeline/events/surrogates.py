"""Lone surrogates in JSON text. Strangers write them and the decoder refuses them: masked for it, kept for us."""

from __future__ import annotations

import re

import msgspec
import pyarrow as pa

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
"""An escape in JSON text: a pair of surrogates, a lone one (the group), or any other."""


def masked(text: bytes) -> bytes:
    """The text with U+FFFD for each lone surrogate, byte for byte in place."""
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], text)


def original(raw: msgspec.Raw, read: bytes, message: bytes) -> bytes:
    """The bytes of `message` that `raw`, a view into `read` (the message or its masked twin), was taken from."""
    text = bytes(raw)
    if read is message:
        return text
    start = pa.py_buffer(raw).address - pa.py_buffer(read).address
    return message[start : start + len(text)]


def masked_only_in(kept: bytes, read: bytes, message: bytes) -> bool:
    """Whether every masked place lies in the text that is kept as received."""
    return _differing(read, message) == _differing(masked(kept), kept)


def _differing(one: bytes, other: bytes) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))
