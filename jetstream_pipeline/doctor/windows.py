"""Windows that are missing, incomplete or damaged: which can still be had, until when, and how."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from jetstream_pipeline.doctor.case import Case
from jetstream_pipeline.doctor.finding import Figures, Finding, ok, problem, warning
from jetstream_pipeline.doctor.holders import holders
from jetstream_pipeline.doctor.words import count, moment, some, some_windows, span
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.hive import hour_of
from jetstream_pipeline.storage.left_over import window_locks
from jetstream_pipeline.storage.summary import read_summary
from jetstream_pipeline.streams.lacking import lacking
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.window import Window, spans

_URGENT = timedelta(hours=6)


def examine_windows(case: Case) -> Iterator[Finding]:
    locks = window_locks(case.data)
    under_way = {locks[path] for path in holders(locks)}
    for stream in case.streams:
        yield from _missing(stream, {window for name, window in under_way if name == stream.name}, case.now)
    for name in case.names:
        yield from _incomplete(name, case)
        yield from _damaged(name, case)
    if not case.names:
        yield ok("no stream is declared, and the lake holds none")


def _missing(stream: Stream, under_way: set[Window], now: datetime) -> Iterator[Finding]:
    found, look_back = lacking(stream, under_way, now), stream.settings.look_back
    if found.waiting:
        yield _to_be_had(stream, found.waiting, now)
    if found.lost:
        text = f"{stream.name} lacks {count(len(found.lost), 'window')} older than JETSTREAM_LOOK_BACK_HOURS"
        remedy = "only a host with an archive has them: replay them from one"
        figures: Figures = {"stream": stream.name, "lost": len(found.lost), "oldest": found.lost[0].key}
        yield warning(f"{text} ({some_windows(found.lost)}); {remedy}", **figures)
    beginning = stream.beginning(now)
    if beginning > now:
        yield warning(
            f"{stream.name} begins only at {moment(beginning)}: until then nothing is replayed; is its start, or "
            "JETSTREAM_FIRST_HOUR, as it was meant?",
            stream=stream.name,
        )
    elif not (found.waiting or found.lost):
        yield ok(f"{stream.name} has every window since {moment(beginning)}", stream=stream.name)
    if look_back and under_way:
        yield ok(f"{stream.name}: {some(sorted(under_way))} under way", stream=stream.name)


def _to_be_had(stream: Stream, missing: Sequence[Window], now: datetime) -> Finding:
    """The oldest are lost first."""
    first, look_back = missing[0], stream.settings.look_back
    text = f"{stream.name} lacks {count(len(missing), 'window')} ({some_windows(missing)})"
    end = Window.hour(spans(missing)[0].end)
    replay = f"jetstream-pipeline replay --stream {stream.name} --start {first.key} --end {end.key}"
    figures: Figures = {"stream": stream.name, "missing": len(missing), "oldest": first.key}
    if not look_back:
        return warning(f"{text}; nothing asks for them by itself (JETSTREAM_LOOK_BACK_HOURS is 0): {replay}", **figures)
    until = first.start + look_back
    figures["until"] = until.isoformat()
    text = f"{text}; the oldest can be had until {moment(until)}, for {span(until - now)}"
    remedy = f"Dagster's sensor {stream.name}_catch_up asks for them where its daemon runs; by hand: {replay}"
    is_urgent = until - now < _URGENT and _is_promised(stream, first)
    return (problem if is_urgent else warning)(f"{text}; {remedy}", **figures)


def _is_promised(stream: Stream, window: Window) -> bool:
    """Whether the stream was to have this window: a new one has what its hosts still have when it begins."""
    promised = stream.start or stream.settings.first_hour or stream.data.lake.oldest_hour(stream.name)
    return promised is not None and promised <= window.start


def _incomplete(name: str, case: Case) -> Iterator[Finding]:
    """What a host gave of windows that are not whole, and that no whole one has superseded."""
    lake = case.data.lake
    whole = lake.whole(name)
    for path in reversed([file.path for file in lake.incomplete(name)]):
        if case.is_late:
            return
        window = hour_of(path)
        if window in whole:
            continue
        try:
            summary = read_summary(path)
        except StorageError as error:
            yield warning(str(error), stream=name, window=window.key)
            continue
        text = f"{name} {window} is {summary.state}: {summary.reason}"
        yield warning(f"{text}; replay it from a host that has it", stream=name, window=window.key, state=summary.state)


def _damaged(name: str, case: Case) -> Iterator[Finding]:
    for path in case.data.lake.windows(name):
        if case.is_late:
            return
        try:
            read_summary(path)
        except StorageError as error:
            yield problem(str(error), stream=name, window=hour_of(path).key)
