"""The asset checks of a stream's events. What is found is `quality`'s to say; here it becomes Dagster's."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

import dagster as dg

from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.orchestration.metadata import Metadata, figures
from jetstream_pipeline.quality.continuity import continuity
from jetstream_pipeline.quality.drift import drift
from jetstream_pipeline.quality.finding import Finding
from jetstream_pipeline.quality.freshness import freshness
from jetstream_pipeline.quality.quarantine import quarantine_share
from jetstream_pipeline.quality.volume import volume
from jetstream_pipeline.quality.windows import Windows
from jetstream_pipeline.storage.summary import WindowSummary
from jetstream_pipeline.streams.catching_up import Known, Plan, plan
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.window import Window, spans

COMPLETE, CONTINUITY, VOLUME, QUARANTINE, SCHEMA = "complete", "continuity", "volume", "quarantine", "schema"
ICEBERG = "iceberg"
FRESHNESS, HISTORY = "freshness", "history"

_OF_WINDOWS = {
    COMPLETE: "The windows of the last run are proven to be complete.",
    CONTINUITY: "Nothing is missing between a window and its neighbours, as far as their rates tell.",
    VOLUME: "A window has about as many events, of each main collection too, as the same hour of the days before.",
    QUARANTINE: "At most one message in a thousand could not be read.",
    SCHEMA: "Records have the fields that their lexicon names; unknown collections and fields are counted.",
}
_OF_CATALOGUE = {ICEBERG: "The Iceberg table of the stream's events shows what the lake holds."}
_LookAt = Callable[[Window, WindowSummary], Finding]
_RANGES = 20
"""Of lost windows that are named."""


def events_checks(events: dg.AssetKey, *, catalogue: bool = False) -> list[dg.AssetCheckSpec]:
    """The checks that a run makes of its windows, and of its `catalogue` where one is set."""
    return [
        dg.AssetCheckSpec(name, asset=events, description=text, blocking=name == COMPLETE)
        for name, text in (_OF_WINDOWS | (_OF_CATALOGUE if catalogue else {})).items()
    ]


def check_keys(events: dg.AssetKey, *, catalogue: bool = False) -> list[dg.AssetCheckKey]:
    return [spec.key for spec in events_checks(events, catalogue=catalogue)]


def completeness(
    whole: Mapping[Window, WindowSummary],
    incomplete: Mapping[Window, WindowSummary],
    failed: Mapping[Window, PipelineError],
) -> dg.AssetCheckResult:
    """Whether all windows of a run are whole."""
    findings = {window: Finding(True, summary.reason) for window, summary in whole.items()}
    for window, summary in incomplete.items():
        findings[window] = Finding(False, f"{summary.state}: {summary.reason}")
    findings |= {window: Finding(False, str(error)) for window, error in failed.items()}
    return _result(COMPLETE, findings, dg.AssetCheckSeverity.ERROR)


def window_checks(stream: Stream, whole: Mapping[Window, WindowSummary]) -> Iterator[dg.AssetCheckResult]:
    """What else there is to say of a run's whole windows."""
    windows = Windows(stream.name, stream.data.lake)
    looks: dict[str, _LookAt] = {
        CONTINUITY: lambda window, summary: continuity(
            summary, windows.before(window), windows.after(window), stream.settings.host_skew
        ),
        VOLUME: lambda window, summary: volume(summary, windows.same_hour(window)),
        QUARANTINE: lambda _, summary: quarantine_share(summary),
        SCHEMA: lambda window, _: drift(stream.data.lake.events_path(stream.name, window)),
    }
    for name, look in looks.items():
        findings = {window: _found(look, window, summary) for window, summary in whole.items()}
        yield _result(name, findings, dg.AssetCheckSeverity.WARN)


def catalogue_check(lag: PipelineError | None) -> dg.AssetCheckResult:
    """Whether the catalogue has followed the run's windows. They stand nevertheless: the next one brings all along."""
    return dg.AssetCheckResult(
        check_name=ICEBERG,
        passed=lag is None,
        severity=dg.AssetCheckSeverity.WARN,
        description=str(lag) if lag else "the table shows what the lake holds",
    )


