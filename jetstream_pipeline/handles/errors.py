"""What can go wrong between a handle and its DID."""

from jetstream_pipeline.errors import InvalidInput, PipelineError


class UnresolvedHandles(InvalidInput):
    """Handles that are nobody's, or that their supposed account does not claim: asking again will not help."""


class HandlesUnreachable(PipelineError):
    """Handles that nobody could be asked about, or not everybody."""

    passing = True


class HandleCacheError(PipelineError):
    """The file of resolved handles could not be read or written."""


class SourceFailure(PipelineError):
    """One source's word against one handle, told within a larger text: hence no advice in it."""


class NotThere(SourceFailure):
    """The source answered, and the answer is no."""


class Unreachable(SourceFailure):
    """The source did not answer, or not in a way that says anything about the handle."""

    passing = True
