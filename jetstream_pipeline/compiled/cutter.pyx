# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Messages spelled as Jetstream's own servers spell them, taken apart in one pass, without the interpreter's lock.

v1: did, time_us, cursor (newer servers), kind, then a kind's body, or a commit of rev, operation, collection, rkey,
record, cid. v2: all keys in alphabetical order. No blanks outside of bodies, no escapes outside of them either. Both as
in messages of real servers. Every step looks at most as far as the message's end.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

ctypedef const uint8_t *place

COLUMNS = ("did", "collection", "rkey", "rev", "cid", "record", "payload")
"""Whose texts are found."""
KINDS = ("commit", "identity", "account", "sync")
OPERATIONS = ("create", "update", "delete")
"""Are told by their numbers here; -1: none."""

cdef enum:
    DID, COLLECTION, RKEY, REV, CID, RECORD, PAYLOAD
    COMMIT = 0, IDENTITY, ACCOUNT, SYNC
    CREATE = 0, UPDATE, DELETE
    MAX_DIGITS = 18
    MAX_DEPTH = 60

cdef enum Found:
    USUAL, UNUSUAL, NO_JSON

cdef const uint64_t ONES = 0x0101010101010101
cdef const uint64_t TOPS = 0x8080808080808080
cdef int64_t DAY_US = 86_400_000_000


cdef struct Message:
    place at
    place end


cdef struct Row:
    place starts[7]
    place ends[7]
    int64_t time_us
    int64_t seq
    int8_t kind
    int8_t operation


cdef inline bint skip(Message *m, const char *literal, Py_ssize_t size) noexcept nogil:
    """Whether the message goes on with that."""
    if m.end - m.at < size or memcmp(m.at, literal, size) != 0:
        return False
    m.at += size
    return True


cdef inline bint is_plain(uint64_t octets) noexcept nogil:
    """Whether none of eight octets is a quotation mark, a backslash or a control character."""
    cdef uint64_t quotes = octets ^ (ONES * 0x22)
    cdef uint64_t backslashes = octets ^ (ONES * 0x5C)
    cdef uint64_t found = (quotes - ONES) & ~quotes
    found |= (backslashes - ONES) & ~backslashes
    found |= (octets - ONES * 0x20) & ~octets
    return (found & TOPS) == 0


cdef inline place plain_end(place at, place end) noexcept nogil:
    """Where the first quotation mark, backslash or control character is, or the end."""
    cdef uint64_t octets
    while end - at >= 8:
        memcpy(&octets, at, 8)
        if not is_plain(octets):
            break
        at += 8
    while at < end and at[0] != 0x22 and at[0] != 0x5C and at[0] >= 0x20:
        at += 1
    return at


cdef inline bint text(Message *m, Row *row, int column) noexcept nogil:
    """A text without escapes, as far as to the quotation mark behind it: not an empty one."""
    row.starts[column] = m.at
    m.at = plain_end(m.at, m.end)
    row.ends[column] = m.at
    return m.at > row.starts[column] and m.at < m.end and m.at[0] == 0x22


cdef inline bint number(Message *m, int64_t *value) noexcept nogil:
    cdef place begins = m.at
    cdef int64_t found = 0
    while m.at < m.end and 0x30 <= m.at[0] <= 0x39:
        if m.at - begins == MAX_DIGITS:
            return False
        found = 10 * found + (m.at[0] - 0x30)
        m.at += 1
    value[0] = found
    return m.at > begins and (begins[0] != 0x30 or m.at - begins == 1)


cdef inline int operation(Message *m) noexcept nogil:
    if skip(m, b"create", 6):
        return CREATE
    if skip(m, b"update", 6):
        return UPDATE
    if skip(m, b"delete", 6):
        return DELETE
    return -1


cdef inline bint hexadecimal(place at, uint64_t *value) noexcept nogil:
    cdef int i
    cdef uint8_t octet
    value[0] = 0
    for i in range(4):
        octet = at[i]
        if 0x30 <= octet <= 0x39:
            octet -= 0x30
        elif 0x61 <= (octet | 0x20) <= 0x66:
            octet = (octet | 0x20) - 0x57
        else:
            return False
        value[0] = 16 * value[0] + octet
    return True


