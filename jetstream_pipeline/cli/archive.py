"""`jetstream-pipeline archive …`: history as a server's archive keeps it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
import pyarrow.compute as pc
from rich.table import Table
from rich.text import Text

from jetstream_pipeline.archive.block import Block
from jetstream_pipeline.archive.decoding import decoded_blocks
from jetstream_pipeline.archive.errors import DamagedSegment
from jetstream_pipeline.archive.frames import FRAME_MAGIC, MAX_CONTENT_BYTES, Frame
from jetstream_pipeline.archive.plans import Unit
from jetstream_pipeline.archive.segment import Segment, open_segment
from jetstream_pipeline.cli.output import console, printable
from jetstream_pipeline.cli.windows import access
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.jetstream.subscription import KINDS, Subscription
from jetstream_pipeline.replay.segments import list_segments, plan_segments
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.window import from_us

_NO_HOST = ""
_TEXTS = ("record", "payload")
"""The columns that hold JSON."""


@click.group()
def archive() -> None:
    """Look at history as a server's archive keeps it: sealed segments, and blocks of them."""


_FORMAT = click.option(
    "-f", "--format", "form", type=click.Choice(["table", "ndjson"]), default="table", show_default=True
)
_HOSTS = click.option(
    "-i",
    "--instance",
    "hosts",
    multiple=True,
    help="Host; repeatable: the first with an archive. Default: JETSTREAM_HOSTS.",
)


@archive.command("list")
@_HOSTS
@_FORMAT
def list_(hosts: tuple[str, ...], form: str) -> None:
    """The sealed segments of a host's archive, in stream order."""
    settings = Settings.read()
    host, listed = list_segments(settings.parsed_hosts(hosts), access(settings, settings.data))
    if form == "ndjson":
        for segment in listed:
            click.echo(segment.model_dump_json())
        return
    events, size = sum(one.event_count for one in listed), sum(one.size_bytes for one in listed)
    table = Table(title=f"{host.name}: {len(listed):,} segments, {events:,} events, {size / 1e6:,.1f} MB")
    for name in ("segment", "checksum", "first witnessed", "last witnessed"):
        table.add_column(name)
    for name in ("first seq", "last seq", "events", "bytes"):
        table.add_column(name, justify="right")
    for one in listed:
        times = (_time(one.min_witnessed_us), _time(one.max_witnessed_us))
        counts = (f"{one.event_count:,}", f"{one.size_bytes:,}")
        table.add_row(one.name, one.checksum, *times, str(one.min_seq), str(one.max_seq), *counts)
    console().print(table)


@archive.command()
@_HOSTS
@click.option("-c", "--collection", "collections", multiple=True, help="Collection, or prefix as app.bsky.graph.*")
@click.option("-d", "--did", "dids", multiple=True, help="Repository; repeatable.")
@click.option("--kinds", multiple=True, type=click.Choice(KINDS), help="Only events of this kind; repeatable.")
@click.option("--after", type=click.IntRange(min=0), default=0, show_default=True, help="A sequence number, exclusive.")
@click.option("--before", type=click.IntRange(min=1), help="A sequence number, inclusive. Default: all that is sealed.")
@_FORMAT
def plan(
    hosts: tuple[str, ...],
    collections: tuple[str, ...],
    dids: tuple[str, ...],
    kinds: tuple[str, ...],
    after: int,
    before: int | None,
    form: str,
) -> None:
    """What of a host's archive would be downloaded for a filter: whole segments, or some of their blocks."""
    if before is not None and before <= after:
        raise InvalidInput(f"--before {before} is not after --after {after}")
    settings = Settings.read()
    subscription = Subscription(collections, dids, kinds)
    servers, asked = settings.parsed_hosts(hosts), access(settings, settings.data)
    host, planned = plan_segments(servers, asked, subscription, after, before)
    if form == "ndjson":
        for unit in planned.units:
            click.echo(json.dumps(_unit(unit)))
        return
    table = Table(title=f"{host.name}: {len(planned.units):,} segments, sealed to {planned.sealed_tip_seq}")
    for name in ("segment", "checksum", "first seq", "last seq", "blocks"):
        table.add_column(name)
    for unit in planned.units:
        ranges = [f"{one.start}" if len(one) == 1 else f"{one.start}-{one.stop - 1}" for one in unit.blocks or ()]
        seqs = (str(unit.min_seq), str(unit.max_seq))
        table.add_row(unit.name, unit.checksum, *seqs, ", ".join(ranges) if ranges else "all")
    console().print(table)


