"""The command line: how commands are found, and how their failures are told. The commands are in modules beside it."""

from __future__ import annotations

import os
import sys

import click

from jetstream_pipeline import __version__
from jetstream_pipeline.cli.demo import demo
from jetstream_pipeline.cli.queue import queue
from jetstream_pipeline.cli.replay import replay
from jetstream_pipeline.cli.simulate import simulate
from jetstream_pipeline.cli.sql import sql
from jetstream_pipeline.cli.stream import stream
from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.settings import described

_NAME = "jetstream-pipeline"


class _Group(click.Group):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Environment"):
            formatter.write_dl(
                [(name, f"{meaning} Default: {default or 'none'}") for name, meaning, default in described()]
            )


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="jetstream_pipeline")
def cli() -> None:
    """The Bluesky network's public events as hourly tables to query with SQL."""


cli.add_command(demo)
cli.add_command(queue)
cli.add_command(replay)
cli.add_command(simulate)
cli.add_command(sql)
cli.add_command(stream)


def main() -> None:
    run(cli, _NAME)


def run(command: click.Command, name: str) -> None:
    """Run a command; what the user can mend is told in one line, with exit code 2."""
    try:
        sys.exit(command.main(prog_name=name, standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as shown:
        click.echo(shown.message)
        sys.exit(2)
    except (PipelineError, click.ClickException) as error:
        text = error.format_message() if isinstance(error, click.ClickException) else str(error)
        click.echo(f"{name}: {' '.join(text.split())}", err=True)
        sys.exit(2)
    except click.Abort:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has seen enough; what is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
