"""`jetstream-pipeline demo`: the whole pipeline over a simulated network, in a data directory of its own."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from jetstream_pipeline.cli.output import write_table
from jetstream_pipeline.demo.backfill import LOOPBACK, Home
from jetstream_pipeline.demo.programs import Program
from jetstream_pipeline.demo.ui import free_port, served, watch
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.settings import MAIN_STREAM, described
from jetstream_pipeline.simulator import Network, Simulator, running
from jetstream_pipeline.storage.files import locked, make_directory
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.warehouse.database import querying
from jetstream_pipeline.window import Window

_FOLDER = Path("data", "demo")
_HOURS = 3
_UI_HOURS = 24
_RATE = 20.0
_LIMIT_SEC = 240

_INGESTED = """
SELECT strftime(window_start, '%Y-%m-%d %H:%M') AS hour, state, events, round(events / seconds)::BIGINT AS "events/s",
       strftime(first_time, '%H:%M:%S.%f') AS first, strftime(last_time, '%H:%M:%S.%f') AS last,
       round(file_size / 1e6, 2) AS MB
FROM windows ORDER BY window_start"""
_QUESTIONS = (
    (
        "What does the network do?",
        "SELECT collection, count(*) AS events, count(DISTINCT did) AS accounts,\n"
        "       count(*) FILTER (operation = 'delete') AS deletes\n"
        "FROM events WHERE kind = 'commit' GROUP BY collection ORDER BY events DESC",
    ),
    (
        "Which posts of these hours were liked most?",
        "SELECT count(*) AS likes, any_value(posts.langs) AS langs, left(any_value(posts.text), 60) AS text\n"
        "FROM likes JOIN posts ON likes.subject_uri = posts.uri\n"
        "WHERE likes.operation = 'create' AND posts.operation = 'create'\n"
        "GROUP BY posts.uri ORDER BY likes DESC, posts.uri LIMIT 5",
    ),
    (
        "Who answers, in which language, and how soon?",
        "SELECT reply.langs[1] AS language, count(*) AS replies,\n"
        "       date_trunc('second', median(reply.time - post.time)) AS median_delay\n"
        "FROM posts AS reply JOIN posts AS post ON reply.reply_parent_uri = post.uri\n"
        "GROUP BY language HAVING replies > 1 ORDER BY replies DESC LIMIT 5",
    ),
)
_NEXT = """
Next, with JETSTREAM_DATA_DIR=data/demo:

  .venv/bin/jetstream-pipeline sql "SHOW TABLES"
  .venv/bin/jetstream-pipeline sql "SELECT text, langs, hashtags FROM posts WHERE hashtags != [] LIMIT 10"
  .venv/bin/jetstream-pipeline --help

And for the real network, into data/:

  make run    # Dagster's UI at http://127.0.0.1:3000"""


class _Ended(SystemExit):
    """Somebody ended us with a signal."""


@click.command(short_help="Backfill and query three hours of a simulated network.")
@click.option("--ui", is_flag=True, help="Then keep it all running, with Dagster's UI.")
@click.option("--port", type=click.IntRange(0, 65535), default=3000, show_default=True, help="The UI's; 0: any free.")
def demo(ui: bool, port: int) -> None:
    """Backfill the last three finished hours of a simulated network through Dagster, and query them.

    Everything goes to data/demo, which is emptied first; nothing is left running. With --ui the simulated network, the
    daemon and Dagster's UI on 127.0.0.1 stay until Ctrl-C, and its partitions are the last 24 hours.
    """
    began = time.monotonic()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    folder = _FOLDER.resolve()
    make_directory(folder.parent)
    with locked(folder.parent, InvalidInput(f"another demo is at work in {folder}; wait for it to end")):
        if ui:
            _serve(folder, began, free_port(port))
        else:
            with _ingested(folder, began):
                pass
            _tell(began, "done; the daemon and the simulated network have ended")
            _report(DataDirectory(folder))


def _end(number: int, _: object) -> None:
    raise _Ended(128 + number)


def _serve(folder: Path, began: float, port: int) -> None:
    with _ingested(folder, began, {"JETSTREAM_FIRST_HOUR": _hours_ago(_UI_HOURS).key}) as (home, daemon):
        _tell(began, "done; Dagster's UI starts")
        with served(home, port) as server:
            _report(DataDirectory(folder))
            click.echo(
                f"\nDagster's UI: http://{LOOPBACK}:{port} (Ctrl-C ends it, the daemon and the simulated network)"
            )
            with suppress(_Ended):
                watch([daemon, server])
    click.echo("\nEnded; nothing is left running.")


@contextmanager
def _ingested(folder: Path, began: float, variables: Mapping[str, str] = {}) -> Iterator[tuple[Home, Program]]:
    """A Dagster that has ingested the last hours, its daemon, and the network, for as long as the body runs."""
    shutil.rmtree(folder, ignore_errors=True)
    jobs = (f"{MAIN_STREAM}_events", f"{MAIN_STREAM}_tables")
    windows = [_hours_ago(number) for number in range(_HOURS + 1, 1, -1)]
    with running(Simulator(Network(rate=_RATE))) as simulator:
        _tell(began, f"a simulated network of {_RATE:g} events/s serves Jetstream at {simulator.address}")
        home = Home.create(folder / "dagster", {**_variables(folder, simulator.address), **variables})
        home.request_backfill(jobs[0], windows)
        _tell(began, f"asked Dagster to backfill {windows[0].key} to {windows[-1].key}; its daemon starts")
        with home.daemon() as daemon:
            for change in home.follow(daemon, jobs, len(windows), _LIMIT_SEC):
                _tell(began, change)
            yield home, daemon


def _hours_ago(number: int) -> Window:
    return Window.hour(datetime.now(UTC) - timedelta(hours=number))


def _variables(folder: Path, address: str) -> dict[str, str]:
    """The demo's settings, whatever the environment says.

    The schedule's minute is one that the demo does not meet; mostly one that is past, so that the UI can replay the
    newest hour.
    """
    defaults = {name: default for name, _, default in described()}
    minute = datetime.now(UTC).minute
    away = minute - 5 if minute >= 5 else minute + 30
    return defaults | {
        "JETSTREAM_DATA_DIR": str(folder),
        "JETSTREAM_HOSTS": address,
        "JETSTREAM_LOOK_BACK_HOURS": "0",
        "JETSTREAM_SETTLE_MINUTES": str(away),
    }


def _tell(began: float, text: str) -> None:
    click.echo(f"{time.monotonic() - began:4.0f} s  {text}")


def _report(data: DataDirectory) -> None:
    with querying(data) as connection:
        for title, query in (("What was ingested", _INGESTED), *_QUESTIONS):
            click.echo(f"\n{title}" if query == _INGESTED else f"\n{title}\n\n{query};")
            write_table(connection.sql(query))
    click.echo(f"\nThe data: {data.warehouse}\n{_NEXT}")
