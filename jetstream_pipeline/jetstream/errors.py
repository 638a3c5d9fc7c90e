"""What can go wrong between us and a host."""

from jetstream_pipeline.errors import InvalidInput, PipelineError


class JetstreamError(PipelineError):
    """A host could not be reached, or did not keep to the protocol."""

    passing = True


class Busy(JetstreamError):
    """The host is there and asks to be left alone for a while."""


class NotOffered(JetstreamError):
    """The host does not speak the wire that it was asked for."""


class RetiredDictionary(JetstreamError):
    """The host has another compression dictionary by now."""


class CursorTooOld(JetstreamError):
    """The host no longer has the sequence number that it was asked for."""


class Refused(InvalidInput):
    """The host understood the request and refused it: asking again will not help."""
