"""The job that makes days of a stream's small windows, and its daily schedule. Which days is `tables.compaction`'s."""

from collections import Counter
from datetime import UTC, datetime

import dagster as dg

from jetstream_pipeline.iceberg.following import follow
from jetstream_pipeline.orchestration.daily import daily
from jetstream_pipeline.orchestration.failures import told_to_dagster
from jetstream_pipeline.orchestration.metadata import figures
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.warehouse.database import refresh

_DAILY = "53 3 * * *"
_TOLD = 20
"""Days whose reason to stay a run's log names."""


def compaction_definitions(stream: Stream) -> dg.Definitions:
    """`<stream>_compaction` and `<stream>_compaction_daily`, for a stream that declares it."""

    @dg.op(
        name=f"{stream.name}_compact",
        out=dg.Out(dg.Nothing),
        description="Makes one file for each data set of the days that are old enough.",
    )
    def compact(context: dg.OpExecutionContext) -> None:
        made: Counter[str] = Counter(days=0, files_before=0, bytes_before=0, bytes=0, days_kept=0)
        with told_to_dagster(context):
            # What its tables still show is not to be removed.
            _follow(stream)
            # Before windows' files of days are removed, the views look for days.
            refresh(stream.data)
            for done in stream.compact(datetime.now(UTC)):
                if done.kept is None:
                    made.update(days=1, files_before=done.files, bytes_before=done.bytes_before, bytes=done.bytes)
                    refresh(stream.data)
                    continue
                made.update(days_kept=1)
                if made["days_kept"] <= _TOLD:
                    context.log.warning(f"{done.day} stays as it is: {done.kept}")
            refresh(stream.data)
            _follow(stream)
        context.add_output_metadata(figures(made))

    return daily(stream, "compaction", compact, _DAILY, "Makes one file for each data set of the stream's older days.")


def _follow(stream: Stream) -> None:
    if lag := follow(stream.settings.iceberg, stream.data, stream.name):
        raise lag
