"""`python -m jetstream_pipeline.jetstream_cli …`: the command `stream`, by the name that its users know."""

from jetstream_pipeline.cli.main import run
from jetstream_pipeline.cli.stream import stream

if __name__ == "__main__":
    run(stream, "python -m jetstream_pipeline.jetstream_cli")
