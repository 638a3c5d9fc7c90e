"""From segments to durable Parquet, beside a bare loop over the same blocks.

A simulated network is written as segments, as a server would seal it. Each measurement reads all of them, in a process
of its own: a bare loop that only decompresses the blocks and decodes their records with `libipld`; our decoding, in one
thread and ahead in several; and everything: decoded, validated, arranged, written, fsynced, renamed.

    python benchmarks/archive.py [--events 600000] [--passes 5] [--short]
"""

import argparse
import json
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import libipld
import xxhash
import zstandard
from side_by_side import Measured, in_process, in_turns, machine, measuring, show, tell

from jetstream_pipeline import __version__
from jetstream_pipeline.archive.block import decode_block
from jetstream_pipeline.archive.decoding import decoded_blocks
from jetstream_pipeline.archive.frames import Frame
from jetstream_pipeline.archive.segment import open_segment
from jetstream_pipeline.simulator import Network
from jetstream_pipeline.simulator.event import SimulatedEvent
from jetstream_pipeline.storage.files import replacing
from jetstream_pipeline.storage.summary import Counts, Proof, WindowState, WindowSummary
from jetstream_pipeline.storage.window_file import write_window
from jetstream_pipeline.window import Window

WINDOW = Window.hour(datetime(2026, 7, 4, 12, tzinfo=UTC))
RATE = 355.0
HOST = "jetstream.us-east.bsky.network"
BARE = "bare zstandard and libipld"
SHORT_EVENTS = 150_000
BLOCK_EVENTS = 4_096
SEGMENT_BLOCKS = 64
KINDS = {"create": 1, "update": 2, "delete": 3, "identity": 4, "account": 5}
TEXTS = (("collection", "B"), ("did", "H"), ("rkey", "B"), ("rev", "B"))
BEFORE_SIZES = 30
"""Bytes of an event's row in the columns before the one that says how long its payload is."""
HEADER = struct.Struct("<HIIIQQqqQQQQQ")
HEADER_BYTES = 256
ENTRY = struct.Struct("<QIIIQQqq")


def main() -> None:
    arguments = parse_arguments()
    if arguments.measure:
        MEASUREMENTS[arguments.measure](sorted(Path(arguments.folder).iterdir()))
        return
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: what that one takes of memory would show in the others'.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as maker:
            maker.submit(make, Path(folder), arguments.events).result()
        measurements = {name: partial(measured, name, folder) for name in MEASUREMENTS}
        results = in_turns(measurements, arguments.passes)
    show(f"{arguments.events:,} events in segments", list(results.values()), BARE)


def make(folder: Path, events: int) -> None:
    for number, chunk in enumerate(chunks(simulated(events), BLOCK_EVENTS * SEGMENT_BLOCKS)):
        write_segment(folder / f"seg_{number:010}.jss", chunk)


