"""What can go wrong with disks, and how it is told."""

from jetstream_pipeline.errors import PipelineError


class StorageError(PipelineError):
    """A file or directory of the data directory, or an object of the lake, cannot be read or written."""


class StoreBusy(StorageError):
    """The object store does not answer, or asks to be asked later."""

    passing = True


class Damaged(StorageError):
    """A file is there and can be read, and is not what was written."""


class WindowBusy(StorageError):
    """Another run is replaying the same window of the same stream right now."""

    passing = True
