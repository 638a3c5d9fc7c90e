"""How a running stream is shown: a live line on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from jetstream_pipeline.connector.statistics import Progress

_PLAIN_SEC = 5.0
_US_PER_SEC = 1_000_000


@contextmanager
def showing(quiet: bool = False) -> Iterator[Callable[[Progress], None] | None]:
    """What to call with a stream's progress, on standard error; None where nothing is to be shown."""
    console = Console(stderr=True)
    if quiet:
        yield None
    elif console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            yield _Terminal(live).show
    else:
        yield _Plain().show


class _Terminal:
    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, progress: Progress) -> None:
        if progress.note:
            self._live.console.print(Text(progress.note), style="dim")
        self._live.update(Text(line(progress, time.time())))


class _Plain:
    def __init__(self) -> None:
        self._told = time.monotonic()

    def show(self, progress: Progress) -> None:
        if progress.note:
            click.echo(progress.note, err=True)
        if time.monotonic() - self._told >= _PLAIN_SEC:
            self._told = time.monotonic()
            click.echo(line(progress, time.time()), err=True)


def line(progress: Progress, now: float) -> str:
    """Rate, total, lag behind `now` (unix seconds), bytes and reconnections."""
    rate = progress.records / progress.seconds if progress.seconds else 0.0
    parts = [f"{progress.records:,} records", f"{rate:,.0f}/s"]
    if progress.position_us:
        parts.append(f"{_duration(max(now - progress.position_us / _US_PER_SEC, 0.0))} behind")
    parts += [f"{progress.bytes_received / 1e6:,.1f} MB", f"{progress.reconnections:,} reconnections"]
    return "  ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
