"""One host as a client has come to know it: its wire, its compression, what it refuses. Which host to ask, and from
where, is the client's to decide."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import pyarrow as pa

from jetstream_pipeline.archive.access import Access
from jetstream_pipeline.events.decode import decode
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.jetstream.beacons import lit
from jetstream_pipeline.jetstream.compression import Decompressor, Dictionary, OtherDictionary
from jetstream_pipeline.jetstream.connection import MAX_MESSAGE_BYTES, Connection
from jetstream_pipeline.jetstream.dictionaries import Dictionaries, NoDictionary
from jetstream_pipeline.jetstream.errors import JetstreamError, NotOffered, Refused, RetiredDictionary
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.opening import connected
from jetstream_pipeline.jetstream.request import Request, TooMuchForV2, request
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.jetstream.transport import Transport, default_transport

_SIGN_OF_LIFE_SEC = 10.0


@dataclass(frozen=True)
class Options:
    """How hosts are spoken to."""

    wire: Wire | None = None
    """None: v2 where a host offers it."""
    dictionaries: Dictionaries | None = None
    """Where to find dictionaries; None: no compression."""
    passing_us: int | None = None
    """A time that the stream is to be seen to pass, however little its filter lets through (unix microseconds)."""
    transport: Transport = field(default_factory=default_transport)
    archive: Access | None = None
    """How to ask for what is older than a host's stream; None: it is not asked for."""


class Server:
    """Opens connections to one host, in the way that it has shown to understand."""

    def __init__(self, host: Host, subscription: Subscription, options: Options, note: Callable[[str], None]) -> None:
        self.host = host
        self.refused: Refused | None = None
        """Why asking this host again is pointless."""
        self._subscription = subscription
        self._options = options
        self._note = note
        self.wire = options.wire or Wire.V2
        self._dictionaries = options.dictionaries
        self._dictionary: Dictionary | None = None
        self._decompressor: Decompressor | None = None
        self._retired = 0
        self._largest = 0
        self._lit = False

    @asynccontextmanager
    async def connect(self, cursor: int | None) -> AsyncIterator[Connection]:
        """A connection from `cursor` on. Refused or JetstreamError where there is none to be had."""
        await self._find_dictionary()
        await self._find_beacons()
        async with connected(self.host, self._request(cursor), self._options.transport) as connection:
            self._retired = 0
            yield connection

    def texts(self, messages: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
        """The messages decompressed, in parts of bounded size."""
        return self._decompressor.parts(messages) if self._decompressor else iter((messages,))

    async def adapt(self, error: JetstreamError | Refused) -> bool:
        """Ask in another way from now on, where the error says which; whether there is one."""
        match error:
            case NotOffered() if self.wire is Wire.V2 and self._options.wire is None:
                self._turn_to_v1()
            case NotOffered():
                self.refused = Refused(f"{error}; ask without --wire {self.wire}")
                return False
            case RetiredDictionary() if self._retired == 0:
                await self._renew_dictionary()
            case RetiredDictionary() | OtherDictionary():
                if self._dictionaries:
                    self._dictionaries.forget(self.host)
                self._give_up_compression(str(error))
            case Refused():
                self.refused = error
                return False
            case _:
                return False
        return True

    def ended(self, connection: Connection) -> str | None:
        """Learn from how a connection ended: what is too large for us is not asked for again. What it was, if so."""
        if not connection.oversized or self._largest:
            return None
        self._largest = MAX_MESSAGE_BYTES
        left_out = f"{self.host.name} had a message of more than {MAX_MESSAGE_BYTES} bytes, which was left out"
        self._note(left_out)
        return left_out

    async def shows_life(self) -> bool:
        """Whether the host sends anything at all to somebody who asks for everything."""
        try:
            async with aclosing(self.look(Subscription(), None, _SIGN_OF_LIFE_SEC)) as seen:
                return await anext(seen, None) is not None
        except (JetstreamError, Refused):
            return False

    async def look(
        self, subscription: Subscription, cursor: int | None, seconds: float
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        """The events that the host sends to another subscription on a connection of its own, for so many seconds."""
        until = time.monotonic() + seconds
        asked = request(self.host, self.wire, subscription, cursor)
        async with connected(self.host, asked, self._options.transport) as connection:
            while (left := until - time.monotonic()) > 0:
                if messages := await connection.receive(left):
                    decoded = await asyncio.to_thread(decode, messages, self.host.name, wire=self.wire)
                    yield decoded.events
                elif connection.ended is not None:
                    return

    def _request(self, cursor: int | None) -> Request:
        try:
            return request(
                self.host,
                self.wire,
                self._subscription,
                cursor,
                dictionary=self._dictionary,
                max_message_bytes=self._largest,
            )
        except TooMuchForV2 as error:
            raise NotOffered(str(error)) from None

    def _turn_to_v1(self) -> None:
        self.wire, self._dictionary, self._decompressor = Wire.V1, None, None

    async def _find_dictionary(self) -> None:
        if self._dictionaries is None or self._dictionary is not None:
            return
        try:
            self._use(await self._dictionaries.find(self.host, self.wire))
        except NoDictionary as error:
            self._give_up_compression(str(error))

    async def _find_beacons(self) -> None:
        if self._options.passing_us is None or self._lit:
            return
        self._subscription = await lit(self._subscription, self._options.passing_us, self.look)
        self._lit = True

    async def _renew_dictionary(self) -> None:
        assert self._dictionaries is not None, "only who asks for compression is told of a retired dictionary"
        self._retired += 1
        try:
            self._use(await self._dictionaries.renew(self.host))
        except NoDictionary as error:
            self._give_up_compression(str(error))

    def _use(self, dictionary: Dictionary) -> None:
        self._dictionary = dictionary
        self._decompressor = Decompressor(dictionary)

    def _give_up_compression(self, reason: str) -> None:
        self._dictionaries = self._dictionary = self._decompressor = None
        self._note(f"{self.host.name}: going on without compression: {reason}")
