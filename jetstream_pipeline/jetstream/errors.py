"""What can go wrong between us and a host."""

from jetstream_pipeline.errors import InvalidInput, PipelineError


class JetstreamError(PipelineError):
    """A host could not be reached, or did not keep to the protocol."""

    passing = True


class Refused(InvalidInput):
    """The host understood the request and refused it: asking again will not help."""
