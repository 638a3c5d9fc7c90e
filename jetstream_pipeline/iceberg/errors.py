"""What can go wrong with a catalogue of tables, and how it is told."""

from jetstream_pipeline.errors import PipelineError


class CatalogueError(PipelineError):
    """The catalogue, or what a table's metadata lead to, cannot be read or written. The lake is as it was."""

    passing = True
