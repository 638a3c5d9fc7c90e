"""The forms in which a page of events can be sent: one of two wires, compressed or not."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Wire(enum.Enum):
    V1 = "v1"
    V2 = "v2"


class Encoding(NamedTuple):
    wire: Wire = Wire.V1
    compressed: bool = False

    @property
    def plain(self) -> Encoding:
        return Encoding(self.wire)


V1 = Encoding()
