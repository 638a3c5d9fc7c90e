"""How time is cut into Dagster's partitions."""

import dagster as dg

from jetstream_pipeline.settings import Settings
from jetstream_pipeline.window import PARTITION_KEY_FORMAT


def hourly(settings: Settings) -> dg.HourlyPartitionsDefinition:
    """One partition for each finished hour, UTC."""
    return dg.HourlyPartitionsDefinition(settings.first_hour, timezone="UTC", fmt=PARTITION_KEY_FORMAT)
