"""What may stand in a field of a stream's YAML: the types of the fields, each with its check. Which fields there are,
and what goes together, is `declaration`'s.

A check is part of the type, so that who checks a declaration (`loading`, Dagster, an editor) checks the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, Field

from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.feeding.feed import OPERATIONS
from jetstream_pipeline.handles.syntax import parse_handle
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.subscription import KINDS, Subscription
from jetstream_pipeline.orchestration.reports import REPORT
from jetstream_pipeline.retention.rules import MOST_DAYS
from jetstream_pipeline.storage.lake import EVENTS, INCOMPLETE, check_name
from jetstream_pipeline.streams.ad_hoc import PREFIX
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.window import Window, parse_time

_TABLES = tuple(table.name for table in TABLES)
_JOBS = (
    "tables",
    "verification",
    "backfill",
    "plan",
    "verify",
    "standing_checks",
    "retention",
    "prune",
    "compaction",
    "compact",
)
_RESERVED = {EVENTS, INCOMPLETE, REPORT, *_TABLES, *_JOBS}
"""What assets, jobs and ops of a stream are called."""
_E_MAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")
_MONTH_HOURS = 24 * 31


def is_template(value: object) -> bool:
    """Whether Dagster has yet to make a value of it."""
    return isinstance(value, str) and "{{" in value


def _checked(check: Callable[[str], object]) -> AfterValidator:
    """A field's check: what is wrong is told in our own words. A template is checked when it has become a value."""

    def checked(value: str) -> str:
        if not is_template(value):
            try:
                check(value)
            except PipelineError as error:
                raise ValueError(str(error)) from None
        return value

    return AfterValidator(checked)


def _one_of(what: str, known: tuple[str, ...]) -> AfterValidator:
    def check(value: str) -> None:
        if value not in known:
            raise ValueError(f"{value!r} is not {what}; write {', '.join(known)}")

    return _checked(check)


def _check_stream(name: str) -> None:
    check_name(name)
    _check_prefix(name)


def _check_queue(name: str) -> None:
    check_name(name, "queue")
    _check_prefix(name)
    if name in _RESERVED:
        raise ValueError(f"{name!r} is the name of another asset or job of the stream; choose another")


def _check_prefix(name: str) -> None:
    if f"{name}_".startswith(PREFIX):
        raise ValueError(f"{name!r}: names that begin with {PREFIX} are those of replays from the launchpad")


def _check_hour(text: str) -> None:
    moment = parse_time(text)
    if moment != Window.hour(moment).start:
        raise ValueError(f"{text!r} is not on the hour; write 2026-01-31 or 2026-01-31-14:00 (UTC)")


def _check_owner(owner: str) -> None:
    if not (_E_MAIL.fullmatch(owner) or owner.removeprefix("team:").strip() not in ("", owner)):
        raise ValueError(f"{owner!r} is no owner; write an e-mail address, or team:name")


StreamName = Annotated[str, _checked(_check_stream)]
QueueName = Annotated[str, _checked(_check_queue)]
Collection = Annotated[str, _checked(lambda value: Subscription(collections=(value,)))]
Did = Annotated[str, _checked(lambda value: Subscription(dids=(value,)))]
Handle = Annotated[str, _checked(lambda value: parse_handle(value, development=True))]
HostName = Annotated[str, _checked(Host.parse)]
Kind = Annotated[str, _one_of("a kind of event", KINDS)]
Operation = Annotated[str, _one_of("an operation", OPERATIONS)]
TableName = Annotated[str, _one_of("a table", _TABLES)]
WireName = Annotated[str, _one_of("a wire", tuple(wire.value for wire in Wire))]
Hour = Annotated[str, _checked(_check_hour)]
Owner = Annotated[str, _checked(_check_owner)]
WindowsPerRun = Annotated[int, Field(strict=True, ge=1, le=_MONTH_HOURS)]
"""Strict: to Python, though not to YAML, `true` is a number."""
Days = Annotated[int, Field(strict=True, ge=1, le=MOST_DAYS)]
Gigabytes = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
