"""How a user declares a stream: the fields of its YAML, each with its meaning, and the stream that they make. What may
stand in a field is `declared_fields`'; what is made of a stream in Dagster is `build`'s."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
from pydantic import AfterValidator, BaseModel, ConfigDict

from jetstream_pipeline.errors import InvalidInput, PipelineError
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.feeding.feed import Feed
from jetstream_pipeline.handles.syntax import parse_handle
from jetstream_pipeline.jetstream.subscription import Subscription, overlap
from jetstream_pipeline.orchestration.declared_fields import (
    Collection,
    Days,
    Did,
    Gigabytes,
    Handle,
    HostName,
    Hour,
    Kind,
    Operation,
    Owner,
    QueueName,
    StreamName,
    TableName,
    WindowsPerRun,
    WireName,
)
from jetstream_pipeline.retention.rules import Limit, Retention
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.places import check_place
from jetstream_pipeline.streams.did_file import read_dids
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.window import parse_time

_COMPACT_DAYS = 7


class WrongDeclaration(InvalidInput):
    """What is wrong with a field beyond its own value."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field}: {text}")
        self.field = field


@contextmanager
def _told_of(field: str) -> Iterator[None]:
    try:
        yield
    except PipelineError as error:
        raise WrongDeclaration(field, str(error)) from None


def _means(text: str) -> dg.Resolver:
    """A field's meaning as the component's schema keeps it, for editors."""
    return dg.Resolver.default(description=text)


def _check_different(queues: Any) -> Any:
    """To Dagster, a text may stand for any list: a template."""
    names = Counter(queue.name for queue in queues if not isinstance(queues, str))
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"{twice[0]!r} stands there twice; a stream feeds a queue by one filter")
    return queues


def _named_in(file: Path) -> list[str]:
    named = read_dids(file)
    for did in named:
        try:
            Subscription(dids=(did,))
        except InvalidInput as error:
            raise InvalidInput(f"{file}: {error}") from None
    return named


class QueueDeclaration(BaseModel, dg.Resolvable):
    """A queue that the stream's windows feed, each event once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[QueueName, _means("The queue; made if it is missing.")]
    collections: Annotated[
        list[Collection], _means("Only these collections or prefixes (app.bsky.graph.*). Default: all.")
    ] = []
    dids: Annotated[list[Did], _means("Only these repositories. Default: all.")] = []
    kinds: Annotated[list[Kind], _means("Only commit, identity or account events. Default: all.")] = []
    operations: Annotated[
        list[Operation], _means("Only create, update or delete among the commits. Default: all.")
    ] = []

    def feed(self) -> Feed:
        return Feed(
            self.name,
            Subscription(tuple(self.collections), tuple(self.dids), tuple(self.kinds)),
            tuple(self.operations),
        )


class LimitDeclaration(BaseModel, dg.Resolvable):
    """How long data is kept, and how much of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: Annotated[Days | None, _means("What is older goes. Default: no limit.")] = None
    gigabytes: Annotated[Gigabytes | None, _means("What is beyond the newest 10^9 bytes goes. Default: no limit.")] = (
        None
    )

    def limit(self) -> Limit:
        return Limit(self.days, self.gigabytes)


class RetentionDeclaration(BaseModel, dg.Resolvable):
    """What is kept of a stream. What is beyond a limit is deleted once a day."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    events: Annotated[
        LimitDeclaration, _means("Of events, incomplete windows and quarantine together. Default: no limit.")
    ] = LimitDeclaration()
    tables: Annotated[LimitDeclaration, _means("Of all typed tables together. Default: no limit.")] = LimitDeclaration()
    backed_up: Annotated[
        str | None, _means("A copy of the lake: only what it holds is deleted. Default: nobody asks.")
    ] = None

    def retention(self) -> Retention:
        return Retention(self.events.limit(), self.tables.limit(), self.backed_up)


class CompactDeclaration(BaseModel, dg.Resolvable):
    """When the windows of a day become one file for each data set, once a day."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    after_days: Annotated[
        Days | None, _means("How many days after its end a day is made one file. Default: seven.")
    ] = None

    def after(self) -> timedelta:
        return timedelta(days=_COMPACT_DAYS if self.after_days is None else self.after_days)


