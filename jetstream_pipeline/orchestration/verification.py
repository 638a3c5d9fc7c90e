"""The job that holds a stream's windows against a second host. Verifying is `replay`'s; here its result becomes
Dagster's."""

import dagster as dg

from jetstream_pipeline.orchestration.events import logged, window_metadata
from jetstream_pipeline.orchestration.failures import told_to_dagster
from jetstream_pipeline.orchestration.partitions import hourly
from jetstream_pipeline.replay.verify import Report, verify_window
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowState
from jetstream_pipeline.warehouse.database import refresh
from jetstream_pipeline.window import Window


def verification_job(stream: str, events: dg.AssetKey, settings: Settings) -> dg.JobDefinition:
    """`<stream>_verification`: each partition compares one window with a host that it did not come from.

    A window that was repaired or verified is materialized anew, so that whatever consumes it sees it again.
    """

    @dg.op(
        name=f"{stream}_verify",
        description="Compares a window with a second host by the identity of each event, and merges in what it lacks.",
        out=dg.Out(dg.Nothing),
        retry_policy=dg.RetryPolicy(max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.FULL),
    )
    def verify(context: dg.OpExecutionContext) -> None:
        window = Window.from_key(context.partition_key)
        with told_to_dagster():
            data = DataDirectory(settings.data_dir)
            report = verify_window(
                stream,
                window,
                hosts=settings.parsed_hosts(),
                data=data,
                settle=settings.settle,
                skew=settings.host_skew,
                on_progress=logged(context, window),
            )
            refresh(data)
        path = data.lake.events_path(stream, window)
        metadata = window_metadata(report.summary, path) | _comparison(report)
        context.log_event(dg.AssetMaterialization(events, partition=context.partition_key, metadata=metadata))
        if report.summary.state is not WindowState.VERIFIED:
            raise dg.Failure(
                f"{window} is not verified: no host that could be asked has all of its events",
                metadata=_comparison(report),
                allow_retries=False,
            )

    @dg.job(
        name=f"{stream}_verification",
        partitions_def=hourly(settings),
        description="Compares windows with a second host; what the first one lacked is merged in.",
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        verify()

    return job


def _comparison(report: Report) -> dict[str, dg.MetadataValue]:
    return {
        "compared_with": dg.MetadataValue.json([host.model_dump() for host in report.hosts]),
        "repaired_now": dg.MetadataValue.int(report.repaired),
        "blind_hosts": dg.MetadataValue.text(", ".join(report.blind) or "none"),
    }
