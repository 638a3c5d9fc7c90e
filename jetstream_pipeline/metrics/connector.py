"""The figures of a connector's run under the names by which Prometheus knows them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from jetstream_pipeline.connector.statistics import Progress
from jetstream_pipeline.events.schema import ACCOUNT, COMMIT, IDENTITY, SYNC
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.queue.queue import Queue

_QUEUE_KEPT_SEC = 5.0
"""Between two looks into the queue, which holds up whoever writes to it."""
_PREFIX = "jetstream_connector"
_KINDS = (COMMIT, IDENTITY, ACCOUNT, SYNC)
"""Hosts may send others, whose names are not ours to choose."""


class ConnectorCollector(Collector):
    """Give its `show` to a run as `on_progress`, and register it. `queue`: whose items are counted too."""

    def __init__(self, queue: Queue | None = None) -> None:
        self._queue = queue
        self._progress = Progress(0, 0, 0, 0.0, 0)
        self._lock = threading.Lock()
        self._pending: int | None = None
        self._looked_at = float("-inf")

    def show(self, progress: Progress) -> None:
        self._progress = progress

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        progress = self._progress
        events = CounterMetricFamily(f"{_PREFIX}_events", "Events received, by kind.", labels=["kind"])
        known = {kind: progress.kinds.get(kind, 0) for kind in _KINDS}
        for kind, number in (known | {"other": sum(progress.kinds.values()) - sum(known.values())}).items():
            events.add_metric([kind], number)
        yield events
        counters = {
            "messages": ("Messages that hosts sent, repeats included.", progress.messages),
            "repeats": ("Events that came again and were recognised.", progress.repeats),
            "rejected_messages": ("Messages that could not be read.", progress.rejected),
            "reconnections": ("Connections after the first one.", progress.reconnections),
            "received_bytes": ("Bytes of the messages.", progress.bytes_received),
        }
        for name, (meaning, value) in counters.items():
            yield CounterMetricFamily(f"{_PREFIX}_{name}", meaning, value=value)
        if progress.position_us:
            position = progress.position_us / 1e6
            lag = max(time.time() - position, 0.0)
            yield GaugeMetricFamily(f"{_PREFIX}_lag_seconds", "How far the stream is behind now.", value=lag)
        pending = self._waiting()
        if pending is not None:
            yield GaugeMetricFamily(f"{_PREFIX}_queue_items", "Items that wait in the queue.", value=pending)

    def _waiting(self) -> int | None:
        with self._lock:
            if self._queue and time.monotonic() - self._looked_at >= _QUEUE_KEPT_SEC:
                try:
                    self._pending = self._queue.stats().pending
                except StorageError:
                    self._pending = None
                self._looked_at = time.monotonic()
            return self._pending