cdef inline bint string_rest(Message *m) noexcept nogil:
    """The rest of a string in JSON, with its quotation mark. Lone surrogates are none."""
    cdef uint64_t unit
    while True:
        m.at = plain_end(m.at, m.end)
        if m.at >= m.end or m.at[0] < 0x20:
            return False
        if m.at[0] == 0x22:
            m.at += 1
            return True
        if m.end - m.at < 2:
            return False
        m.at += 2
        if m.at[-1] in b'"\\/bfnrt':
            continue
        if m.at[-1] != 0x75 or m.end - m.at < 4 or not hexadecimal(m.at, &unit):
            return False
        m.at += 4
        if 0xD800 <= unit < 0xDC00:
            if m.end - m.at < 6 or m.at[0] != 0x5C or m.at[1] != 0x75 or not hexadecimal(m.at + 2, &unit):
                return False
            if not 0xDC00 <= unit < 0xE000:
                return False
            m.at += 6
        elif 0xDC00 <= unit < 0xE000:
            return False


cdef inline bint digits(Message *m) noexcept nogil:
    cdef place begins = m.at
    while m.at < m.end and 0x30 <= m.at[0] <= 0x39:
        m.at += 1
    return m.at > begins


cdef inline bint json_number(Message *m) noexcept nogil:
    if m.at < m.end and m.at[0] == 0x2D:
        m.at += 1
    if m.at < m.end and m.at[0] == 0x30:
        m.at += 1
    elif not digits(m):
        return False
    if m.at < m.end and m.at[0] == 0x2E:
        m.at += 1
        if not digits(m):
            return False
    if m.at < m.end and (m.at[0] | 0x20) == 0x65:
        m.at += 1
        if m.at < m.end and (m.at[0] == 0x2B or m.at[0] == 0x2D):
            m.at += 1
        if not digits(m):
            return False
    return True


cdef inline void blanks(Message *m) noexcept nogil:
    while m.at < m.end and (m.at[0] == 0x20 or m.at[0] == 0x09 or m.at[0] == 0x0A or m.at[0] == 0x0D):
        m.at += 1


cdef inline bint key(Message *m) noexcept nogil:
    """A key of an object, and the colon behind it."""
    if m.at >= m.end or m.at[0] != 0x22:
        return False
    m.at += 1
    if not string_rest(m):
        return False
    blanks(m)
    if m.at >= m.end or m.at[0] != 0x3A:
        return False
    m.at += 1
    blanks(m)
    return True


cdef Found json_object(Message *m) noexcept nogil:
    """An object in JSON; none is nested deeper than `MAX_DEPTH`."""
    cdef uint64_t are_objects = 0  # By depth: an object, or an array.
    cdef int depth = 0
    cdef uint8_t octet
    if m.at >= m.end or m.at[0] != 0x7B:
        return UNUSUAL
    while True:
        # A value begins here.
        if m.at >= m.end:
            return NO_JSON
        octet = m.at[0]
        if octet == 0x22:
            m.at += 1
            if not string_rest(m):
                return NO_JSON
        elif octet == 0x7B or octet == 0x5B:
            if depth == MAX_DEPTH:
                return UNUSUAL
            depth += 1
            are_objects = (are_objects << 1) | (octet == 0x7B)
            m.at += 1
            blanks(m)
            if m.at >= m.end:
                return NO_JSON
            if m.at[0] != octet + 2:
                if octet == 0x7B and not key(m):
                    return NO_JSON
                continue
        elif octet == 0x74:
            if not skip(m, b"true", 4):
                return NO_JSON
        elif octet == 0x66:
            if not skip(m, b"false", 5):
                return NO_JSON
        elif octet == 0x6E:
            if not skip(m, b"null", 4):
                return NO_JSON
        elif not json_number(m):
            return NO_JSON
        # A value has ended here, unless the end of what is empty comes.
        while True:
            blanks(m)
            if m.at >= m.end:
                return NO_JSON
            octet = m.at[0]
            if octet == 0x2C:
                m.at += 1
                blanks(m)
                if are_objects & 1 and not key(m):
                    return NO_JSON
                break
            if octet != (0x7D if are_objects & 1 else 0x5D):
                return NO_JSON
            m.at += 1
            depth -= 1
            are_objects >>= 1
            if depth == 0:
                return USUAL


