"""This machine's clock beside those of the hosts, by what their answers are dated."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from statistics import median

import httpx2

from jetstream_pipeline.archive.tokens import is_loopback, is_plain
from jetstream_pipeline.doctor.case import Case
from jetstream_pipeline.doctor.finding import Finding, ok, problem, warning
from jetstream_pipeline.doctor.words import some
from jetstream_pipeline.jetstream.hosts import Host

_PATIENCE_SEC = 5.0
_TOLERATED_SEC = 5.0
"""Dates are in whole seconds, and answers take their time."""


def examine_clock(case: Case) -> Iterator[Finding]:
    ahead = asyncio.run(_ask(case))
    if not ahead:
        yield ok("no host answered with a date: this machine's clock was not compared")
        return
    usual = median(ahead.values())
    skew = case.settings.host_skew.total_seconds()
    figures: dict[str, float] = {"hosts": len(ahead), "ahead_seconds": round(-usual, 1)}
    if abs(usual) <= _TOLERATED_SEC:
        yield ok(f"this machine's clock agrees with {some(list(ahead))}", **figures)
    else:
        way = "behind" if usual > 0 else "ahead of"
        text = f"this machine's clock is {abs(usual):,.0f} s {way} {some(list(ahead))}: let it be set by NTP"
        yield (problem if abs(usual) > skew else warning)(text, **figures)
    for name, seconds in ahead.items():
        if abs(seconds - usual) > max(_TOLERATED_SEC, skew):
            text = f"{name}'s clock differs by {abs(seconds - usual):,.0f} s from the other hosts'"
            yield warning(f"{text}, more than JETSTREAM_HOST_SKEW_SECONDS ({skew:g}); leave it out", host=name)


async def _ask(case: Case) -> dict[str, float]:
    """By how many seconds each host's clock is ahead of ours; without those that do not say."""
    patience = min(_PATIENCE_SEC, case.seconds / 2)
    asked = await asyncio.gather(*(_ahead(host, case, patience) for host in case.hosts))
    return {host.name: seconds for host, seconds in zip(case.hosts, asked, strict=True) if seconds is not None}


async def _ahead(host: Host, case: Case, patience: float) -> float | None:
    is_near = is_plain(host) and is_loopback(host)
    try:
        async with (
            asyncio.timeout(patience),
            httpx2.AsyncClient(trust_env=not is_near) as client,
            client.stream("GET", host.web_address) as response,
        ):
            came = case.now
            # Cut to the second, the date is half a second old on average.
            return (_date(response.headers["date"]) - came).total_seconds() + 0.5
    except (httpx2.HTTPError, OSError, TimeoutError, KeyError, ValueError, ImportError):
        return None


def _date(text: str) -> datetime:
    date = parsedate_to_datetime(text)
    return date if date.tzinfo else date.replace(tzinfo=UTC)
