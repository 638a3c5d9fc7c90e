"""How fast the simulator sends history that is already rendered.

A server and a reader in processes of their own; the reader takes bytes from a bare socket and does nothing
with them. The first pass counts the frames and checks that the stream is whole; the others are timed.

    python benchmarks/simulator_send.py [--minutes 10] [--rate 355] [--passes 5] [--query compress=true]
"""

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

from jetstream_pipeline.simulator import Network, Simulator

START = datetime(2026, 7, 4, 12, tzinfo=UTC)
READ_BYTES = 1 << 20
MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def main() -> None:
    arguments = parse_arguments()
    if arguments.serve:
        asyncio.run(serve(arguments))
        return
    server = subprocess.Popen([sys.executable, __file__, "--serve", *sys.argv[1:]], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        described = json.loads(server.stdout.readline())
        print(f"rendered {described['events']:,} events at {described['rendered_per_second']:,.0f} events/s")
        measure(described, arguments)
    finally:
        server.terminate()
        server.wait()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--rate", type=float, default=355.0)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--query", default="", help="further parameters of the subscription")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


async def serve(arguments: argparse.Namespace) -> None:
    """Render the span, say what it holds, and serve it as history under a clock that stands still."""
    start_us = (START - EPOCH) // MICROSECOND
    end_us = start_us + arguments.minutes * 60_000_000
    simulator = Simulator(Network(0, arguments.rate), clock=lambda: end_us / 1_000_000 - 0.01, page_cache_bytes=4 << 30)
    before = time.perf_counter()
    simulator.render_ahead(start_us, end_us)
    seconds = time.perf_counter() - before
    async with simulator:
        events = sum(
            [(await simulator.pages.page(start_us // 60_000_000 + minute)).count for minute in range(arguments.minutes)]
        )
        described = {
            "port": int(simulator.address.rsplit(":", 1)[1]),
            "cursor": start_us,
            "events": events,
            "rendered_per_second": events / seconds,
        }
        print(json.dumps(described), flush=True)
        await asyncio.Event().wait()


def measure(described: dict[str, int], arguments: argparse.Namespace) -> None:
    events, size = count_frames(described, arguments.query)
    print(f"one pass: {events:,} events, {size / 1e6:,.1f} MB")
    speeds = []
    for number in range(arguments.passes):
        reader = subscribe(described, arguments.query)
        before = time.perf_counter()
        drain(reader, size)
        seconds = time.perf_counter() - before
        reader.close()
        speeds.append(events / seconds)
        print(f"pass {number + 1}: {events / seconds:,.0f} events/s, {size / seconds / 1e6:,.0f} MB/s")
    print(f"median: {statistics.median(speeds):,.0f} events/s")


def subscribe(described: dict[str, int], query: str) -> socket.socket:
    reader = socket.create_connection(("127.0.0.1", described["port"]))
    request = (
        f"GET /subscribe?cursor={described['cursor']}&{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    reader.sendall(request.encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += reader.recv(1)
    assert head.startswith(b"HTTP/1.1 101"), head
    return reader


def drain(reader: socket.socket, size: int) -> None:
    buffer = bytearray(READ_BYTES)
    while size > 0:
        taken = reader.recv_into(buffer)
        assert taken, "the stream ended early"
        size -= taken


def count_frames(described: dict[str, int], query: str) -> tuple[int, int]:
    """Events and bytes of one pass: until silence."""
    reader = subscribe(described, query)
    reader.settimeout(3.0)
    stream = bytearray()
    try:
        while data := reader.recv(READ_BYTES):
            stream += data
    except TimeoutError:
        pass
    reader.close()
    events = position = 0
    while position < len(stream):
        length = stream[position + 1]
        if length == 126:
            position += 4 + int.from_bytes(stream[position + 2 : position + 4], "big")
        elif length == 127:
            position += 10 + int.from_bytes(stream[position + 2 : position + 10], "big")
        else:
            position += 2 + length
        events += 1
    assert position == len(stream), "the stream broke off within a frame"
    return events, len(stream)


if __name__ == "__main__":
    main()
