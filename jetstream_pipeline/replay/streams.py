"""A stream's windows are of one filter: another one's events do not come among them unasked."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from jetstream_pipeline.errors import InvalidInput, PipelineError
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.storage.files import exists
from jetstream_pipeline.storage.lake import Lake
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.stream_filter import StreamFilter, read_filter, write_filter
from jetstream_pipeline.storage.summary import read_summary

_NAMED = 5
"""Of the collections or repositories that differ."""


def check_filter(data: DataDirectory, stream: str, subscription: Subscription) -> None:
    """InvalidInput, with the difference, where the stream's windows have another filter."""
    said = read_filter(data.lake.stream_path(stream))
    if (said is None or said.fingerprint != subscription.fingerprint) and _has_windows(data.lake, stream):
        _check(data.lake, stream, said, subscription)


def say_filter(data: DataDirectory, stream: str, subscription: Subscription, *, replace: bool) -> None:
    """Say that the stream's windows have this filter, with the first one that has; hold `settling` meanwhile.

    `replace`: whatever they had before; those that stand are of the old filter until they are replayed. Otherwise
    InvalidInput where they have another one.
    """
    path = data.lake.stream_path(stream)
    said = read_filter(path)
    if said is not None and said.fingerprint == subscription.fingerprint:
        return
    if not replace:
        check_filter(data, stream, subscription)
    write_filter(path, _as_said(subscription))


def subscription_of(data: DataDirectory, stream: str) -> Subscription:
    """The filter that a stream's windows have; InvalidInput where nothing was replayed into it yet."""
    said = read_filter(data.lake.stream_path(stream))
    if said is None:
        raise InvalidInput(f"there is no stream {stream} in {data.shown}; replay a window of it first")
    return Subscription(said.collections, said.dids, said.kinds)


def _as_said(subscription: Subscription) -> StreamFilter:
    return StreamFilter(
        fingerprint=subscription.fingerprint,
        collections=subscription.collections,
        dids=subscription.dids,
        kinds=subscription.kinds,
    )


def _has_windows(lake: Lake, stream: str) -> bool:
    """A store lists windows late: there, a stream with a filter has some."""
    if not isinstance(lake.root, Path) and exists(lake.stream_path(stream)):
        return True
    return next(lake.windows(stream), None) is not None


def _check(lake: Lake, stream: str, said: StreamFilter | None, subscription: Subscription) -> None:
    if said is not None:
        difference = _difference(said, subscription)
    elif _standing_fingerprint(lake, stream) in (None, subscription.fingerprint):
        return
    else:
        difference = "its windows have another filter"
    raise InvalidInput(
        f"the stream {stream} has other events than asked for now ({difference}); give these a stream name of their "
        "own, or replace its history: `replay --replace-history`"
    )


def _standing_fingerprint(lake: Lake, stream: str) -> str | None:
    """That of the newest window that can be read."""
    for path in lake.windows(stream):
        with suppress(PipelineError):
            return read_summary(path).fingerprint
    return None


def _difference(said: StreamFilter, asked: Subscription) -> str:
    parts = []
    for what, old, new in (
        ("collections", said.collections, asked.collections),
        ("repositories", said.dids, asked.dids),
        ("kinds", said.kinds, asked.kinds),
    ):
        more, fewer = sorted(set(new) - set(old)), sorted(set(old) - set(new))
        if not (more or fewer):
            continue
        if not old or not new:
            parts.append(f"{what} {_some(old)} so far, {_some(new)} now")
        else:
            parts += [f"{what} {word} {_some(names)}" for word, names in (("more", more), ("fewer", fewer)) if names]
    return "; ".join(parts)


def _some(names: tuple[str, ...] | list[str]) -> str:
    if not names:
        return "all"
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} others" if len(names) > _NAMED else "")
