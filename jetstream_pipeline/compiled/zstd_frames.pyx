# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What zstd frames tell of themselves, without the interpreter's lock."""

import numpy as np

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

cdef enum:
    LEAST = 12
    ONE_SEGMENT = 0b0010_0000
    CHECKSUM = 0b0000_0100
    REPEATED = 1
    RESERVED = 3
    KINDS = 0b0000_1011
    KIND = 0b0000_0011
    LARGEST_WINDOW = (23 - 10) << 3


cdef inline bint are_blocks(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """Whether a frame's blocks end exactly there (RFC 8878, section 3.1.1.2)."""
    cdef uint32_t header, kind, size
    while end - at >= 3:
        header = at[0] | (<uint32_t>at[1] << 8) | (<uint32_t>at[2] << 16)
        at += 3
        kind = (header >> 1) & 3
        size = 1 if kind == REPEATED else header >> 3
        if kind == RESERVED or size > end - at:
            return False
        at += size
        if header & 1:
            return at == end
    return False


cdef inline int64_t content_size(const uint8_t *at, const uint8_t *end, uint32_t dictionary) noexcept nogil:
    cdef uint8_t descriptor = at[4]
    cdef bint in_one = (descriptor & ONE_SEGMENT) > 0
    cdef uint32_t named
    cdef int64_t size
    if memcmp(at, b"\x28\xb5\x2f\xfd", 4) != 0 or (descriptor & KINDS) != KIND:
        return 0
    if not in_one:
        if at[5] > LARGEST_WINDOW:
            return 0
        at += 1
    named = at[5] | (<uint32_t>at[6] << 8) | (<uint32_t>at[7] << 16) | (<uint32_t>at[8] << 24)
    if named != dictionary:
        return 0
    if descriptor >> 6 == 0 and in_one:
        size = at[9]
        at += 10
    elif descriptor >> 6 == 1:
        size = 256 + (at[9] | (at[10] << 8))
        at += 11
    else:
        return 0
    return size if are_blocks(at, end - 4 if descriptor & CHECKSUM else end) else 0


def content_sizes(
    const uint8_t[::1] memory, const int64_t[::1] starts, const int64_t[::1] ends, uint32_t dictionary
):
    """How many bytes the messages have when they are decompressed, as frames tell it (RFC 8878, section 3.1.1.1). 0
    where a message is not one frame and nothing else, or is one unlike what hosts send: without a size, or with a
    window of more than eight megabytes, or not naming this dictionary in four bytes. IndexError where a message does
    not lie in memory.

    And where those lie of which it is known, for zstandard: their starts, counted from the first message's, and lengths.
    """
    cdef Py_ssize_t count = starts.shape[0], row, size = memory.shape[0], known = 0
    if ends.shape[0] != count:
        raise IndexError("ends of other messages")
    for row in range(count):
        if starts[row] < starts[0] or starts[row] < 0 or ends[row] < starts[row] or ends[row] > size:
            raise IndexError(f"message {row} does not lie in memory")
    found, lying = np.zeros(count, np.int64), np.empty((count, 2), np.uint64)
    cdef int64_t[::1] sizes = found
    cdef uint64_t[:, ::1] places = lying
    with nogil:
        for row in range(count):
            if ends[row] - starts[row] >= LEAST:
                sizes[row] = content_size(&memory[starts[row]], &memory[starts[row]] + (ends[row] - starts[row]), dictionary)
                if sizes[row] > 0:
                    places[known, 0] = starts[row] - starts[0]
                    places[known, 1] = ends[row] - starts[row]
                    known += 1
    return found, lying[:known]
