"""What can go wrong where events enter a queue. That a file is damaged, or a queue held by others, is `storage`'s."""

from jetstream_pipeline.errors import PipelineError


class FeedBusy(PipelineError):
    """Another run is feeding the same window into the same queue, or the queue was replaced meanwhile."""

    passing = True


class ListLost(PipelineError):
    """The queue holds events of a window, and which ones can no longer be told."""
