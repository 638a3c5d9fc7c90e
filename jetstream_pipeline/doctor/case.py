"""What every examination is given: the settings, the streams, the moment, and how long it may take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.streams.stream import Stream


@dataclass(frozen=True)
class Case:
    """`streams` are the declared ones; the lake may hold others. `environment`: this process's variables. `seconds`:
    how long each examination may take, and a host to answer."""

    settings: Settings
    streams: tuple[Stream, ...]
    environment: Mapping[str, str]
    seconds: float
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    _began: float = field(default_factory=time.monotonic)

    @property
    def now(self) -> datetime:
        return self.clock()

    @property
    def data(self) -> DataDirectory:
        return self.settings.data

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Of the settings and of the streams, each once."""
        named = [*self.settings.parsed_hosts(), *(host for stream in self.streams for host in stream.hosts)]
        return tuple(dict.fromkeys(named))

    @property
    def names(self) -> list[str]:
        """The streams that are declared, or that the lake holds."""
        return list(dict.fromkeys([*(stream.name for stream in self.streams), *self.data.lake.streams()]))

    @property
    def is_late(self) -> bool:
        """Whether what takes long should come to an end."""
        return time.monotonic() - self._began > self.seconds * _SHARE


_SHARE = 0.8
"""Of the time: what is found by then is still told."""
