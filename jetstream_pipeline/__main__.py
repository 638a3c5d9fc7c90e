"""`python -m jetstream_pipeline` is the command line."""

from jetstream_pipeline.cli.main import main

main()
