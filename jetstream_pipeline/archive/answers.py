"""What the archive's endpoints answer, as models: fields that we do not know are ignored, impossible values are not."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from jetstream_pipeline.archive.client_errors import BadAnswer
from jetstream_pipeline.events.wires import MAX_TIME_US

LIST_LIMIT = 1_000
MAX_SEGMENT_BYTES = 2 * 1024**3
"""Several times what a server seals."""
_MAX_BLOCKS = 1_000_000
_INT64 = 2**63 - 1
_MIN_TIME_US = -62_135_596_800_000_000
"""The year 1: what lies further away is no date."""

_Seq = Annotated[int, Field(ge=0, le=_INT64)]
_Time = Annotated[int, Field(ge=_MIN_TIME_US, le=MAX_TIME_US)]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
_Checksum = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", alias_generator=to_camel)


class _Segment(_Answer):
    name: _Name
    index: Annotated[int, Field(ge=0, le=2**32 - 1)]
    checksum: _Checksum
    """Of its metadata, 16 hexadecimal characters: another one means another version of the file."""
    min_seq: _Seq
    max_seq: _Seq

    @model_validator(mode="after")
    def _check_bounds(self) -> _Segment:
        if self.min_seq > self.max_seq:
            raise ValueError("minSeq is greater than maxSeq")
        return self


class ListedSegment(_Segment):
    """A sealed segment, as listSegments names it."""

    size_bytes: Annotated[int, Field(ge=0, le=MAX_SEGMENT_BYTES)]
    event_count: Annotated[int, Field(ge=0, le=2**32 - 1)]
    min_witnessed_us: Annotated[_Time, Field(alias="minWitnessedAt")]
    max_witnessed_us: Annotated[_Time, Field(alias="maxWitnessedAt")]


class ListPage(_Answer):
    segments: Annotated[tuple[ListedSegment, ...], Field(max_length=LIST_LIMIT)]
    cursor: Annotated[str, Field(max_length=1_000)] | None = None


class BlockRange(_Answer):
    """Both ends are included."""

    first: Annotated[int, Field(ge=0, lt=_MAX_BLOCKS)]
    last: Annotated[int, Field(ge=0, lt=_MAX_BLOCKS)]

    @model_validator(mode="after")
    def _check_order(self) -> BlockRange:
        if self.first > self.last:
            raise ValueError("first is greater than last")
        return self


class PlannedSegment(_Segment):
    mode: Literal["segment", "blocks"]
    blocks: tuple[BlockRange, ...] = ()

    @model_validator(mode="after")
    def _check_blocks(self) -> PlannedSegment:
        if self.mode == "blocks" and not self.blocks:
            raise ValueError("mode is blocks, and no blocks are named")
        return self


class PlanPage(_Answer):
    planned_through_seq: _Seq
    sealed_tip_seq: _Seq
    segments: tuple[PlannedSegment, ...]


_Model = TypeVar("_Model", bound=BaseModel)


def parse(model: type[_Model], body: bytes, source: str) -> _Model:
    """The answer in `body`; BadAnswer says what is wrong with what `source` sent, without repeating it."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or "the answer"
        raise BadAnswer(f"{source} answered what the protocol does not know: {place}: {first['msg']}") from None
