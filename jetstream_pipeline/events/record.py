"""An event as the user of the library sees it. On the way to Parquet events are columns; see `decode`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError, model_validator
from pydantic import computed_field as computed

from jetstream_pipeline.events.schema import COMMIT
from jetstream_pipeline.events.wires import MAX_TIME_US
from jetstream_pipeline.window import from_us

_Text = Annotated[StrictStr, Field(min_length=1)]


class _Lenient(BaseModel):
    """Fields that we do not know are kept, and change nothing."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Commit(_Lenient):
    """One operation on one record. A delete has neither `record` nor `cid`."""

    rev: _Text
    operation: Literal["create", "update", "delete"]
    collection: _Text
    rkey: _Text
    record: dict[str, Any] | None = None
    """The record, as its author's client wrote it: anything may be in it, or missing."""
    cid: StrictStr | None = None


class Identity(_Lenient):
    """A change of a handle or of a DID document."""

    did: StrictStr
    handle: StrictStr | None = None
    seq: StrictInt | None = None
    time: StrictStr | None = None


class Account(_Lenient):
    """A change of an account's status; `status` says why it is not active."""

    active: StrictBool
    did: StrictStr
    status: StrictStr | None = None
    seq: StrictInt | None = None
    time: StrictStr | None = None


class JetstreamRecord(_Lenient):
    """One event. `time_us`: when the host witnessed it, in unix microseconds."""

    did: _Text
    time_us: Annotated[StrictInt, Field(ge=0, le=MAX_TIME_US)]
    kind: Literal["commit", "identity", "account"]
    seq: StrictInt | None = None
    """The host's sequence number; None on old servers."""
    commit: Commit | None = None
    identity: Identity | None = None
    account: Account | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_collection(cls, values: Any) -> Any:
        """`collection` is the commit's, and not told twice."""
        if isinstance(values, dict) and "collection" in values:
            return {name: value for name, value in values.items() if name != "collection"}
        return values

    @model_validator(mode="after")
    def _check_body(self) -> JetstreamRecord:
        if getattr(self, self.kind) is None:
            raise ValueError(f"an event of kind {self.kind!r} without `{self.kind}`")
        return self

    @computed  # type: ignore[prop-decorator]
    @property
    def collection(self) -> str | None:
        """The commit's collection; None for other kinds."""
        return self.commit.collection if self.commit else None

    @property
    def uri(self) -> str | None:
        """The record's `at://` address; None unless a commit."""
        return f"at://{self.did}/{self.commit.collection}/{self.commit.rkey}" if self.commit else None

    @property
    def time(self) -> datetime:
        """`time_us` as a datetime, UTC."""
        return from_us(self.time_us)

    @classmethod
    def from_json(cls, text: str | bytes) -> JetstreamRecord:
        """Read a queue item's payload, or a v1 message. ValueError says what is wrong.

        Takes what `model_validate_json` does not: lone surrogates in a record, and deeper nesting.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            if error.errors()[0]["type"] != "json_invalid":
                raise
        try:
            return cls.model_validate(json.loads(text))
        except RecursionError:
            raise ValueError("nested too deeply") from None

    def to_json(self) -> str:
        """The event as JSON text, lone surrogates included; without what is None."""
        return json.dumps(self.model_dump(exclude_none=True))


def payloads(events: pa.RecordBatch) -> Iterator[str]:
    """Each event of a batch (`EVENT_SCHEMA`) as the JSON text of a `JetstreamRecord`, records exactly as received."""
    for row in events.to_pylist():
        head = {"did": row["did"], "time_us": row["time_us"], "kind": row["kind"], "seq": row["seq"]}
        if row["kind"] != COMMIT:
            yield f'{_open(head)},"{row["kind"]}":{row["payload"]}}}'
            continue
        commit = {name: row[name] for name in ("rev", "operation", "collection", "rkey", "cid")}
        record = "" if row["record"] is None else f',"record":{row["record"]}'
        yield f'{_open(head | {"collection": row["collection"]})},"commit":{_open(commit)}{record}}}}}'


def _open(values: dict[str, Any]) -> str:
    """A JSON object of what is not None, left open at its end."""
    return json.dumps({name: value for name, value in values.items() if value is not None}, separators=(",", ":"))[:-1]
