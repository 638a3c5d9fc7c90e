"""Messages spelled as Jetstream's own servers spell them, as events: their values are cut out of the memory that they
lie in, by what is compiled where the package is installed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from jetstream_pipeline.compiled import cutter
from jetstream_pipeline.events.messages import Messages
from jetstream_pipeline.events.octets import offsets, strings
from jetstream_pipeline.events.schema import EVENT_SCHEMA
from jetstream_pipeline.events.wires import Wire

_MOST_BYTES = 2**31 - 1
"""Arrow points to texts in so much memory."""


class Unusual(Exception):
    """A message is not spelled as usual; `place`: which one, where nothing else would read it either."""

    def __init__(self, reason: str, place: int | None = None) -> None:
        super().__init__(reason)
        self.place = place


def usual_events(messages: Messages, host: str, wire: Wire) -> pa.RecordBatch:
    """The messages, all of them UTF-8, as events of `EVENT_SCHEMA`; Unusual where one is spelled otherwise."""
    if messages.size > _MOST_BYTES:
        raise Unusual("more than Arrow points to")
    size = len(messages)
    places = np.zeros((len(cutter.COLUMNS), 2, size), np.int64)
    numbers = np.empty((2, size), np.int64)
    names = np.empty((2, size), np.int8)
    is_v2 = wire is Wire.V2
    done, is_broken = cutter.take_apart(messages.memory, messages.starts, messages.ends, is_v2, places, numbers, names)
    if done < size:
        raise Unusual("a body that is no JSON" if is_broken else "spelled otherwise", done if is_broken else None)
    arrays = {name: _texts(messages.memory, found) for name, found in zip(cutter.COLUMNS, places, strict=True)}
    times, seqs = numbers
    arrays |= {"time_us": pa.array(times), "seq": pa.array(seqs, mask=seqs < 0)}
    arrays["kind"], arrays["operation"] = (
        pa.array(words).take(pa.array(found, mask=found < 0))
        for words, found in zip((cutter.KINDS, cutter.OPERATIONS), names, strict=True)
    )
    arrays["host"] = pa.repeat(pa.scalar(host, pa.string()), size)
    return pa.RecordBatch.from_arrays([arrays[name] for name in EVENT_SCHEMA.names], schema=EVENT_SCHEMA)


def _texts(memory: np.ndarray, places: np.ndarray) -> pa.StringArray:
    """What lies between these places; null where that is nothing."""
    lengths = places[1] - places[0]
    present = lengths > 0
    begins = offsets(lengths)
    text = np.empty(begins[-1], np.uint8)
    cutter.join(memory, places, begins, text)
    return strings(lengths, text, None if present.all() else present)