class StreamDeclaration(BaseModel, dg.Resolvable):
    """A stream of the network's events: what its windows hold, where they come from, and what they feed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[StreamName, _means("The stream's name in paths, SQL and asset keys.")]
    collections: Annotated[
        list[Collection] | None,
        _means("Collections, or prefixes as app.bsky.graph.*; [] for all. Default: JETSTREAM_COLLECTIONS."),
    ] = None
    dids: Annotated[list[Did], _means("Only these repositories. Default: all.")] = []
    dids_file: Annotated[
        str | None, _means("A file that names repositories, one DID a line, beside the YAML or absolute.")
    ] = None
    handles: Annotated[list[Handle], _means("Only these accounts, by handle. Default: all.")] = []
    hosts: Annotated[
        list[HostName],
        _means("Hosts in the order of fail-over: names, ws:// or wss://. Default: JETSTREAM_HOSTS."),
    ] = []
    wire: Annotated[WireName | None, _means("v1 or v2. Default: v2 where a host offers it.")] = None
    compression: Annotated[bool, _means("Ask hosts for zstd.")] = False
    start: Annotated[
        Hour | None, _means("The first hour, UTC. Default: JETSTREAM_FIRST_HOUR, the oldest data, two days ago.")
    ] = None
    tables: Annotated[
        list[TableName] | None,
        _means("Typed tables to derive; [] for none. Default: those of the collections, and of accounts."),
    ] = None
    queues: Annotated[
        list[QueueDeclaration],
        AfterValidator(_check_different),
        _means("Queues that the stream's windows feed."),
    ] = []
    report: Annotated[bool, _means("Make a report with pictures of each hour.")] = True
    retention: Annotated[
        RetentionDeclaration, _means("How long events and tables are kept, and how much of them. Default: all.")
    ] = RetentionDeclaration()
    compact: Annotated[
        CompactDeclaration | None, _means("Make one file of each day's small windows. Default: each stays its own.")
    ] = None
    archive: Annotated[
        bool, _means("Read every sealed segment of the host's archive too, each as a partition of `archive`.")
    ] = False
    windows_per_run: Annotated[
        WindowsPerRun | None, _means("Windows that one run of a backfill takes. Default: one.")
    ] = None
    owners: Annotated[list[Owner], _means("E-mail addresses, or teams as team:name, shown as the assets' owners.")] = []

    def stream(self, settings: Settings, folder: Path) -> Stream:
        """The stream itself. `folder`: where the declaration lies, for paths in it. WrongDeclaration where its parts do
        not go together, or a file that it names is wrong."""
        collections = settings.collections if self.collections is None else tuple(self.collections)
        file = folder / self.dids_file if self.dids_file else None
        self._check_filter(settings, collections, file)
        self._check_uses(collections)
        self._check_retention()
        with _told_of("queues"):
            feeds = tuple(queue.feed() for queue in self.queues)
        return Stream(
            name=self.name,
            settings=settings,
            hosts=settings.parsed_hosts(self.hosts),
            collections=collections,
            dids=tuple(self.dids),
            dids_file=file,
            handles=tuple(self.handles),
            wire=Wire(self.wire) if self.wire else None,
            compression=self.compression,
            start=parse_time(self.start) if self.start else None,
            tables=tuple(
                table
                for table in TABLES
                if (table.name in self.tables if self.tables is not None else table.is_of(collections))
            ),
            feeds=feeds,
            report=self.report,
            retention=self.retention.retention(),
            compact_after=self.compact.after() if self.compact else None,
            archive=self.archive,
            windows_per_run=self.windows_per_run,
            owners=tuple(self.owners) or Stream.owners,
        )

    def _check_filter(self, settings: Settings, collections: tuple[str, ...], file: Path | None) -> None:
        """WrongDeclaration for what can be no filter, though each of its values can stand in one."""
        with _told_of("collections"):
            Subscription(collections)
        with _told_of("dids_file"):
            named = _named_in(file) if file else []
        with _told_of("dids_file" if file else "dids"):
            Subscription(dids=(*self.dids, *named))
        with _told_of("handles"):
            for handle in self.handles:
                parse_handle(handle, development=settings.endpoints().development)

    def _check_retention(self) -> None:
        if self.retention != RetentionDeclaration() and not self.retention.retention():
            raise WrongDeclaration("retention", "it names no limit; write events: {days: 90}, or tables, or gigabytes")
        with _told_of("retention"):
            check_place(self.retention.backed_up or "")

    def _check_uses(self, collections: tuple[str, ...]) -> None:
        """WrongDeclaration where a table or a queue waits for what the stream does not have."""
        for table in TABLES:
            if table.name in (self.tables or ()) and not table.is_of(collections):
                raise WrongDeclaration("tables", f"{table.name} is of {table.collection}, which the stream has not")
        for queue in self.queues:
            for name in queue.collections:
                if collections and not any(overlap(name, one) for one in collections):
                    raise WrongDeclaration("queues", f"{queue.name} waits for {name}, which the stream has not")
