"""How a user declares a stream: the fields of its YAML, each with its check and its meaning. What is made of a stream
in Dagster is `build`'s.

A check is part of its field's type, so that Dagster tells a mistake with file, line and field.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from jetstream_pipeline.errors import InvalidInput, PipelineError
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.feeding.feed import OPERATIONS, Feed
from jetstream_pipeline.handles.syntax import parse_handle
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.subscription import KINDS, Subscription, overlap
from jetstream_pipeline.orchestration.reports import REPORT
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.lake import EVENTS, INCOMPLETE, check_name
from jetstream_pipeline.streams.ad_hoc import PREFIX
from jetstream_pipeline.streams.did_file import read_dids
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.window import Window, parse_time

_TABLES = {table.name: table for table in TABLES}
_RESERVED = {EVENTS, INCOMPLETE, REPORT, *_TABLES, "tables", "verification", "backfill"}
"""What assets and jobs of a stream are called."""
_E_MAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")


def _checked(check: Callable[[str], object]) -> AfterValidator:
    """A field's check: what is wrong is told in our own words. A template is checked when it has become a value."""

    def checked(value: Any) -> Any:
        if value is not None and not _is_template(value):
            try:
                check(value)
            except PipelineError as error:
                raise ValueError(str(error)) from None
        return value

    return AfterValidator(checked)


def _is_template(value: object) -> bool:
    return isinstance(value, str) and "{{" in value


def _one_of(what: str, known: tuple[str, ...]) -> Callable[[str], None]:
    def check(value: str) -> None:
        if value not in known:
            raise ValueError(f"{value!r} is not {what}; write {', '.join(known)}")

    return check


def _check_stream(name: str) -> None:
    check_name(name)
    _check_prefix(name)


def _check_prefix(name: str) -> None:
    if f"{name}_".startswith(PREFIX):
        raise ValueError(f"{name!r}: names that begin with {PREFIX} are those of replays from the launchpad")


def _check_queue(name: str) -> None:
    check_name(name, "queue")
    if name in _RESERVED:
        raise ValueError(f"{name!r} is the name of another asset or job of the stream; choose another")
    _check_prefix(name)


def _check_different(queues: Any) -> Any:
    if isinstance(queues, str) and not _is_template(queues):
        raise ValueError("write a list of queues, each with its name")
    names = Counter(queue.name for queue in queues if not isinstance(queues, str))
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"{twice[0]!r} stands there twice; a stream feeds a queue by one filter")
    return queues


def _check_number(value: Any) -> Any:
    """YAML's true is no number, though Python's is."""
    if isinstance(value, bool):
        raise ValueError("write a number")
    return value


def _check_between(least: int, most: int) -> AfterValidator:
    def check(value: Any) -> Any:
        if isinstance(value, int) and not least <= value <= most:
            raise ValueError(f"{value} is not between {least} and {most}")
        return value

    return AfterValidator(check)


def _on_the_hour(text: str) -> None:
    moment = parse_time(text)
    if moment != Window.hour(moment).start:
        raise ValueError(f"{text!r} is not on the hour; write 2026-01-31 or 2026-01-31-14:00 (UTC)")


def _check_owner(owner: str) -> None:
    if not (_E_MAIL.fullmatch(owner) or owner.removeprefix("team:").strip() not in ("", owner)):
        raise ValueError(f"{owner!r} is no owner; write an e-mail address, or team:name")


def _means(text: str) -> dg.Resolver:
    """A field's meaning as the component's schema keeps it, for editors."""
    return dg.Resolver.default(description=text)


StreamName = Annotated[str, _checked(_check_stream)]
QueueName = Annotated[str, _checked(_check_queue)]
Collection = Annotated[str, _checked(lambda value: Subscription(collections=(value,)))]
Did = Annotated[str, _checked(lambda value: Subscription(dids=(value,)))]
Handle = Annotated[str, _checked(lambda value: parse_handle(value, development=True))]
HostName = Annotated[str, _checked(Host.parse)]
Kind = Annotated[str, _checked(_one_of("a kind of event", KINDS))]
Operation = Annotated[str, _checked(_one_of("an operation", OPERATIONS))]
TableName = Annotated[str, _checked(_one_of("a table", tuple(_TABLES)))]
WireName = Annotated[str | None, _checked(_one_of("a wire", tuple(wire.value for wire in Wire)))]
Hour = Annotated[str | None, _checked(_on_the_hour)]
Owner = Annotated[str, _checked(_check_owner)]
PerRun = Annotated[int | None, BeforeValidator(_check_number), _check_between(1, 24 * 31)]


class WrongDeclaration(InvalidInput):
    """What is wrong with a field beyond its own value; its text does not name the field."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


@contextmanager
def _told_of(field: str) -> Iterator[None]:
    try:
        yield
    except PipelineError as error:
        raise WrongDeclaration(field, str(error)) from None


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
    wire: Annotated[WireName, _means("v1 or v2. Default: v2 where a host offers it.")] = None
    compression: Annotated[bool, _means("Ask hosts for zstd.")] = False
    start: Annotated[
        Hour, _means("The first hour, UTC. Default: JETSTREAM_FIRST_HOUR, the oldest data, two days ago.")
    ] = None
    tables: Annotated[
        list[TableName] | None,
        _means("Typed tables to derive; [] for none. Default: those of the collections."),
    ] = None
    queues: Annotated[
        list[QueueDeclaration],
        AfterValidator(_check_different),
        _means("Queues that the stream's windows feed."),
    ] = []
    report: Annotated[bool, _means("Make a report with pictures of each hour.")] = True
    windows_per_run: Annotated[PerRun, _means("Windows that one run of a backfill takes. Default: one.")] = None
    owners: Annotated[list[Owner], _means("E-mail addresses, or teams as team:name, shown as the assets' owners.")] = []

    def stream(self, settings: Settings, folder: Path) -> Stream:
        """The stream itself. `folder`: where the declaration lies, for paths in it. WrongDeclaration where its parts do
        not go together, or a file that it names is wrong."""
        collections = settings.collections if self.collections is None else tuple(self.collections)
        file = folder / self.dids_file if self.dids_file else None
        with _told_of("collections"):
            Subscription(collections)
        with _told_of("dids_file"):
            named = _named_in(file) if file else []
        with _told_of("dids_file" if file else "dids"):
            Subscription(dids=(*self.dids, *named))
        with _told_of("handles"):
            for handle in self.handles:
                parse_handle(handle, development=settings.endpoints().development)
        self._check_uses(collections)
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
            feeds=tuple(queue.feed() for queue in self.queues),
            report=self.report,
            windows_per_run=self.windows_per_run,
            owners=tuple(self.owners) or Stream.owners,
        )

    def _check_uses(self, collections: tuple[str, ...]) -> None:
        """WrongDeclaration where a table or a queue waits for what the stream does not have."""
        for name in self.tables or ():
            if not _TABLES[name].is_of(collections):
                raise WrongDeclaration("tables", f"{name} is of {_TABLES[name].collection}, which the stream has not")
        for queue in self.queues:
            for name in queue.collections:
                if collections and not any(overlap(name, one) for one in collections):
                    raise WrongDeclaration("queues", f"{queue.name} waits for {name}, which the stream has not")
