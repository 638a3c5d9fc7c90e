"""What Dagster loads: the declared streams, and what is there once."""

from pathlib import Path

import dagster as dg

from jetstream_pipeline.orchestration.build import common_definitions
from jetstream_pipeline.orchestration.loading import load_declared
from jetstream_pipeline.settings import Settings

defs = dg.Definitions.merge(load_declared(Path(__file__).parent), common_definitions(Settings.read()))
