"""Whether the hosts can be reached, what they speak, how far they are behind, and whether their archives are open."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass, field

import pyarrow.compute as pc

from jetstream_pipeline.archive.client import Archive
from jetstream_pipeline.archive.client_errors import NoArchive
from jetstream_pipeline.archive.tokens import is_trusted
from jetstream_pipeline.doctor.case import Case
from jetstream_pipeline.doctor.finding import Finding, ok, problem, warning
from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.jetstream.errors import NotOffered
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.server import Options, Server
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.window import to_us

_SHARE = 0.7
"""Of the examination's time, for all that is asked of a host."""
_LATE_SEC = 60.0
_FAR_BEHIND_SEC = 3600.0
_NOBODY = Subscription(dids=("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa",))
"""An account that is not there: a plan for it is empty."""


@dataclass
class Seen:
    """What a host has shown of itself."""

    host: Host
    wires: list[Wire] = field(default_factory=list)
    lag_sec: float | None = None
    """By how much the newest event that it sent was older than the moment when it came."""
    failure: str = ""
    archive: Finding | None = None


def examine_hosts(case: Case) -> Iterator[Finding]:
    seen = asyncio.run(_look(case))
    for one in seen:
        yield _told(one)
        if one.archive:
            yield one.archive
    if not any(one.wires for one in seen):
        offline = "; this machine seems to be offline" if not _is_any_resolved(case.hosts) else ""
        yield problem(
            f"no host answers, so that no window can be had{offline}: look after the network, or JETSTREAM_HOSTS"
        )


async def _look(case: Case) -> list[Seen]:
    return await asyncio.gather(*(_see(host, case, case.seconds * _SHARE) for host in case.hosts))


async def _see(host: Host, case: Case, seconds: float) -> Seen:
    seen, token = Seen(host), case.settings.api_token.get_secret_value()
    try:
        async with asyncio.timeout(seconds):
            for wire in (Wire.V2, Wire.V1):
                await _try(seen, wire, case, seconds / 3)
            if token and Wire.V2 in seen.wires:
                seen.archive = await _archive(host, token)
    except TimeoutError:
        seen.failure = seen.failure or f"no answer within {seconds:.0f} s"
    return seen


async def _try(seen: Seen, wire: Wire, case: Case, seconds: float) -> None:
    """Speak a wire, and see an event where none was seen yet."""
    server = Server(seen.host, Subscription(), Options(wire, transport=case.settings.transport), lambda _: None)
    try:
        async with server.connect(None):
            seen.wires.append(wire)
        if seen.lag_sec is None:
            async with aclosing(server.look(Subscription(), None, seconds)) as batches:
                async for events in batches:
                    if events.num_rows:
                        seen.lag_sec = (to_us(case.now) - pc.max(events["time_us"]).as_py()) / 1e6
                        return
    except NotOffered:
        return
    except PipelineError as error:
        seen.failure = str(error)


async def _archive(host: Host, token: str) -> Finding | None:
    try:
        async with Archive(host, token) as archive:
            await archive.plan(_NOBODY, 0, 1)
    except NoArchive:
        return None
    except PipelineError as error:
        return warning(f"{error}; what is older than the stream's look-back is not to be had there")
    shown = "with the token" if is_trusted(host) else "without the token, which is not sent in the clear"
    return ok(f"{host.name}'s archive is open, {shown}")


def _told(seen: Seen) -> Finding:
    name = seen.host.name
    if not seen.wires:
        return warning(f"{seen.failure or f'{name} speaks neither v1 nor v2'}; while others serve, nothing is lost")
    speaks = f"{name} speaks {' and '.join(sorted(seen.wires))}"
    if seen.lag_sec is None:
        return warning(f"{speaks}, and sends nothing; see its operator's word, or ask another host", host=name)
    lag = round(seen.lag_sec, 1)
    figures: dict[str, float | str] = {"host": name, "lag_seconds": lag}
    if lag > _FAR_BEHIND_SEC:
        return problem(
            f"{speaks}, and is {lag / 3600:,.1f} h behind: the newest windows cannot be had there", **figures
        )
    if lag > _LATE_SEC:
        return warning(f"{speaks}, and is {lag:,.0f} s behind now; wait, or put another host first", **figures)
    return ok(f"{speaks}, {max(lag, 0):,.1f} s behind now", **figures)


def _is_any_resolved(hosts: tuple[Host, ...]) -> bool:
    for host in hosts:
        try:
            socket.getaddrinfo(host.name.partition(":")[0], None)
        except OSError:
            continue
        return True
    return False
