# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Identities as numbers of 128 bits, and a set of such numbers, without the interpreter's lock and its objects.

A number is an identity's SipHash-1-3 (Aumasson and Bernstein, 2012) under a secret of this process: nobody else can
bring about that two have the same one.
"""

import secrets

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

cdef uint64_t SECRET_0 = int.from_bytes(secrets.token_bytes(8), "little")
cdef uint64_t SECRET_1 = int.from_bytes(secrets.token_bytes(8), "little")
cdef Py_ssize_t LEAST = 1_024


cdef struct State:
    uint64_t v0
    uint64_t v1
    uint64_t v2
    uint64_t v3


cdef inline uint64_t rotated(uint64_t value, int bits) noexcept nogil:
    return (value << bits) | (value >> (64 - bits))


cdef inline void turn(State *s) noexcept nogil:
    s.v0 += s.v1
    s.v2 += s.v3
    s.v1 = rotated(s.v1, 13) ^ s.v0
    s.v3 = rotated(s.v3, 16) ^ s.v2
    s.v0 = rotated(s.v0, 32) + s.v3
    s.v2 += s.v1
    s.v1 = rotated(s.v1, 17) ^ s.v2
    s.v3 = rotated(s.v3, 21) ^ s.v0
    s.v2 = rotated(s.v2, 32)


cdef inline void take(State *s, uint64_t word) noexcept nogil:
    s.v3 ^= word
    turn(s)
    s.v0 ^= word


def begin(uint64_t[:, ::1] states):
    """Set each row's state, of four numbers, to the beginning."""
    cdef Py_ssize_t row
    if states.shape[1] != 4:
        raise ValueError("states of another kind")
    for row in range(states.shape[0]):
        states[row, 0] = SECRET_0 ^ <uint64_t>0x736F6D6570736575
        states[row, 1] = SECRET_1 ^ <uint64_t>0x646F72616E646F6D ^ 0xEE
        states[row, 2] = SECRET_0 ^ <uint64_t>0x6C7967656E657261
        states[row, 3] = SECRET_1 ^ <uint64_t>0x7465646279746573


def add_texts(uint64_t[:, ::1] states, const int32_t[::1] offsets, const uint8_t[::1] texts):
    """Take a text into each row's state, with its length. IndexError where one does not lie in `texts`."""
    cdef Py_ssize_t count = states.shape[0], row
    cdef int64_t size, left
    cdef uint64_t word
    cdef const uint8_t *at
    cdef State *state
    if states.shape[1] != 4 or offsets.shape[0] != count + 1:
        raise ValueError("texts of other rows")
    for row in range(count):
        if offsets[row] < 0 or offsets[row + 1] < offsets[row] or offsets[row + 1] > texts.shape[0]:
            raise IndexError(f"text {row} does not lie in memory")
    if count == 0:
        return
    with nogil:
        for row in range(count):
            state = <State *>&states[row, 0]
            size = offsets[row + 1] - offsets[row]
            take(state, <uint64_t>size)
            if size == 0:
                continue
            at = &texts[0] + offsets[row]
            left = size
            while left >= 8:
                memcpy(&word, at, 8)
                take(state, word)
                at += 8
                left -= 8
            if left:
                word = 0
                memcpy(&word, at, left)
                take(state, word)


def finished(uint64_t[:, ::1] states):
    """The numbers that the states end in: a row of two for each."""
    cdef Py_ssize_t count = states.shape[0], row
    cdef uint64_t[:, ::1] found
    cdef State *s
    if states.shape[1] != 4:
        raise ValueError("states of another kind")
    numbers = np.empty((count, 2), np.uint64)
    found = numbers
    for row in range(count):
        s = <State *>&states[row, 0]
        s.v2 ^= 0xEE
        turn(s)
        turn(s)
        turn(s)
        found[row, 0] = s.v0 ^ s.v1 ^ s.v2 ^ s.v3
        s.v1 ^= 0xDD
        turn(s)
        turn(s)
        turn(s)
        # No key is zero twice: that stands for none.
        found[row, 1] = (s.v0 ^ s.v1 ^ s.v2 ^ s.v3) | 1
    return numbers


