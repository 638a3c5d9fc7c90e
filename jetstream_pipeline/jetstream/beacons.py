"""How a stream that lets little through is still seen to pass a moment.

A server that scans for a narrow filter says nothing until it finds something, on either wire. So repositories that are
known to have an event just after the moment, its beacons, are asked for too: their events show how far the scan has
come, and our own filter drops them again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

import pyarrow as pa

from jetstream_pipeline.events.crossing import crossing
from jetstream_pipeline.events.parts import Part
from jetstream_pipeline.events.schema import ACCOUNT, IDENTITY
from jetstream_pipeline.jetstream.subscription import KINDS, MAX_DIDS, Subscription

Look = Callable[[Subscription, int | None, float], AsyncGenerator[pa.RecordBatch, None]]
"""What a host sends to a subscription from a cursor on, for so many seconds."""

_BEACONS = 8
_ENOUGH = 5
_NOBODYS_COLLECTION = "com.example.nobody.record"
_ACCOUNTS_ONLY = Subscription((_NOBODYS_COLLECTION,), kinds=(IDENTITY, ACCOUNT))
"""Identity and account events pass any filter of collections, are few, and their times are never imported."""
_ACCOUNTS_SEC = 3.0
_ANYTHING_SEC = 20.0


async def lit(subscription: Subscription, moment_us: int, look: Look) -> Subscription:
    """The subscription with beacons just after `moment_us` (unix microseconds), as far as the host has any.

    Where no repositories are named, identity and account events of all of them are beacons enough.
    """
    kinds = tuple(kind for kind in KINDS if kind in (*subscription.wanted_kinds, IDENTITY, ACCOUNT))
    if not subscription.dids:
        return replace(subscription, kinds=kinds)
    found = await _repositories(look(_ACCOUNTS_ONLY, moment_us, _ACCOUNTS_SEC), moment_us)
    if len(found) < _ENOUGH:
        others = replace(subscription, dids=(), kinds=kinds)
        found |= await _repositories(look(others, moment_us, _ANYTHING_SEC), moment_us)
    beacons = [did for did in found if did not in subscription.dids][: MAX_DIDS - len(subscription.dids)]
    return replace(subscription, dids=(*subscription.dids, *beacons), kinds=kinds)


async def _repositories(seen: AsyncGenerator[pa.RecordBatch, None], moment_us: int) -> dict[str, None]:
    """The first repositories with an event past the moment, in order."""
    found: dict[str, None] = {}
    passed, undecided = False, Part()
    async with aclosing(seen):
        async for events in seen:
            if not passed:
                undecided = undecided.joined(Part(events))
                before, passed = crossing(undecided.events, moment_us)
                _, undecided = undecided.split(before)
                events = undecided.events
            if passed:
                found |= dict.fromkeys(events["did"].to_pylist())
            if len(found) >= _BEACONS:
                break
    found |= dict.fromkeys(undecided.events["did"].to_pylist())
    return dict.fromkeys(list(found)[:_BEACONS])
