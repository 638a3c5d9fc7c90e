"""`jetstream-pipeline queue …`: what a person needs to look after queues. What a queue does is `storage.queue`'s."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from datetime import datetime
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from jetstream_pipeline.cli.numbers import FiniteRange
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.queue.items import QueueItem, QueueStats, Status
from jetstream_pipeline.storage.queue.queue import Queue, queues

_STATUSES = [status.value for status in Status]
_COLUMNS = ("pending", "claimed", "expired", "dead", "size_bytes")
_LIST_PATIENCE_SEC = 2.0
"""For each queue: a list is asked for to see at once how they are."""
_name = click.argument("name")
_json = click.option("--json", "as_json", is_flag=True, help="JSON: one object a line.")


@click.group()
def queue() -> None:
    """Look after the queues that `stream` and programs fill."""


@queue.command("list")
@_json
def list_(as_json: bool) -> None:
    """Every queue and what it holds. One that cannot be read is told, and does not hide the others."""
    data_dir = Settings.read().data_dir
    rows: list[tuple[str, QueueStats]] = []
    failed: list[StorageError] = []
    for name in queues(data_dir, _LIST_PATIENCE_SEC):
        try:
            rows.append((name, Queue(name, data_dir=data_dir, patience=_LIST_PATIENCE_SEC).stats()))
        except StorageError as error:
            failed.append(error)
    if as_json:
        for name, stats in rows:
            click.echo(_text({"queue": name} | asdict(stats)))
    else:
        table = Table("queue", *_COLUMNS)
        for name, stats in rows:
            table.add_row(name, *(f"{getattr(stats, column):,}" for column in _COLUMNS))
        Console().print(table)
    for failure in failed:
        click.echo(failure, err=True)
    if failed:
        raise click.exceptions.Exit(2)


@queue.command()
@_name
@_json
def stats(name: str, as_json: bool) -> None:
    """What a queue holds now, and what went through it."""
    figures: QueueStats = _open(name).stats()
    if as_json:
        click.echo(_text(asdict(figures)))
        return
    for column, value in asdict(figures).items():
        click.echo(f"{column:18} {value if value is None or isinstance(value, datetime) else f'{value:,}'}")


@queue.command()
@_name
@click.option("-n", "limit", type=click.IntRange(min=1), default=10, show_default=True, help="At most so many.")
@click.option("--status", type=click.Choice(_STATUSES), help="Default: any.")
@click.option("--items", is_flag=True, help="Whole items: id, metadata, status, attempts, reason …")
def peek(name: str, limit: int, status: str | None, items: bool) -> None:
    """Print the oldest items' payloads as NDJSON, and leave them where they are."""
    found = _open(name).peek(limit, status)
    _write([_whole(item) if items else _line(item.payload) for item in found])


@queue.command()
@_name
@click.option("-n", "limit", type=click.IntRange(min=0), default=0, show_default=True, help="At most so many; 0: all.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=1000, show_default=True, help="Items claimed at once."
)
@click.option(
    "--lease",
    type=FiniteRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds to write a batch.",
)
@click.option("--quiet", is_flag=True, help="No count at the end.")
def drain(name: str, limit: int, batch_size: int, lease: float, quiet: bool) -> None:
    """Print payloads as NDJSON, oldest first, and acknowledge what was written.

    Interrupted in the middle, it gives back what it did not write; at worst the last batch is printed again.
    """
    opened = _open(name)
    written = 0
    with _ctrl_c_while_writing() as interruptible:
        while limit == 0 or written < limit:
            items = opened.claim(batch_size if limit == 0 else min(batch_size, limit - written), lease)
            if not items:
                break
            try:
                with interruptible():
                    _write([_line(item.payload) for item in items])
            except BaseException:
                opened.release(items)
                raise
            opened.ack(items)
            written += len(items)
    if not quiet:
        click.echo(f"{written:,} items drained from {name}", err=True)


@queue.command()
@_name
@click.option("--dead", is_flag=True, help="The dead ones, with all their attempts again.")
@click.option("--expired", is_flag=True, help="Those whose lease has run out.")
def requeue(name: str, dead: bool, expired: bool) -> None:
    """Put items back in line: the dead and the expired ones, unless one of them is named."""
    opened = _open(name)
    both = dead == expired
    freed = opened.requeue_expired() if expired or both else 0
    revived = opened.requeue_dead() if dead or both else 0
    click.echo(f"{revived:,} dead and {freed:,} expired items of {name} put back")


@queue.command()
@_name
@click.option("--status", type=click.Choice([*_STATUSES, "all"]), required=True, help="Which items.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(name: str, status: str, yes: bool) -> None:
    """Delete items for good."""
    opened = _open(name)
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidInput(f"this deletes items of {name} for good; say --yes where nobody can be asked")
        click.confirm(f"delete the {status} items of {name} for good?", abort=True)
    click.echo(f"{opened.purge(None if status == 'all' else status):,} items of {name} deleted")


def _open(name: str) -> Queue:
    return Queue(name, data_dir=Settings.read().data_dir)


@contextmanager
def _ctrl_c_while_writing() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Until the end, Ctrl-C takes effect inside of what is given alone, so that no claim is left behind; a second one
    at once: somebody may hold the queue."""
    pressed = writing = False

    def press(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if writing or pressed:
            raise KeyboardInterrupt
        pressed = True

    @contextmanager
    def interruptible() -> Iterator[None]:
        nonlocal writing
        writing = True
        try:
            if pressed:
                raise KeyboardInterrupt
            yield
        finally:
            writing = False

    before = signal.signal(signal.SIGINT, press)
    try:
        yield interruptible
    finally:
        signal.signal(signal.SIGINT, before)


def _whole(item: QueueItem) -> str:
    """A whole item as JSON; its payload as it stands, for Python may not take what others' JSON can say."""
    shown = asdict(item)
    del shown["token"], shown["payload"]
    return f'{_text(shown)[:-1]}, "payload": {_line(item.payload)}}}'


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, default=datetime.isoformat)


def _line(payload: str) -> str:
    """A payload on one line, whatever its author's layout."""
    return payload.replace("\r", "").replace("\n", " ")


def _write(lines: Sequence[str]) -> None:
    """All of it in the reader's hands, or an error. JSON is UTF-8, whatever the terminal's encoding."""
    out = sys.stdout.buffer
    out.writelines(f"{line}\n".encode() for line in lines)
    out.flush()
