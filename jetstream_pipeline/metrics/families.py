"""The names under which Prometheus knows the figures of the lake and the queues. What they are is `lake`'s.

Labels are streams, queues, states and the like: never what strangers wrote, so that their number is bounded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from jetstream_pipeline import __version__
from jetstream_pipeline.metrics.lake import LakeReadings, Snapshot
from jetstream_pipeline.storage.summary import WindowState

_KEPT_SEC = 5.0
"""Scrapes that come sooner see the same."""


class LakeCollector(Collector):
    """Reads at scrape time, once for scrapes that come together."""

    def __init__(self, readings: LakeReadings, kept_sec: float = _KEPT_SEC) -> None:
        self._readings = readings
        self._kept_sec = kept_sec
        self._lock = threading.Lock()
        self._families: list[Metric] = []
        self._until = 0.0

    def describe(self) -> Iterable[Metric]:
        """Nothing is read to be registered."""
        return ()

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            if time.monotonic() >= self._until:
                began = time.monotonic()
                snapshot = self._readings.read()
                seconds = time.monotonic() - began
                self._families = [*families(snapshot), _gauge("exporter_read_seconds", "Time that it took.", seconds)]
                self._until = time.monotonic() + self._kept_sec
            return self._families


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """Every figure of a snapshot."""
    yield InfoMetricFamily("jetstream_pipeline", "What reads the lake.", {"version": __version__})
    yield from _streams(snapshot)
    yield from _newest(snapshot)
    yield _by(
        "quarantined_messages",
        "Messages that could not be read, by stream or queue.",
        "name",
        snapshot.quarantined,
    )
    yield from _queues(snapshot)
    yield _gauge("staged_windows", "Windows of which something lies in staging: under way, or left.", snapshot.staged)
    yield _gauge("data_free_bytes", "Room in the data directory's file system.", snapshot.free_bytes)
    yield _gauge("data_size_bytes", "Size of the data directory's file system.", snapshot.size_bytes)


def _streams(snapshot: Snapshot) -> Iterator[Metric]:
    streams = snapshot.streams
    windows = GaugeMetricFamily("jetstream_windows", "Windows in the lake, by state.", labels=["stream", "state"])
    for name, figures in streams.items():
        for state in WindowState:
            windows.add_metric([name, state.value], figures.windows[state])
    yield windows
    unreadable = {name: one.unreadable for name, one in streams.items()}
    missing = {name: one.missing for name, one in streams.items() if one.missing is not None}
    lost = {name: one.lost for name, one in streams.items() if one.lost is not None}
    yield _by("unreadable_windows", "Windows whose files are damaged.", "stream", unreadable)
    yield _by("missing_windows", "Windows that lack, and that hosts still have.", "stream", missing)
    yield _by("lost_windows", "Windows that lack, and that no host's stream has any more.", "stream", lost)
    yield _by("lake_events", "Events of whole windows.", "stream", {name: one.events for name, one in streams.items()})
    yield _by("lake_bytes", "Bytes of whole windows.", "stream", {name: one.bytes for name, one in streams.items()})


def _newest(snapshot: Snapshot) -> Iterator[Metric]:
    """Of each stream's newest whole window: over time, these are the figures of all of them."""
    newest = {name: one.newest for name, one in snapshot.streams.items() if one.newest}
    ends = {name: window.end.timestamp() for name, window in newest.items()}
    yield _by("newest_window_end_timestamp_seconds", "When the newest whole window ends.", "stream", ends)
    yield _by("newest_window_events", "Its events.", "stream", {name: one.events for name, one in newest.items()})
    yield _by(
        "newest_window_bytes",
        "Its file's size.",
        "stream",
        {name: snapshot.streams[name].newest_bytes for name in newest},
    )
    seconds = {name: one.seconds for name, one in newest.items()}
    yield _by("newest_window_replay_seconds", "How long its replay took.", "stream", seconds)
    messages = {name: one.quarantined for name, one in newest.items()}
    yield _by("newest_window_quarantined_messages", "Messages of it that could not be read.", "stream", messages)


def _queues(snapshot: Snapshot) -> Iterator[Metric]:
    up = GaugeMetricFamily("jetstream_queue_up", "Whether the queue could be read.", labels=["queue"])
    items = GaugeMetricFamily("jetstream_queue_items", "Items in a queue, by status.", labels=["queue", "status"])
    added = CounterMetricFamily("jetstream_queue_added", "Items that were ever added.", labels=["queue"])
    gone = CounterMetricFamily("jetstream_queue_acknowledged", "Items that consumers were done with.", labels=["queue"])
    size = GaugeMetricFamily("jetstream_queue_bytes", "Size of a queue's file.", labels=["queue"])
    oldest = GaugeMetricFamily(
        "jetstream_queue_oldest_pending_timestamp_seconds",
        "When the oldest item that waits was added.",
        labels=["queue"],
    )
    for name, stats in snapshot.queues.items():
        up.add_metric([name], float(stats is not None))
        if stats is None:
            continue
        for status in ("pending", "claimed", "expired", "dead"):
            items.add_metric([name, status], getattr(stats, status))
        added.add_metric([name], stats.added)
        gone.add_metric([name], stats.acknowledged)
        size.add_metric([name], stats.size_bytes)
        if stats.oldest_pending_at:
            oldest.add_metric([name], stats.oldest_pending_at.timestamp())
    yield from (up, items, added, gone, size, oldest)


def _by(name: str, meaning: str, label: str, values: dict[str, int] | dict[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"jetstream_{name}", meaning, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"jetstream_{name}", meaning, value=value)
