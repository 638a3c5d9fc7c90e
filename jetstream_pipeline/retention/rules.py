"""How long a stream's data is kept, and how much of it. What that means for what stands is `plan`'s."""

from __future__ import annotations

from dataclasses import dataclass, field

from jetstream_pipeline.errors import InvalidInput

MOST_DAYS = 100_000


@dataclass(frozen=True)
class Limit:
    """What is older than `days`, or beyond the newest `gigabytes` (of 10^9 bytes), goes. None: there is no such limit.

    InvalidInput for one that keeps nothing.
    """

    days: int | None = None
    gigabytes: float | None = None

    def __post_init__(self) -> None:
        if self.days is not None and self.days < 1:
            raise InvalidInput(f"days: {self.days} keeps nothing; write 1 or more")
        if self.days is not None and self.days > MOST_DAYS:
            raise InvalidInput(f"days: {self.days} is longer than any data is kept; write {MOST_DAYS} or fewer")
        if self.gigabytes is not None and not self.gigabytes > 0:
            raise InvalidInput(f"gigabytes: {self.gigabytes:g} keeps nothing; write more than 0")

    def __bool__(self) -> bool:
        return self.days is not None or self.gigabytes is not None


@dataclass(frozen=True)
class Retention:
    """Of a stream's events, with what goes with them, and of its typed tables. `backed_up`: the place of a copy of the
    lake; what it does not hold stays. None: nobody asks."""

    events: Limit = field(default_factory=Limit)
    tables: Limit = field(default_factory=Limit)
    backed_up: str | None = None

    def __bool__(self) -> bool:
        return bool(self.events or self.tables)
