"""The command line: how commands are found, and how their failures are told. The commands are in modules beside it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module
from textwrap import fill

import click

from jetstream_pipeline import __version__
from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.settings import described

_NAME = "jetstream-pipeline"


_COMMANDS = (
    *("archive", "compact", "demo", "doctor", "iceberg", "metrics", "prune-runs", "quarantine", "queue"),
    *("replay", "retain", "simulate", "sql", "stream", "verify"),
)
"""Each is in the module of its name, which is imported when it is asked for: not every command pays for Dagster."""


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command = getattr(import_module(f"jetstream_pipeline.cli.{name}"), name)
        assert isinstance(command, click.Command)
        return command

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = described()
        # Two spaces before and after the names. Wrapped here: click would break hosts' names at their hyphens.
        width = formatter.width - max(len(name) for name, _, _ in rows) - 4
        with formatter.section("Environment"):
            formatter.write_dl(
                [
                    (name, "\b\n" + fill(f"{meaning} Default: {default or 'none'}", width, break_on_hyphens=False))
                    for name, meaning, default in rows
                ]
            )


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="jetstream_pipeline")
def cli() -> None:
    """The Bluesky network's public events as hourly tables to query with SQL."""


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
        _drop_output()
        sys.exit(1)
    except OSError as error:
        _drop_output()
        click.echo(f"{name}: the system refuses: {error}; mend that and try again", err=True)
        sys.exit(2)


def _drop_output() -> None:
    """Whoever read our output has seen enough, or there is no room for it: what is buffered must not fail at exit."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
