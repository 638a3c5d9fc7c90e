"""A host's side of a websocket, byte by byte: also what no library would send."""

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from jetstream_pipeline.jetstream.hosts import Host

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

_KEY_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0, masked: bool = False) -> bytes:
    size = len(payload)
    return (
        frame_header(opcode, size, fin=fin, reserved=reserved, masked=masked) + (bytes(4) if masked else b"") + payload
    )


def frame_header(opcode: int, size: int, *, fin: bool = True, reserved: int = 0, masked: bool = False) -> bytes:
    first, mask = bytes([fin << 7 | reserved << 4 | opcode]), masked << 7
    if size < 126:
        return first + bytes([mask | size])
    if size < 65_536:
        return first + bytes([mask | 126]) + size.to_bytes(2, "big")
    return first + bytes([mask | 127]) + size.to_bytes(8, "big")


@dataclass
class Peer:
    """One client, as its host sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    async def read_request(self) -> None:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        request, *lines = head.strip().split("\r\n")
        self.path = request.split(" ")[1]
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}

    def acceptance(self, *headers: str, connection: str = "Upgrade") -> bytes:
        digest = hashlib.sha1(self.headers["sec-websocket-key"].encode() + _KEY_SUFFIX).digest()
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", f"Connection: {connection}", *headers]
        return "\r\n".join([*lines, f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}", "", ""]).encode()

    async def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))
        await self.writer.drain()

    async def read_frame(self) -> tuple[int, bytes]:
        first, second = await self.reader.readexactly(2)
        assert second & 0x80, "a client masks"
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        mask = await self.reader.readexactly(4)
        payload = await self.reader.readexactly(size)
        return first & 0x0F, bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))

    async def closing(self) -> bytes:
        """The payload of the client's close frame."""
        opcode, payload = await self.read_frame()
        while opcode != CLOSE:
            opcode, payload = await self.read_frame()
        return payload

    async def left(self) -> None:
        """Return when the client is gone."""
        with suppress(OSError):
            while await self.reader.read(65_536):
                pass


Script = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def answering(
    script: Script, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None, name: str | None = None
) -> AsyncIterator[Host]:
    """A host that reads each request, does what the script says, and hangs up. It is done when its last client is."""
    peers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        peers.add(task)
        peer = Peer(reader, writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            await peer.read_request()
            await script(peer)
        writer.close()

    server = await asyncio.start_server(handle, address, 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    shown = name or (f"[{address}]" if ":" in address else address)
    try:
        yield Host.parse(f"{'wss' if tls else 'ws'}://{shown}:{port}")
    finally:
        server.close()
        if peers:
            await asyncio.wait(peers, timeout=20)


def saying(script: Script, *headers: str) -> Script:
    """Shake hands first."""

    async def speak(peer: Peer) -> None:
        await peer.send(peer.acceptance(*headers))
        await script(peer)

    return speak


def sending(*parts: bytes) -> Script:
    """Shake hands, send this in one piece, and wait until the client leaves."""

    async def send(peer: Peer) -> None:
        await peer.send(*parts)
        await peer.left()

    return saying(send)
