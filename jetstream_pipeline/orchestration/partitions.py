"""How time is cut into Dagster's partitions, and which windows a run is about."""

import dagster as dg

from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.window import PARTITION_KEY_FORMAT, Window


def hourly(stream: Stream) -> dg.HourlyPartitionsDefinition:
    """One partition for each finished hour of the stream, UTC."""
    return dg.HourlyPartitionsDefinition(stream.first_hour(), timezone="UTC", fmt=PARTITION_KEY_FORMAT)


def windows_of(context: dg.AssetExecutionContext) -> list[Window]:
    """The windows that a run was asked for, oldest first."""
    return sorted(Window.from_key(key) for key in context.partition_keys)