cdef class Numbers:
    """A set of keys, each of two numbers, the second of which is odd."""

    cdef uint64_t[:, ::1] table
    cdef Py_ssize_t size

    def __init__(self):
        self.table = np.zeros((LEAST, 2), np.uint64)
        self.size = 0

    def __len__(self):
        return self.size

    cdef inline Py_ssize_t place(self, uint64_t first, uint64_t second) noexcept nogil:
        """Where a key is, or is to go."""
        cdef Py_ssize_t last = self.table.shape[0] - 1
        cdef Py_ssize_t at = <Py_ssize_t>(first & <uint64_t>last)
        while self.table[at, 1] != 0 and not (self.table[at, 0] == first and self.table[at, 1] == second):
            at = (at + 1) & last
        return at

    def have(self, const uint64_t[:, ::1] keys):
        """Which of the keys are here."""
        cdef Py_ssize_t row
        result = np.empty(keys.shape[0], np.bool_)
        cdef uint8_t[::1] here = result.view(np.uint8)
        check(keys)
        with nogil:
            for row in range(keys.shape[0]):
                here[row] = self.table[self.place(keys[row, 0], keys[row, 1]), 1] != 0
        return result

    def add(self, const uint64_t[:, ::1] keys):
        """Add the keys, and tell which were not here, nor earlier among these."""
        cdef Py_ssize_t row, at
        result = np.empty(keys.shape[0], np.bool_)
        cdef uint8_t[::1] new = result.view(np.uint8)
        check(keys)
        if 2 * (self.size + keys.shape[0]) > self.table.shape[0]:
            self.grow(self.size + keys.shape[0])
        with nogil:
            for row in range(keys.shape[0]):
                at = self.place(keys[row, 0], keys[row, 1])
                new[row] = self.table[at, 1] == 0
                if new[row]:
                    self.table[at, 0] = keys[row, 0]
                    self.table[at, 1] = keys[row, 1]
                    self.size += 1
        return result

    cdef grow(self, Py_ssize_t wanted):
        cdef uint64_t[:, ::1] before = self.table
        cdef Py_ssize_t row, at, capacity = self.table.shape[0]
        while capacity < 2 * wanted:
            capacity *= 2
        self.table = np.zeros((capacity, 2), np.uint64)
        with nogil:
            for row in range(before.shape[0]):
                if before[row, 1] != 0:
                    at = self.place(before[row, 0], before[row, 1])
                    self.table[at, 0] = before[row, 0]
                    self.table[at, 1] = before[row, 1]

    def forget(self, const uint64_t[:, ::1] keys):
        """Remove keys."""
        cdef Py_ssize_t row, at, after, home, last = self.table.shape[0] - 1
        check(keys)
        with nogil:
            for row in range(keys.shape[0]):
                at = self.place(keys[row, 0], keys[row, 1])
                if self.table[at, 1] == 0:
                    continue
                self.size -= 1
                # Those behind move up, as far as they are not before their own place then.
                after = (at + 1) & last
                while self.table[after, 1] != 0:
                    home = <Py_ssize_t>(self.table[after, 0] & <uint64_t>last)
                    if ((after - home) & last) >= ((after - at) & last):
                        self.table[at, 0] = self.table[after, 0]
                        self.table[at, 1] = self.table[after, 1]
                        at = after
                    after = (after + 1) & last
                self.table[at, 0] = self.table[at, 1] = 0


cdef check(const uint64_t[:, ::1] keys):
    cdef Py_ssize_t row
    if keys.shape[1] != 2:
        raise ValueError("keys of another kind")
    for row in range(keys.shape[0]):
        if not keys[row, 1] & 1:
            raise ValueError("a key that is none")
