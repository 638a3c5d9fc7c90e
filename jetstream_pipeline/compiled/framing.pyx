# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Plain frames of RFC 6455 found one after the other, without the interpreter's lock."""

import numpy as np

from libc.stdint cimport int64_t, uint8_t

cdef enum:
    TEXT = 0x81
    BINARY = 0x82
    SHORT = 126
    LONG = 127


cdef inline int64_t header_size(const uint8_t *at, int64_t left, int64_t *length) noexcept nogil:
    """The bytes of a plain frame's header, and how long its payload is; 0 where there is no such header."""
    cdef int i
    if left < 2 or (at[0] != TEXT and at[0] != BINARY) or at[1] > LONG:
        return 0
    if at[1] < SHORT:
        length[0] = at[1]
        return 2
    if at[1] == SHORT:
        length[0] = (at[2] << 8) | at[3] if left >= 4 else -1
        return 4 if left >= 4 else 0
    if left < 10 or at[2] >= 0x80:
        return 0
    length[0] = 0
    for i in range(2, 10):
        length[0] = (length[0] << 8) | at[i]
    return 10


def plain_frames(uint8_t[::1] memory, Py_ssize_t at, Py_ssize_t end, int64_t most, uint8_t blank):
    """Where the payloads of the whole plain frames from `at` on start and end, as far as nothing else comes and none
    has more than `most` bytes. Each header becomes blanks. IndexError where that does not lie in memory."""
    cdef Py_ssize_t count = 0, row, place = at, i
    cdef int64_t size, length = 0
    if at < 0 or end < at or end > memory.shape[0]:
        raise IndexError("frames that do not lie in memory")
    with nogil:
        while place < end:
            size = header_size(&memory[place], end - place, &length)
            if size == 0 or length > most or length > end - place - size:
                break
            place += size + length
            count += 1
    starts, ends = np.empty(count, np.int64), np.empty(count, np.int64)
    cdef int64_t[::1] payload_starts = starts, payload_ends = ends
    place = at
    with nogil:
        for row in range(count):
            size = header_size(&memory[place], end - place, &length)
            for i in range(size):
                memory[place + i] = blank
            payload_starts[row] = place + size
            payload_ends[row] = place + size + length
            place += size + length
    return starts, ends
