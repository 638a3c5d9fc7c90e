"""The job that deletes what is beyond a stream's limits, and its daily schedule. What goes is `retention`'s to say."""

from collections import Counter
from datetime import UTC, datetime

import dagster as dg

from jetstream_pipeline.iceberg.following import follow
from jetstream_pipeline.orchestration.daily import daily
from jetstream_pipeline.orchestration.failures import told_to_dagster
from jetstream_pipeline.orchestration.metadata import figures
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.warehouse.database import refresh

_DAILY = "23 3 * * *"
_TOLD = 20
"""Windows whose reason to stay a run's log names."""


def retention_definitions(stream: Stream) -> dg.Definitions:
    """`<stream>_retention` and `<stream>_retention_daily`, for a stream that declares limits."""

    @dg.op(name=f"{stream.name}_prune", out=dg.Out(dg.Nothing), description="Deletes what is beyond the limits.")
    def prune(context: dg.OpExecutionContext) -> None:
        deleted: Counter[str] = Counter(windows_deleted=0, bytes_deleted=0, windows_kept=0)
        with told_to_dagster(context):
            for pruned in stream.prune(datetime.now(UTC)):
                if pruned.kept is None:
                    deleted.update(windows_deleted=1, bytes_deleted=pruned.bytes)
                    continue
                deleted.update(windows_kept=1)
                if deleted["windows_kept"] <= _TOLD:
                    context.log.warning(f"{pruned.what} of {pruned.window} are {pruned.why}, but stay: {pruned.kept}")
            refresh(stream.data)
            if lag := follow(stream.settings.iceberg, stream.data, stream.name):
                raise lag
        context.add_output_metadata(figures(deleted))

    return daily(
        stream, "retention", prune, _DAILY, "Deletes the windows and tables that are beyond the stream's limits."
    )