def _found(look: _LookAt, window: Window, summary: WindowSummary) -> Finding:
    """A window that cannot be looked at stands nevertheless: the run does not fail for it."""
    try:
        return look(window, summary)
    except PipelineError as error:
        return Finding(False, f"it could not be looked at: {error}")


def _result(name: str, findings: Mapping[Window, Finding], severity: dg.AssetCheckSeverity) -> dg.AssetCheckResult:
    """One result for all windows of a run: what one of them is found to be, or which of several fail."""
    metadata: Metadata = {"windows": dg.MetadataValue.int(len(findings))}
    failed = {window: finding for window, finding in findings.items() if not finding.passed}
    if len(findings) == 1:
        ((window, finding),) = findings.items()
        text = finding.text
        metadata |= {"window": dg.MetadataValue.text(window.key), **figures(finding.figures)}
    else:
        text = "; ".join(f"{window}: {finding.text}" for window, finding in list(failed.items())[:_RANGES])
        metadata["failed"] = dg.MetadataValue.int(len(failed))
    return dg.AssetCheckResult(
        check_name=name, passed=not failed, severity=severity, description=text or "all windows pass", metadata=metadata
    )


def standing_checks(stream: Stream, events: dg.AssetKey) -> dg.AssetChecksDefinition:
    """The checks of the stream as a whole. The catch-up sensor makes them too, every hour and whenever they change."""

    @dg.multi_asset_check(
        name=f"{stream.name}_standing_checks",
        specs=[
            dg.AssetCheckSpec(FRESHNESS, asset=events, description="The newest hour that has settled is there."),
            dg.AssetCheckSpec(HISTORY, asset=events, description="No hour since the stream's start is lost."),
        ],
        can_subset=True,
    )
    def checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        now = datetime.now(UTC)
        for evaluation in stream_checks(stream, events, _standing(stream, now), now):
            if evaluation.asset_check_key in context.selected_asset_check_keys:
                yield dg.AssetCheckResult(
                    check_name=evaluation.check_name,
                    asset_key=events,
                    passed=evaluation.passed,
                    severity=evaluation.severity,
                    description=evaluation.description,
                    metadata=evaluation.metadata,
                )

    return checks


def _standing(stream: Stream, now: datetime) -> Plan:
    """What is missing, whoever is at it."""
    known = Known(stream.data.lake.whole(stream.name), frozenset(), {})
    settings = stream.settings
    return plan(stream.beginning(now), now, known, settle=settings.settle, look_back=settings.look_back, most=0)


def stream_checks(stream: Stream, events: dg.AssetKey, planned: Plan, now: datetime) -> list[dg.AssetCheckEvaluation]:
    """Whether the newest hour is there, and whether any is lost."""
    newest = Windows(stream.name, stream.data.lake).newest()
    fresh = freshness(newest.end if newest else None, now, stream.settings.settle)
    lost = planned.lost
    told = f"{len(lost)} hours are lost, no host keeps events for so long: {_ranges(lost)}" if lost else "none is lost"
    history = Finding(not lost, told, {"lost": len(lost), "missing": len(planned.ask) + len(planned.waiting)})
    return [
        dg.AssetCheckEvaluation(
            asset_key=events,
            check_name=name,
            passed=finding.passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=finding.text,
            metadata=figures(finding.figures),
        )
        for name, finding in ((FRESHNESS, fresh), (HISTORY, history))
    ]


def _ranges(windows: tuple[Window, ...]) -> str:
    """Windows in order, those that follow each other taken together."""
    ranges = spans(windows)
    told = [f"{span.start:%Y-%m-%d %H:%M} to {span.end:%Y-%m-%d %H:%M}" for span in ranges[:_RANGES]]
    return ", ".join(told) + (f" and {len(ranges) - _RANGES} more" if len(ranges) > _RANGES else "")
