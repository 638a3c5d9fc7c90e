"""What Dagster loads."""

from jetstream_pipeline.orchestration.build import build_definitions
from jetstream_pipeline.settings import Settings

defs = build_definitions(Settings.read())
