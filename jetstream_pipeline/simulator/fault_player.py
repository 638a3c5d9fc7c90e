"""Sends one connection's events, and plays its fault among them.

Which faults there are belongs to `faults`; those of the handshake are played by `handshake`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from jetstream_pipeline.simulator import faults
from jetstream_pipeline.simulator.channel import Channel
from jetstream_pipeline.simulator.disorder import shuffled
from jetstream_pipeline.simulator.encoding import Encoding, Wire
from jetstream_pipeline.simulator.envelopes import error_frame
from jetstream_pipeline.simulator.faults import Fault
from jetstream_pipeline.simulator.host import Host
from jetstream_pipeline.simulator.made_up import beginning_of_a_frame, post
from jetstream_pipeline.simulator.pages import Page
from jetstream_pipeline.simulator.sockets import Ended
from jetstream_pipeline.simulator.timeline import Position


class FaultPlayer:
    """Stands between the events that a subscriber is to receive and its channel."""

    def __init__(self, host: Host, channel: Channel, encoding: Encoding, number: int, fault: Fault | None) -> None:
        self._host = host
        self._channel = channel
        self._encoding = encoding
        self._number = number
        self._fault = fault
        self._strikes_after: int | None = getattr(fault, "after", None)
        self._sent = 0
        self._last: tuple[int, int] | None = None
        self._recent: deque[bytes] = deque(maxlen=fault.count if isinstance(fault, faults.Duplicate) else 0)
        self._held: list[tuple[str, bytes]] = []
        self._to_hold = 0

    async def begin(self, position: Position) -> None:
        """Before anything else; `position` is the first event that will be considered."""
        self._position = position
        match self._fault:
            case faults.CutAfterBytes(limit):
                self._channel.stream.bytes_left = limit
            case faults.Slow(bytes_per_second):
                self._channel.stream.bytes_per_second = bytes_per_second
        await self._strike_if_due()

    async def send(self, page: Page, selected: Sequence[int]) -> None:
        """Raises Ended where the connection is to end without a goodbye."""
        while True:
            room = len(selected) if self._strikes_after is None else self._strikes_after - self._sent
            now, selected = selected[:room], selected[room:]
            await self._send(page, now)
            await self._strike_if_due()
            if not selected:
                return

    async def tell(self, message: bytes) -> None:
        """Send a message that is no event of the stream."""
        if self._encoding.compressed:
            compression = self._host.pages.compressions[self._encoding.wire]
            message = await self._host.pages.aside(lambda: compression.compress(message))
        await self._channel.write_messages([message], binary=self._encoding.compressed)

    async def _send(self, page: Page, selected: Sequence[int]) -> None:
        before_cut = self._host.faults.events_before_cut(self._number, self._sent, page, selected)
        if before_cut is not None:
            selected = selected[:before_cut]
        if selected:
            await self._write(page, selected)
            self._sent += len(selected)
            self._last = page.times[selected[-1]], page.seqs[selected[-1]]
            self._position = Position(page.minute, page.seqs[selected[-1]] + 1)
            if self._recent.maxlen:
                self._recent.extend(page.payload(index) for index in selected[-self._recent.maxlen :])
        if before_cut is not None:
            raise Ended

    async def _write(self, page: Page, selected: Sequence[int]) -> None:
        if self._to_hold:
            held, selected = selected[: self._to_hold], selected[self._to_hold :]
            self._to_hold -= len(held)
            self._held += [(page.dids[index], page.payload(index)) for index in held]
            if not self._to_hold:
                order = shuffled([did for did, _ in self._held])
                await self._write_payloads([self._held[index][1] for index in order])
        if selected:
            await self._host.pace.turn(len(selected))
            await self._channel.write_events(page, selected)

    async def _write_payloads(self, payloads: Sequence[bytes]) -> None:
        await self._channel.write_messages(payloads, binary=self._encoding.compressed)

    async def _strike_if_due(self) -> None:
        if self._sent == self._strikes_after and self._channel.is_open:
            self._strikes_after = None
            await self._strike()

    async def _strike(self) -> None:
        match self._fault:
            case faults.Cut():
                raise Ended
            case faults.Reset():
                await self._channel.stream.reset()
                raise Ended
            case faults.Close(_, code, reason):
                await self._close(code, reason)
            case faults.HalfFrame():
                await self._channel.write_part(beginning_of_a_frame(self._encoding.compressed))
                raise Ended
            case faults.Silence(_, answer_pings):
                if not answer_pings:
                    self._channel.mute()
                await asyncio.Event().wait()
            case faults.Duplicate():
                await self._write_payloads(list(self._recent))
                self._recent.clear()
            case faults.Reorder(_, count):
                self._to_hold = count
            case faults.Garbage(_, payload, binary):
                await self._channel.write_messages([payload], binary=binary)
            case faults.Oversized(_, size):
                await self._send_made_up_post(size)
            case faults.RetireDictionary():
                await self._host.retire_dictionary()
                await self._channel.close(1001, "server shutting down")
            case faults.ErrorFrame(_, error, message):
                await self._end_with_error(error, message)
            case faults.Crash(_, lost):
                await self._host.crash(self._position, lost)
                raise Ended

    async def _send_made_up_post(self, size: int) -> None:
        """It bears time and number of the last event, so that it moves nobody's cursor."""
        if self._last is None:
            time_us, seq = await self._host.timeline.event_at(self._position)
            self._last = time_us, max(0, seq - 1)

        def spelled(text: str) -> bytes:
            assert self._last is not None
            return self._host.pages.messages([post(*self._last, text)], self._encoding.wire)[0]

        await self.tell(spelled("x" * max(0, size - len(spelled("")))))

    async def _close(self, code: int, reason: str) -> None:
        if code == faults.CUT:
            raise Ended
        await self._channel.close(None if code == faults.NO_CODE else code, reason)

    async def _end_with_error(self, error: str, message: str) -> None:
        if self._encoding.wire is Wire.V1:
            await self._channel.close(1008, message)
        else:
            await self.tell(error_frame(error, message))
            raise Ended
