"""A host's archive of one segment, made of rows that a simulator would not witness."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jetstream_pipeline_tests.archive.segments import Row, sealed
from jetstream_pipeline_tests.archive.server import Segment, Server, serving


@dataclass
class RowsSegment(Segment):
    first: int = 0
    last: int = 0

    @property
    def bounds(self) -> dict[str, Any]:
        return super().bounds | {"minSeq": self.first, "maxSeq": self.last}


@contextmanager
def archiving(rows: Sequence[Row]) -> Iterator[Server]:
    segment = RowsSegment(0, sealed([rows]), first=rows[0].seq, last=rows[-1].seq)
    times = {"minWitnessedAt": rows[0].witnessed_us, "maxWitnessedAt": rows[-1].witnessed_us}
    listed = segment.bounds | times | {"sizeBytes": len(segment.content), "eventCount": len(rows)}
    with serving(segment) as server:
        server.listSegments = lambda _: {"segments": [listed]}  # type: ignore[method-assign]
        yield server
