"""A small network as several hosts see it, served without sockets: for properties that want thousands of connections.

Each host has its own clock, order and imported times, and what goes wrong on each of its connections is written down
beforehand. It speaks the first wire only.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from jetstream_pipeline.jetstream.errors import NotOffered
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.request import Request
from jetstream_pipeline.jetstream.transport import Transport

SECOND = 1_000_000


@dataclass(frozen=True)
class Commit:
    """What happened on the network: whose, the how manieth of that repository, and when."""

    repository: int
    number: int
    time_us: int

    @property
    def identity(self) -> tuple[str, str]:
        return f"did:plc:{self.repository}", f"3k{self.number:010}"


@dataclass(frozen=True)
class Trouble:
    """What happens on one connection."""

    cut_after: int | None = None
    """End it after so many messages."""
    disorder_us: int = 0
    """The messages of so long before the cut come in another order, each repository's own order kept."""
    pause_after: int | None = None
    """Send nothing for a while after so many messages."""
    pause_sec: int = 0
    early_us: int = 0
    """Begin so much earlier than asked."""
    forgotten_us: int = 0
    """What lies before this time it no longer has."""
    repeat: int = 0
    """Send the first messages, so many of them, twice."""


class Killed(BaseException):
    """The reading process dies here."""


@dataclass
class ModelHost:
    name: str
    offset_us: int = 0
    delays: Sequence[int] = (0,)
    """Added to the offset, commit by commit, in turn."""
    imported: frozenset[int] = frozenset()
    """The commits, by their place on the network, whose shown time is an older one."""
    troubles: Sequence[Trouble] = ()
    """Of each connection in turn; none on later ones."""
    blind: frozenset[int] = frozenset()
    """Repositories that it does not see."""
    live: bool = True
    """Whether it has anything for those who ask for what comes now."""
    connections: int = 0
    kill_after: int | None = None
    """Messages after which the reading process dies."""
    sent: int = 0
    stream: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def host(self) -> Host:
        return Host.parse(f"ws://{self.name}")

    def witness(self, network: Sequence[Commit]) -> None:
        last: dict[int, int] = {}
        seen = []
        for place, commit in enumerate(network):
            if commit.repository in self.blind:
                continue
            time_us = commit.time_us + self.offset_us + self.delays[place % len(self.delays)]
            time_us = last[commit.repository] = max(time_us, last.get(commit.repository, 0))
            shown_us = time_us - 86_400 * 30 * SECOND if place in self.imported else time_us
            seen.append((time_us, place, _message(commit, shown_us)))
        self.stream = [(time_us, message) for time_us, _, message in sorted(seen)]

    def messages(self, cursor: int | None, trouble: Trouble) -> list[bytes]:
        if cursor is None and not self.live:
            return []
        start_us = max((cursor or 0) - trouble.early_us, trouble.forgotten_us)
        found = [(time_us, message) for time_us, message in self.stream if time_us >= start_us]
        found = [*found[: trouble.repeat], *found][: trouble.cut_after]
        if not found or trouble.cut_after is None:
            return [message for _, message in found]
        seam = next(n for n, (time_us, _) in enumerate(found) if time_us >= found[-1][0] - trouble.disorder_us)
        seam = max(seam, min(trouble.repeat, len(found)))
        return [*(message for _, message in found[:seam]), *_disordered([message for _, message in found[seam:]])]


def _message(commit: Commit, shown_us: int) -> bytes:
    did, rev = commit.identity
    operation = {"rev": rev, "operation": "delete", "collection": "app.bsky.feed.like", "rkey": rev}
    return json.dumps({"did": did, "time_us": shown_us, "kind": "commit", "commit": operation}).encode()


def _disordered(messages: list[bytes]) -> list[bytes]:
    """Repository by repository, the last one first: none of them out of its own order."""
    dids = list(dict.fromkeys(json.loads(message)["did"] for message in reversed(messages)))
    return [message for did in dids for message in messages if json.loads(message)["did"] == did]


class _Connection:
    def __init__(self, host: ModelHost, messages: list[bytes], trouble: Trouble, chunk: int) -> None:
        self._host = host
        self._messages = messages
        self._cut = trouble.cut_after is not None
        self._left_until_pause, self._pause_sec = trouble.pause_after, trouble.pause_sec
        self._chunk = chunk
        self.ended: str | None = None
        self.oversized = False
        self.bytes_received = 0

    async def receive(self, timeout: float) -> list[bytes]:
        await asyncio.sleep(0 if self._messages or self._cut else 0.001)
        size = self._chunk
        if self._left_until_pause is not None:
            size = min(size, self._left_until_pause)
            self._left_until_pause -= size
            if size == 0:
                self._pause_sec -= 1
                self._left_until_pause = 0 if self._pause_sec > 0 else None
                return []
        taken, self._messages = self._messages[:size], self._messages[size:]
        if not taken and self._cut:
            self.ended = "cut"
        self._host.sent += len(taken)
        if self._host.kill_after is not None and self._host.sent >= self._host.kill_after:
            self._host.kill_after = None
            raise Killed
        return taken


class Internet:
    """Stands where `connected` does, for hosts that are known by name."""

    def __init__(self, hosts: Sequence[ModelHost], chunk: int = 7) -> None:
        self._hosts = {host.host: host for host in hosts}
        self._chunk = chunk

    @asynccontextmanager
    async def connected(self, host: Host, request: Request, _: Transport) -> AsyncIterator[_Connection]:
        if request.subprotocol:
            raise NotOffered("the first wire only")
        model = self._hosts[host]
        query = parse_qs(urlsplit(request.url).query)
        cursor = int(query["cursor"][0]) if "cursor" in query else None
        number, model.connections = model.connections, model.connections + 1
        trouble = model.troubles[number] if number < len(model.troubles) else Trouble()
        yield _Connection(model, model.messages(cursor, trouble), trouble, self._chunk)
