"""Numbers and spans of time that options take."""

from __future__ import annotations

import re
from datetime import timedelta
from math import isfinite
from typing import Any

import click

_AGE = re.compile(r"(\d{1,5})([dh]?)")
_UNITS = {"": timedelta(days=1), "d": timedelta(days=1), "h": timedelta(hours=1)}


class FiniteRange(click.FloatRange):
    """A number between bounds; `nan`, which no bound keeps out, and `inf` are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


class Age(click.ParamType):
    """A span of time: 30d, 36h, or a number of days."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        found = _AGE.fullmatch(str(value))
        if not found:
            self.fail(f"{value} is not a span of time; write a number of days or hours, as 30d or 36h.", param, ctx)
        return int(found[1]) * _UNITS[found[2]]
