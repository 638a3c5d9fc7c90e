"""Whether DAG-CBOR may be handed to a decoder: how deep it nests and how much it claims to hold, before that is built.

A decoder makes room for as many values as a list says that it has: lists that nest and all say so would take memory
without bound. Whether the bytes are DAG-CBOR at all is the decoder's to say.
"""

from __future__ import annotations

MAX_DEPTH = 512
"""Levels of lists and maps. A server itself reads 128."""
MAX_VALUES = 1 << 20

_SURE_BYTES = 16 * 1024
"""What fits in here cannot claim much."""
_HEADS = bytes(range(0x80, 0xC0))
"""Among these is the first byte of every list and map."""
_TEXT_LIKE, _LIST, _MAP, _TAG = (2, 3), 4, 5, 6
_SHORT = 24


def check_shape(payload: bytes) -> None:
    """ValueError where one DAG-CBOR value nests deeper than `MAX_DEPTH`, or claims more values than it has bytes, or
    than `MAX_VALUES`."""
    size = len(payload)
    if size <= MAX_DEPTH:
        return
    if size <= _SURE_BYTES and size - len(payload.translate(None, _HEADS)) <= MAX_DEPTH:
        return
    try:
        _walk(payload)
    except IndexError:
        return


def _walk(payload: bytes) -> None:
    """Go through the values from head to head. IndexError where the bytes end before they do."""
    room = min(len(payload), MAX_VALUES)
    missing = [1]
    """How many values each open list or map still lacks."""
    place = 0
    while missing:
        if not missing[-1]:
            missing.pop()
            continue
        missing[-1] -= 1
        major, count = payload[place] >> 5, payload[place] & 31
        place += 1
        if count >= _SHORT:
            width = 1 << (count - _SHORT)
            count = int.from_bytes(payload[place : place + width], "big")
            place += width
        if major in _TEXT_LIKE:
            place += count
        elif major == _TAG:
            missing[-1] += 1
        elif major in (_LIST, _MAP):
            count *= major - _LIST + 1
            room -= count
            if room < 0:
                raise ValueError("more values than fit into it")
            if len(missing) > MAX_DEPTH:
                raise ValueError("nested too deeply")
            missing.append(count)
