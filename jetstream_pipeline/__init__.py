"""The Bluesky network's public events as hourly tables that are proven complete or say that they are not."""

from importlib.metadata import version as _version

__version__ = _version("jetstream_pipeline")