cdef inline Found body(Message *m, Row *row, int column) noexcept nogil:
    row.starts[column] = m.at
    cdef Found found = json_object(m)
    row.ends[column] = m.at
    return found


cdef inline bint two_digits(place at, int64_t *value) noexcept nogil:
    value[0] = 10 * (at[0] - 0x30) + (at[1] - 0x30)
    return 0x30 <= at[0] <= 0x39 and 0x30 <= at[1] <= 0x39


cdef bint moment(Message *m, int64_t *time_us) noexcept nogil:
    """RFC 3339, in UTC, of seconds or some parts of them, but not more precise than we are."""
    cdef int64_t century, year, month, day, hour, minute, second, last, days, era
    cdef int64_t micros = 0, unit = 1_000_000
    cdef place at = m.at
    if m.end - at < 20 or at[4] != 0x2D or at[7] != 0x2D or at[10] != 0x54 or at[13] != 0x3A or at[16] != 0x3A:
        return False
    if not (two_digits(at, &century) and two_digits(at + 2, &year) and two_digits(at + 5, &month)):
        return False
    if not (two_digits(at + 8, &day) and two_digits(at + 11, &hour) and two_digits(at + 14, &minute)):
        return False
    if not two_digits(at + 17, &second):
        return False
    year += 100 * century
    if year < 1970 or not 1 <= month <= 12 or day < 1 or hour > 23 or minute > 59 or second > 59:
        return False
    if month == 2:
        last = 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    else:
        last = 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31
    if day > last:
        return False
    m.at += 19
    if m.at[0] == 0x2E:
        m.at += 1
        at = m.at
        while m.at < m.end and 0x30 <= m.at[0] <= 0x39:
            unit //= 10
            if unit == 0:
                return False
            micros += unit * (m.at[0] - 0x30)
            m.at += 1
        if m.at == at:
            return False
    # The years begin with March here, so that the leap day is the last one: H. Hinnant, days_from_civil.
    if month <= 2:
        year -= 1
        month += 12
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 719_469
    time_us[0] = days * DAY_US + (3600 * hour + 60 * minute + second) * 1_000_000 + micros
    return skip(m, b"Z", 1)


cdef inline Found kind_and_body(Message *m, Row *row) noexcept nogil:
    """What a v1 message of another kind than a commit goes on with."""
    if skip(m, b'identity","identity":', 21):
        row.kind = IDENTITY
    elif skip(m, b'account","account":', 19):
        row.kind = ACCOUNT
    elif skip(m, b'sync","sync":', 13):
        row.kind = SYNC
    else:
        return UNUSUAL
    return body(m, row, PAYLOAD)


cdef Found take_v1(Message *m, Row *row) noexcept nogil:
    cdef Found found
    if not (skip(m, b'{"did":"', 8) and text(m, row, DID) and skip(m, b'","time_us":', 12)):
        return UNUSUAL
    if not number(m, &row.time_us):
        return UNUSUAL
    if skip(m, b',"cursor":', 10) and not number(m, &row.seq):
        return UNUSUAL
    if not skip(m, b',"kind":"', 9):
        return UNUSUAL
    if not skip(m, b'commit","commit":{"rev":"', 25):
        found = kind_and_body(m, row)
        if found != USUAL:
            return found
        return USUAL if skip(m, b"}", 1) and m.at == m.end else UNUSUAL
    row.kind = COMMIT
    if not (text(m, row, REV) and skip(m, b'","operation":"', 15)):
        return UNUSUAL
    row.operation = operation(m)
    if row.operation < 0 or not (skip(m, b'","collection":"', 16) and text(m, row, COLLECTION)):
        return UNUSUAL
    if not (skip(m, b'","rkey":"', 10) and text(m, row, RKEY)):
        return UNUSUAL
    if row.operation != DELETE:
        if not skip(m, b'","record":', 11):
            return UNUSUAL
        found = body(m, row, RECORD)
        if found != USUAL:
            return found
        if not (skip(m, b',"cid":"', 8) and text(m, row, CID)):
            return UNUSUAL
    return USUAL if skip(m, b'"}}', 3) and m.at == m.end else UNUSUAL


