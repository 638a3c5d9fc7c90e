"""Cases for the doctor, and what it finds in them."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from jetstream_pipeline.doctor.case import Case
from jetstream_pipeline.doctor.examine import Examination
from jetstream_pipeline.doctor.finding import Finding, Severity
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.window import Window

NOW = datetime(2026, 7, 4, 20, 30, tzinfo=UTC)
DEAD = "ws://127.0.0.1:1"


def hours_before(number: int) -> Window:
    """The hour that ended so many hours before the one that goes on at NOW."""
    return Window.hour(NOW - timedelta(hours=number + 1))


def case(
    data: DataDirectory,
    *,
    now: datetime | None = NOW,
    environment: Mapping[str, str] | None = None,
    start: datetime | None = None,
    seconds: float = 20.0,
    declared: bool = True,
    **settings: Any,
) -> Case:
    """A case with the stream `network`. `now`: None for the real one."""
    read = Settings.model_validate({"data_dir": data.root, "hosts": DEAD, **settings})
    stream = Stream(name="network", settings=read, hosts=read.parsed_hosts(), start=start)
    clock = {"clock": lambda: now} if now else {}
    return Case(read, (stream,) if declared else (), environment or {}, seconds, **clock)


def found(examination: Examination, case: Case) -> list[tuple[Severity, str]]:
    return [(finding.severity, finding.text) for finding in examination(case)]


def worst(findings: list[Finding]) -> Severity:
    order = list(Severity)
    return max((finding.severity for finding in findings), key=order.index)
