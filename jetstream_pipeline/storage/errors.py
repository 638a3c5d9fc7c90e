"""What can go wrong with disks, and how it is told."""

from jetstream_pipeline.errors import PipelineError


class StorageError(PipelineError):
    """A file or directory of the data directory cannot be read or written."""


class WindowBusy(StorageError):
    """Another run is replaying the same window of the same stream right now."""

    passing = True