def measured(name: str, folder: str) -> Measured:
    return in_process(__file__, [f"--measure={name}", f"--folder={folder}"])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=600_000)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--short", action="store_true")
    for hidden in ("--measure", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.short:
        arguments.events = SHORT_EVENTS
    return arguments


def simulated(events: int) -> Iterator[SimulatedEvent]:
    seconds = int(events / RATE) + 1
    return islice(Network(0, RATE).events(WINDOW.start_us, WINDOW.start_us + seconds * 2_000_000), events)


def chunks(events: Iterator[SimulatedEvent], size: int) -> Iterator[list[SimulatedEvent]]:
    while chunk := list(islice(events, size)):
        yield chunk


def write_segment(path: Path, events: Sequence[SimulatedEvent]) -> None:
    """Seal events as a server does, but for the blooms and the collections, which nobody reads here."""
    index: list[bytes] = []
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
    with path.open("wb") as file:
        file.write(bytes(HEADER_BYTES))
        for rows in chunks(iter(events), BLOCK_EVENTS):
            content = block_content(rows)
            frame = compressor.compress(content)
            index.append(ENTRY.pack(file.tell(), len(frame), len(content), len(rows), *bounds(rows)))
            file.write(struct.pack("<Q", len(frame)) + frame)
        footer, table = file.tell(), b"".join(index)
        end = footer + len(table)
        dids = len({event.did for event in events})
        header = HEADER.pack(1, len(index), len(events), dids, *bounds(events), footer, end, end, end, footer)
        header = header.ljust(HEADER_BYTES - 12, b"\0")
        file.write(table)
        file.seek(0)
        file.write(b"jss0" + struct.pack("<Q", xxhash.xxh3_64_intdigest(header + table)) + header)


def bounds(events: Sequence[SimulatedEvent]) -> tuple[int, int, int, int]:
    seqs, times = [event.seq for event in events], [event.witnessed_us for event in events]
    return min(seqs), max(seqs), min(times), max(times)


def block_content(events: Sequence[SimulatedEvent]) -> bytes:
    count = len(events)
    payloads = [payload(event) for event in events]
    texts = {name: [(getattr(event, name) or "").encode() for event in events] for name, _ in TEXTS}
    parts = [struct.pack("<I", count)]
    parts.append(struct.pack(f"<{count}Q", *(event.seq for event in events)))
    parts.append(struct.pack(f"<{count}q", *(event.witnessed_us for event in events)))
    parts.append(bytes(8 * count))
    parts.append(bytes(KINDS[event.operation or event.kind] for event in events))
    parts += [struct.pack(f"<{count}{length}", *map(len, texts[name])) for name, length in TEXTS]
    parts.append(struct.pack(f"<{count}I", *map(len, payloads)))
    return b"".join([*parts, *(text for name, _ in TEXTS for text in texts[name]), *payloads])


def payload(event: SimulatedEvent) -> bytes:
    text = event.record_json or event.payload_json
    # A lone surrogate is JSON's alone.
    encoded: bytes = libipld.encode_dag_cbor(with_links(json.loads(text.replace("\\ud83d", "?")))) if text else b""
    return encoded


def with_links(value: Any) -> Any:
    """A record with its links as the encoder takes them: as the bytes of their CIDs."""
    if isinstance(value, dict):
        if "$link" in value:
            return libipld.decode_multibase(value["$link"])[1]
        return {key: with_links(one) for key, one in value.items()}
    return [with_links(one) for one in value] if isinstance(value, list) else value


def measure_bare(paths: Sequence[Path]) -> None:
    """What a loop decompresses and decodes that does nothing else."""
    decompressor = zstandard.ZstdDecompressor()
    events = 0
    with measuring() as made:
        for frame in frames(paths):
            content = decompressor.decompress(frame.data)
            (count,) = struct.unpack_from("<I", content)
            sizes = struct.unpack_from(f"<{count}I", content, 4 + count * BEFORE_SIZES)
            place = len(content) - sum(sizes)
            for size in sizes:
                if size:
                    libipld.decode_dag_cbor(content[place : place + size])
                place += size
            events += count
    tell(made(events, size_of(paths), 0))


def measure_decode(paths: Sequence[Path]) -> None:
    """Our decoding, block after block in one thread."""
    events = 0
    with measuring() as made:
        for frame in frames(paths):
            events += decode_block(frame.data, HOST, frame.where, entry=frame.entry).events.num_rows
    tell(made(events, size_of(paths), 0))


def measure_ahead(paths: Sequence[Path]) -> None:
    """The same, ahead of a reader who does nothing with it."""
    events = 0
    with measuring() as made:
        for block in decoded_blocks(frames(paths), HOST):
            events += block.events.num_rows
    tell(made(events, size_of(paths), 0))


def measure_everything(paths: Sequence[Path]) -> None:
    """A window's file of them all."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "events.parquet")
        with measuring() as made, replacing(path) as temporary:
            summary = write_window(
                temporary, (block.events for block in decoded_blocks(frames(paths), HOST)), described
            )
        tell(made(summary.events, size_of(paths), path.stat().st_size))


def described(counts: Counts) -> WindowSummary:
    return WindowSummary(
        **counts.model_dump(),
        stream="network",
        start=WINDOW.start,
        end=WINDOW.end,
        state=WindowState.UNPROVEN,
        reason="of a benchmark",
        fingerprint="",
        host=HOST,
        wire="archive",
        proof=Proof(
            cursor=WINDOW.start_us,
            start_shown_by=None,
            end_shown_by=None,
            position=None,
            connections=(),
            clamps=(),
            repeats=0,
            resumptions=0,
        ),
        quarantined=0,
        seconds=0.0,
        finished_at=WINDOW.end,
        version=__version__,
    )


def frames(paths: Sequence[Path]) -> Iterator[Frame]:
    for path in paths:
        with open_segment(path) as segment:
            yield from segment.frames()


def size_of(paths: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


MEASUREMENTS: dict[str, Callable[[Sequence[Path]], None]] = {
    BARE: measure_bare,
    "decoding, one thread": measure_decode,
    "decoding ahead": measure_ahead,
    "segments to Parquet": measure_everything,
}

if __name__ == "__main__":
    main()