def _unit(unit: Unit) -> dict[str, object]:
    return {
        "name": unit.name,
        "index": unit.index,
        "checksum": unit.checksum,
        "min_seq": unit.min_seq,
        "max_seq": unit.max_seq,
        "blocks": None if unit.blocks is None else list(unit.numbers),
    }


@archive.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_FORMAT
def inspect(file: Path, form: str) -> None:
    """What a sealed segment holds, or a block as getBlock serves it.

    A table of its header and its blocks, or one JSON object per event. Every block is read to the end. Exit code 1
    where some rows of a block are no events, 2 where the file is damaged.
    """
    with _opened(file) as (segment, frames):
        blocks = _Blocks(decoded_blocks(frames, _NO_HOST))
        if form == "ndjson":
            for block in blocks:
                for line in _lines(block):
                    click.echo(line)
        else:
            rows = [_row(number, block) for number, block in enumerate(blocks)]
            if segment:
                console().print(_facts(segment))
            console().print(_table(rows))
    for reason, count in blocks.unreadable.most_common():
        click.echo(f"{count} rows that are no events: {reason}", err=True)
    sys.exit(1 if blocks.unreadable else 0)


@contextmanager
def _opened(file: Path) -> Iterator[tuple[Segment | None, Iterable[Frame]]]:
    """A segment and its frames, or no segment and the one frame."""
    with file.open("rb") as stream:
        is_frame = stream.read(len(FRAME_MAGIC)) == FRAME_MAGIC
    if not is_frame:
        with open_segment(file) as segment:
            yield segment, segment.frames()
        return
    if file.stat().st_size > MAX_CONTENT_BYTES:
        raise DamagedSegment(str(file), "it is larger than any block")
    yield None, [Frame(file.read_bytes(), str(file))]


class _Blocks:
    """Blocks, and why rows of those that were handed out are no events."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self._blocks = blocks
        self.unreadable: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Block]:
        for block in self._blocks:
            self.unreadable.update(rejected.reason for rejected in block.rejected)
            yield block


def _lines(block: Block) -> Iterator[bytes]:
    """Each event as a JSON object, without what is null and without a host."""
    rows = block.events.drop_columns(["host"]).append_column("witnessed_us", block.witnessed_us)
    for row in rows.to_pylist():
        raw = {name: msgspec.Raw(row[name].encode()) for name in _TEXTS if row[name] is not None}
        yield msgspec.json.encode({name: value for name, value in (row | raw).items() if value is not None})


def _facts(segment: Segment) -> Table:
    table = Table(show_header=False)
    for name, value in {
        "segment": segment.path.name,
        "checksum": segment.checksum,
        "blocks": f"{len(segment.blocks):,}",
        "events": f"{segment.events:,}",
        "DIDs": f"{segment.unique_dids:,}",
        "seq": f"{segment.min_seq} to {segment.max_seq}",
        "witnessed": f"{_time(segment.min_witnessed_us)} to {_time(segment.max_witnessed_us)}",
    }.items():
        table.add_row(name, Text(printable(value)))
    return table


def _table(rows: Iterable[Sequence[str]]) -> Table:
    """A row for each block, of what it holds itself."""
    table = Table()
    for name in ("block", "events", "unreadable", "first seq", "last seq"):
        table.add_column(name, justify="right")
    for name in ("first witnessed", "last witnessed"):
        table.add_column(name)
    for row in rows:
        table.add_row(*row)
    return table


def _row(number: int, block: Block) -> list[str]:
    seqs, times = pc.min_max(block.events["seq"]).as_py(), pc.min_max(block.witnessed_us).as_py()
    bounds = [str(seqs["min"]), str(seqs["max"]), _time(times["min"]), _time(times["max"])]
    counts = [f"{number}", f"{block.events.num_rows:,}", f"{len(block.rejected):,}"]
    return counts + (bounds if block.events.num_rows else [""] * len(bounds))


def _time(time_us: int | None) -> str:
    if time_us is None:
        return ""
    try:
        return f"{from_us(time_us):%Y-%m-%d %H:%M:%S.%f}"
    except ValueError:
        return f"{time_us} us"
