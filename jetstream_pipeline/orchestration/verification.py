"""The job that holds a stream's windows against a second host. Verifying is `replay`'s; here its result becomes
Dagster's."""

import dagster as dg

from jetstream_pipeline.orchestration.events import pool
from jetstream_pipeline.orchestration.failures import told_to_dagster
from jetstream_pipeline.orchestration.metadata import STREAM_TAG, Metadata, logged, materialization, window_metadata
from jetstream_pipeline.orchestration.partitions import hourly
from jetstream_pipeline.replay.verify import Report
from jetstream_pipeline.storage.lake import EVENTS
from jetstream_pipeline.storage.summary import WindowState
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.warehouse.database import refresh
from jetstream_pipeline.window import Window


def verification_job(stream: Stream, events: dg.AssetKey) -> dg.JobDefinition:
    """`<stream>_verification`: each partition compares one window with a host that it did not come from.

    A window that was repaired or verified is materialized anew, so that whatever consumes it sees it again.
    """

    @dg.op(
        name=f"{stream.name}_verify",
        description="Compares a window with a second host by the identity of each event, and merges in what it lacks.",
        out=dg.Out(dg.Nothing),
        pool=pool(stream),
    )
    def verify(context: dg.OpExecutionContext) -> None:
        window = Window.from_key(context.partition_key)
        with told_to_dagster(context):
            report = stream.verify(window, logged(context, window))
            refresh(stream.data)
        if lag := stream.follow(EVENTS):
            context.log.warning(str(lag))
        path = stream.data.lake.events_path(stream.name, window)
        metadata = window_metadata(report.summary, path) | _comparison(report)
        context.log_event(materialization(events, window, report.summary, metadata))
        if report.summary.state is not WindowState.VERIFIED:
            raise dg.Failure(
                f"{window} is not verified: no host that could be asked has all of its events",
                metadata=_comparison(report),
                allow_retries=False,
            )

    @dg.job(
        name=f"{stream.name}_verification",
        partitions_def=hourly(stream),
        description="Compares windows with a second host; what the first one lacked is merged in.",
        executor_def=dg.in_process_executor,
        tags={STREAM_TAG: stream.name},
    )
    def job() -> None:
        verify()

    return job


def _comparison(report: Report) -> Metadata:
    return {
        "compared_with": dg.MetadataValue.json([host.model_dump() for host in report.hosts]),
        "repaired_now": dg.MetadataValue.int(report.repaired),
        "blind_hosts": dg.MetadataValue.text(", ".join(report.blind) or "none"),
    }