cdef Found take_v2_commit(Message *m, Row *row) noexcept nogil:
    cdef Found found
    cdef bint is_write = skip(m, b'"cid":"', 7)
    row.kind = COMMIT
    if is_write and not (text(m, row, CID) and skip(m, b'",', 2)):
        return UNUSUAL
    if not (skip(m, b'"collection":"', 14) and text(m, row, COLLECTION)):
        return UNUSUAL
    if not (skip(m, b'","did":"', 9) and text(m, row, DID) and skip(m, b'","operation":"', 15)):
        return UNUSUAL
    row.operation = operation(m)
    if row.operation < 0 or is_write != (row.operation != DELETE):
        return UNUSUAL
    if is_write:
        if not skip(m, b'","record":', 11):
            return UNUSUAL
        found = body(m, row, RECORD)
        if found != USUAL:
            return found
        if not skip(m, b',"rev":"', 8):
            return UNUSUAL
    elif not skip(m, b'","rev":"', 9):
        return UNUSUAL
    if not (text(m, row, REV) and skip(m, b'","rkey":"', 10) and text(m, row, RKEY)):
        return UNUSUAL
    return USUAL if skip(m, b'","seq":', 8) and number(m, &row.seq) else UNUSUAL


cdef Found take_v2_other(Message *m, Row *row) noexcept nogil:
    cdef Found found
    if skip(m, b'account","account":', 19):
        row.kind = ACCOUNT
        found = body(m, row, PAYLOAD)
        if found != USUAL:
            return found
        if not (skip(m, b',"did":"', 8) and text(m, row, DID)):
            return UNUSUAL
        return USUAL if skip(m, b'","seq":', 8) and number(m, &row.seq) else UNUSUAL
    if skip(m, b'identity","did":"', 17):
        row.kind = IDENTITY
        if not (text(m, row, DID) and skip(m, b'","identity":', 13)):
            return UNUSUAL
        found = body(m, row, PAYLOAD)
        if found != USUAL:
            return found
        return USUAL if skip(m, b',"seq":', 7) and number(m, &row.seq) else UNUSUAL
    if skip(m, b'sync","did":"', 13):
        row.kind = SYNC
        if not (text(m, row, DID) and skip(m, b'","seq":', 8) and number(m, &row.seq) and skip(m, b',"sync":', 8)):
            return UNUSUAL
        return body(m, row, PAYLOAD)
    return UNUSUAL


cdef Found take_v2(Message *m, Row *row) noexcept nogil:
    cdef Found found
    if not skip(m, b'{"$type":"message","payload":{"$type":"network.bsky.jetstream.subscribeEvents#', 78):
        return UNUSUAL
    found = take_v2_commit(m, row) if skip(m, b'commit",', 8) else take_v2_other(m, row)
    if found != USUAL:
        return found
    if not (skip(m, b',"time":"', 9) and moment(m, &row.time_us)):
        return UNUSUAL
    return USUAL if skip(m, b'"}}', 3) and m.at == m.end else UNUSUAL


