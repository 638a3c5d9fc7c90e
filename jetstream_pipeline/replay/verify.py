"""The use case: a window that stands, held against a second host; what the first one lacked is merged in."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ConfigDict

from jetstream_pipeline.errors import InvalidInput, PipelineError
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.server import Options
from jetstream_pipeline.replay.amending import Changed, amend, rows, standing
from jetstream_pipeline.replay.comparison import Comparison, Lack, compare
from jetstream_pipeline.replay.reading import Progress, Source, read_window
from jetstream_pipeline.replay.replay import HOST_SKEW, SETTLE, check_settled
from jetstream_pipeline.replay.seams import Seams
from jetstream_pipeline.replay.streams import subscription_of
from jetstream_pipeline.storage.files import exists
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.staging import StagedWindow, staged
from jetstream_pipeline.storage.summary import Counts, Verification, WindowState, WindowSummary, read_summary
from jetstream_pipeline.window import Window, span_us

_ATTEMPTS = 3
_UNFIT = re.compile(r"[^A-Za-z0-9.-]")


class HostReport(BaseModel):
    """What the comparison with one host brought."""

    model_config = ConfigDict(frozen=True)

    host: str
    agreed: bool
    lacking_here: Lack | None = None
    """What the window lacked until then; it was merged in. None where the host could not be compared with."""
    lacking_there: Lack | None = None
    """What that host lacks."""
    note: str | None = None
    """Why the host could not be compared with."""


class Report(BaseModel):
    """What the verification of one window brought."""

    model_config = ConfigDict(frozen=True)

    summary: WindowSummary
    hosts: tuple[HostReport, ...]
    blind: tuple[str, ...]
    """Hosts that lack more than a few events of the window, the window's own among them."""

    @property
    def repaired(self) -> int:
        return sum(report.lacking_here.events for report in self.hosts if report.lacking_here)


def verify_window(
    stream: str,
    window: Window,
    *,
    hosts: Sequence[Host],
    data: DataDirectory,
    settle: timedelta = SETTLE,
    skew: timedelta = HOST_SKEW,
    options: Options | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Compare a whole window with other hosts than its own, in the order given, until one of them agrees.

    What the window lacks of a host's events is merged in. A host agrees that lacks nothing of the window; then the
    window is verified. InvalidInput where there is no whole window, or no second host, JetstreamError where none of
    them can be reached.
    """
    check_settled(window, settle)
    subscription = subscription_of(data, stream)
    summary = _standing_summary(data, stream, window, subscription.fingerprint)
    own = summary.host.split(",")
    others = [host for host in hosts if host.name not in own]
    if not others:
        raise InvalidInput(f"{stream} {window} came from {summary.host}; name another host to hold it against")
    reports: list[HostReport] = []
    failure: PipelineError | None = None
    for host in others:
        source = Source(subscription, [host], span_us(skew), options or Options())
        try:
            summary, report = _verify_on(stream, window, source, data, on_progress)
        except PipelineError as error:
            if isinstance(error, Changed) or not (error.passing or isinstance(error, InvalidInput)):
                raise
            failure, report = error, HostReport(host=host.name, agreed=False, note=str(error))
        reports.append(report)
        if report.agreed:
            break
    if failure and all(report.note for report in reports):
        raise failure
    return Report(summary=summary, hosts=tuple(reports), blind=_blind(summary, reports))


def _standing_summary(data: DataDirectory, stream: str, window: Window, fingerprint: str) -> WindowSummary:
    path = data.lake.events_path(stream, window)
    if not exists(path):
        raise InvalidInput(f"the lake holds no whole window {stream} {window}; replay it first")
    summary = read_summary(path)
    if summary.fingerprint != fingerprint:
        raise InvalidInput(f"{stream} {window} is of a filter that the stream no longer has; replay it first")
    return summary


def _verify_on(
    stream: str,
    window: Window,
    source: Source,
    data: DataDirectory,
    on_progress: Callable[[Progress], None] | None,
) -> tuple[WindowSummary, HostReport]:
    (host,) = source.hosts
    with staged(data, stream, window, f"verifying-{_UNFIT.sub('_', host.name)}") as files:
        evidence = read_window(window, source, files, on_progress)
        state, reason = evidence.verdict(window)
        if not state.is_whole:
            files.discard()
            summary = _standing_summary(data, stream, window, source.subscription.fingerprint)
            return summary, HostReport(host=host.name, agreed=False, note=reason)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                summary, comparison = _settle(stream, window, source, data, files)
                break
            except Changed:
                if attempt == _ATTEMPTS:
                    raise
        files.discard()
    return summary, HostReport(
        host=host.name,
        agreed=comparison.lacking_there.events == 0,
        lacking_here=comparison.lacking_here,
        lacking_there=comparison.lacking_there,
    )


def _settle(
    stream: str, window: Window, source: Source, data: DataDirectory, files: StagedWindow
) -> tuple[WindowSummary, Comparison]:
    """Compare, and write down what came of it."""
    (host,) = source.hosts
    fingerprint = source.subscription.fingerprint
    found = standing(data, stream, window)
    before = _standing_summary(data, stream, window, fingerprint)
    seams = Seams.read(data.lake, stream, window, fingerprint, source.skew_us)
    path = data.lake.events_path(stream, window)
    comparison = compare(rows(path), files.events, seams)
    here, there = comparison.lacking_here, comparison.lacking_there
    verification = Verification(
        host=host.name,
        compared_at=datetime.now(UTC),
        compared=there.of,
        repaired=here.events,
        lacking_there=there.events,
        agreed=there.events == 0,
    )

    def describe(counts: Counts) -> WindowSummary:
        return before.model_copy(
            update={
                **counts.model_dump(),
                "state": WindowState.VERIFIED if verification.agreed else before.state,
                "reason": f"{host.name} has the same events" if verification.agreed else before.reason,
                "repaired": before.repaired + here.events,
                "verifications": (*before.verifications, verification),
            }
        )

    return amend(data, stream, window, found, comparison.insertions, describe, files.folder), comparison


def _blind(summary: WindowSummary, reports: Sequence[HostReport]) -> tuple[str, ...]:
    blind = [report.host for report in reports if report.lacking_there and report.lacking_there.is_blindness]
    if any(report.lacking_here and report.lacking_here.is_blindness for report in reports):
        blind += summary.host.split(",")
    return tuple(dict.fromkeys(blind))
