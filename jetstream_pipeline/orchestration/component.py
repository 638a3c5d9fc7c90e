"""The component by which a user declares streams in YAML, and what `dg scaffold` writes for a new one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Self

import click
import dagster as dg
from pydantic import BaseModel, Field, ValidationError

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.orchestration.build import stream_definitions
from jetstream_pipeline.orchestration.declaration import StreamDeclaration
from jetstream_pipeline.settings import Settings

_SCAFFOLD = """\
# A stream of the network's events. Every field but `name` may be left out; `dg check defs` checks it.
type: {type}

attributes:
  name: {name}
  collections:            # NSIDs, or prefixes as app.bsky.graph.*; [] for all. Default: JETSTREAM_COLLECTIONS
{collections}
  # start: {start}     # the first hour, UTC. Default: JETSTREAM_FIRST_HOUR, the oldest data, or two days ago
  # dids: [did:plc:z72i7hdynmk6r22z27h6tvur]   # only these repositories; or one a line, in a file beside this one:
  # dids_file: dids.txt
  # handles: [bsky.app]   # only these accounts
  # hosts: [us-east, wss://jetstream.example.org]   # in the order of fail-over. Default: JETSTREAM_HOSTS
  # wire: v2              # v1 or v2. Default: v2 where a host offers it
  # compression: true     # ask hosts for zstd
  # tables: [posts]       # typed tables; [] for none. Default: of the collections, and of accounts
  # archive: true         # also every sealed segment of the host's archive, in the view archived_events
  # report: false         # no hourly report
  # retention:            # what is older, or beyond so much, is deleted once a day; but nothing that the copy lacks
  #   events: {{days: 90, gigabytes: 500}}
  #   tables: {{days: 365}}
  #   backed_up: /mnt/backup/lake
  # compact: {{after_days: 7}}   # then a day's windows become one file for each data set: for streams of small windows
  # windows_per_run: 24   # of a backfill. Default: one
  # owners: [team:research]
  # queues:               # each window's events enter these queues, once
  #   - name: {name}_queue
  #     collections: [app.bsky.feed.post]
  #     operations: [create]
"""


class _Parameters(BaseModel):
    collections: list[str] = Field(["app.bsky.feed.post"], description="What the stream holds.")


class _StreamScaffolder(dg.Scaffolder[_Parameters]):
    @classmethod
    def get_scaffold_params(cls) -> type[_Parameters]:
        return _Parameters

    def scaffold(self, request: dg.ScaffoldRequest[_Parameters]) -> None:
        name, collections = request.target_path.name, request.params.collections
        try:
            StreamDeclaration(name=name, collections=collections)
        except ValidationError as error:
            request.target_path.rmdir()
            raise click.ClickException(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        text = _SCAFFOLD.format(
            type=request.type_name,
            name=name,
            collections="\n".join(f"    - {collection}" for collection in collections) or "    []",
            start=f"{datetime.now(UTC):%Y-%m-%d}",
        )
        (request.target_path / "defs.yaml").write_text(text)


@dg.scaffold_with(_StreamScaffolder)
class StreamComponent(StreamDeclaration, dg.Component):
    """A stream of the Bluesky network's events, hour by hour: assets, checks, schedule and sensors."""

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        with _told_of_file(context):
            return super().load(attributes, context)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        settings = Settings.read()
        with _told_of_file(context):
            stream = self.stream(settings, context.path)
        return stream_definitions(stream)


@contextmanager
def _told_of_file(context: dg.ComponentLoadContext) -> Iterator[None]:
    """What a template becomes is known here and not before; `loading` has told all other mistakes, with their lines."""
    try:
        yield
    except Exception as error:
        raise InvalidInput(f"{context.path / 'defs.yaml'}: {' '.join(str(error).split())}") from error