def take_apart(
    const uint8_t[::1] memory,
    const int64_t[::1] starts,
    const int64_t[::1] ends,
    bint is_v2,
    int64_t[:, :, ::1] places,
    int64_t[:, ::1] numbers,
    int8_t[:, ::1] names,
):
    """Take messages apart, each of which lies in `memory` from its start to before its end.

    Filled in, by column and message: `places`, where each of the `COLUMNS` starts and ends in memory (nowhere: 0 and
    0); `numbers`, time_us and seq (-1: none); `names`, which of the `KINDS` and of the `OPERATIONS` it is.

    Returns how many were taken apart before one that is not spelled as usual, and whether that is since its body is not
    JSON. IndexError where a message does not lie in memory.
    """
    cdef Py_ssize_t count = starts.shape[0], row, size = memory.shape[0]
    cdef int column
    cdef Found found = USUAL
    cdef Message m
    cdef Row taken
    cdef place base
    if ends.shape[0] != count or places.shape[0] != 7 or places.shape[1] != 2 or places.shape[2] != count:
        raise ValueError("places for other messages")
    if numbers.shape[0] != 2 or numbers.shape[1] != count or names.shape[0] != 2 or names.shape[1] != count:
        raise ValueError("numbers for other messages")
    if count == 0:
        return 0, False
    for row in range(count):
        if starts[row] < 0 or ends[row] < starts[row] or ends[row] > size:
            raise IndexError(f"message {row} does not lie in memory")
    if size == 0:
        return 0, False
    base = &memory[0]
    with nogil:
        for row in range(count):
            m.at, m.end = base + starts[row], base + ends[row]
            for column in range(7):
                taken.starts[column] = taken.ends[column] = base
            taken.seq = taken.operation = taken.kind = -1
            taken.time_us = -1
            found = take_v2(&m, &taken) if is_v2 else take_v1(&m, &taken)
            if found != USUAL:
                break
            for column in range(7):
                places[column, 0, row] = taken.starts[column] - base
                places[column, 1, row] = taken.ends[column] - base
            numbers[0, row] = taken.time_us
            numbers[1, row] = taken.seq
            names[0, row] = taken.kind
            names[1, row] = taken.operation
        else:
            row = count
    return row, found == NO_JSON


def join(const uint8_t[::1] memory, const int64_t[:, ::1] places, const int32_t[::1] offsets, uint8_t[::1] texts):
    """Copy what lies in memory from each of `places[0]` to before `places[1]` to where `offsets` say that it is to
    begin among `texts`, and the next one with its end. IndexError where it does not fit there."""
    cdef Py_ssize_t count = places.shape[1], row, size
    if places.shape[0] != 2 or offsets.shape[0] != count + 1:
        raise ValueError("offsets for other texts")
    for row in range(count):
        size = places[1, row] - places[0, row]
        if places[0, row] < 0 or size < 0 or places[1, row] > memory.shape[0]:
            raise IndexError(f"text {row} does not lie in memory")
        if offsets[row] < 0 or offsets[row + 1] - offsets[row] != size or offsets[row + 1] > texts.shape[0]:
            raise IndexError(f"text {row} does not fit")
    if texts.shape[0] == 0 or memory.shape[0] == 0:
        return
    with nogil:
        for row in range(count):
            memcpy(&texts[0] + offsets[row], &memory[0] + places[0, row], places[1, row] - places[0, row])


def line_up(list texts, const int64_t[::1] ends, uint8_t[::1] memory, uint8_t between):
    """Copy texts, anything that has octets, into memory, one after the other, so that each ends where `ends` say and
    `between` lies behind it, unless the memory ends there. IndexError where one is of another length."""
    cdef Py_ssize_t row, at = 0, size = memory.shape[0]
    cdef Py_buffer view
    cdef bint fits
    if len(texts) != ends.shape[0]:
        raise IndexError("other texts than those")
    for row in range(len(texts)):
        PyObject_GetBuffer(texts[row], &view, PyBUF_SIMPLE)
        fits = ends[row] <= size and at + view.len == ends[row]
        if fits and view.len:
            memcpy(&memory[at], view.buf, view.len)
        PyBuffer_Release(&view)
        if not fits:
            raise IndexError(f"text {row} is of another length")
        at = ends[row] + 1
        if at <= size:
            memory[at - 1] = between
