"""From the wire to durable Parquet, beside bare loops over the same stream.

A simulated network is rendered ahead in a process of its own, so that its replay costs that process nothing but
sending. Each measurement reads the same hour of it, in a process of its own: receiving only (`websockets` in a bare
loop, and each transport of ours), receiving and decoding, and everything: validated, the record kept, fsynced, renamed.

    python benchmarks/replay.py [--events 1000000] [--passes 5] [--short] [--wire v1] [--compressed]
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import websockets.asyncio.client
from side_by_side import Measured, in_process, in_turns, machine, measuring, show, tell

from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.jetstream.client import StreamClient
from jetstream_pipeline.jetstream.dictionaries import Dictionaries
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.opening import connected
from jetstream_pipeline.jetstream.request import Request, request
from jetstream_pipeline.jetstream.server import Options
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.jetstream.transport import Transport, default_transport
from jetstream_pipeline.replay.replay import replay_window
from jetstream_pipeline.simulator import Network, Simulator, encoding
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.window import Window

WINDOW = Window.hour(datetime(2026, 7, 4, 12, tzinfo=UTC))
AROUND = timedelta(minutes=2)
SHORT_EVENTS = 450_000
FOREIGN_PART = 10
FOREIGN = "atproto's client, decoding"
BARE = "bare websockets, receiving"


def main() -> None:
    arguments = parse_arguments()
    if arguments.serve:
        asyncio.run(serve(arguments))
    elif arguments.measure:
        MEASUREMENTS[arguments.measure](arguments)
    else:
        print(machine())
        with serving(sys.argv[1:]) as described:
            compare(arguments, described)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=1_000_000, help="about as many in the hour")
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--short", action="store_true", help="only what the last line needs, over fewer events")
    parser.add_argument("--wire", type=Wire, default=Wire.V1, choices=Wire)
    parser.add_argument("--compressed", action="store_true")
    parser.add_argument("--transport", type=Transport.parse, default=default_transport(), choices=Transport)
    for hidden in ("--serve", "--measure", "--address", "--dictionary", "--received"):
        parser.add_argument(hidden, help=argparse.SUPPRESS, action="store_true" if hidden == "--serve" else "store")
    arguments = parser.parse_args()
    if arguments.short:
        arguments.events = min(arguments.events, SHORT_EVENTS)
    return arguments


async def serve(arguments: argparse.Namespace) -> None:
    """Render the hour and a little around it, say where it is, and serve it under a clock that stands still."""
    start, end = ((moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) for moment in around())
    network = Network(0, arguments.events / 3600)
    simulator = Simulator(network, clock=lambda: end / 1e6 - 0.01, page_cache_bytes=16 << 30)
    wire = encoding.Wire[arguments.wire.name]
    simulator.render_ahead(start, end, compressed=arguments.compressed, wire=wire, processes=os.cpu_count() or 1)
    dictionary = Path(tempfile.mkdtemp()) / "dictionary"
    dictionary.write_bytes(simulator.dictionary)
    async with simulator:
        print(json.dumps({"address": simulator.address, "dictionary": str(dictionary)}), flush=True)
        await asyncio.Event().wait()


def around() -> tuple[datetime, datetime]:
    return WINDOW.start - AROUND, WINDOW.end + AROUND


@contextmanager
def serving(given: Sequence[str]) -> Iterator[dict[str, str]]:
    """A server of that many events, in a process of its own: its address, and the file of its dictionary."""
    command = [sys.executable, __file__, "--serve", *given]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield json.loads(server.stdout.readline())
    finally:
        server.terminate()
        server.wait()


def compare(arguments: argparse.Namespace, described: dict[str, str]) -> None:
    given = [f"--address={described['address']}", f"--dictionary={described['dictionary']}", *sys.argv[1:]]

    def measuring_of(name: str, **more: object) -> Callable[[], Measured]:
        options = [f"--{key}={value}" for key, value in more.items()]
        return partial(in_process, __file__, [f"--measure={name}", *given, *options])

    everything = measuring_of("wire_to_parquet")
    first = everything()
    received = {"received": first.events}
    measurements = {BARE: measuring_of("bare", **received), "wire to Parquet": everything}
    if arguments.wire is Wire.V2 and not arguments.short and find_spec("atproto_jetstream"):
        # It decodes some 10,000 events a second: a part of them is enough.
        foreign = {"received": first.events // FOREIGN_PART}
        measurements[FOREIGN] = measuring_of("foreign", **foreign)
    if not arguments.short:
        measurements |= {
            "receiving": measuring_of("receive", **received),
            "receiving and decoding": measuring_of("decode", **received),
            "receiving, on websockets": measuring_of("receive", transport=Transport.WEBSOCKETS, **received),
            "wire to Parquet, on websockets": measuring_of("wire_to_parquet", transport=Transport.WEBSOCKETS),
        }
    results = in_turns(measurements, arguments.passes)
    how = "zstd frames" if arguments.compressed else "text frames"
    show(f"{arguments.wire}, {how}, {first.events:,} events in the window", list(results.values()), BARE)
    print(f"ratio wire_to_parquet/bare_websockets {results['wire to Parquet'].rate / results[BARE].rate:.2f}")


def options_of(arguments: argparse.Namespace) -> Options:
    dictionaries = Dictionaries({}, v1_file=Path(arguments.dictionary)) if arguments.compressed else None
    return Options(arguments.wire, dictionaries, transport=arguments.transport)


def subscribed(arguments: argparse.Namespace) -> tuple[Host, Request]:
    """The request that a replay begins with."""
    host, options = Host.parse(arguments.address), options_of(arguments)
    dictionary = asyncio.run(options.dictionaries.find(host, arguments.wire)) if options.dictionaries else None
    return host, request(host, arguments.wire, Subscription(), WINDOW.start_us, dictionary=dictionary)


def measure_bare(arguments: argparse.Namespace) -> None:
    """What a bare loop over `websockets` receives."""
    _, asked = subscribed(arguments)
    wanted = int(arguments.received)

    async def receive() -> int:
        size = 0
        subprotocols = [asked.subprotocol] if asked.subprotocol else None
        async with websockets.asyncio.client.connect(
            asked.url, compression=None, max_size=None, ping_interval=None, subprotocols=subprotocols
        ) as socket:
            if asked.hello:
                await socket.send(asked.hello)
            for _ in range(wanted):
                size += len(await socket.recv(decode=False))
            socket.transport.abort()
        return size

    with measuring() as made:
        size = asyncio.run(receive())
    tell(made(wanted, size, 0))


def measure_receive(arguments: argparse.Namespace) -> None:
    """What our connection receives."""
    host, asked = subscribed(arguments)
    wanted = int(arguments.received)

    async def receive() -> tuple[int, int]:
        events = 0
        async with connected(host, asked, arguments.transport) as connection:
            while events < wanted:
                events += len(await connection.receive(1.0))
            return events, connection.bytes_received

    with measuring() as made:
        events, size = asyncio.run(receive())
    tell(made(events, size, 0))


def measure_decode(arguments: argparse.Namespace) -> None:
    """What our client receives, decodes and finds to be new."""
    wanted = int(arguments.received)
    client = StreamClient([Host.parse(arguments.address)], Subscription(), options_of(arguments))

    async def read() -> int:
        events = 0
        async with aclosing(client.batches(WINDOW.start_us)) as batches:
            async for batch in batches:
                events += batch.events.num_rows
                if events >= wanted:
                    break
        return events

    with measuring() as made:
        events = asyncio.run(read())
    tell(made(events, client.bytes_received, 0))


def measure_foreign(arguments: argparse.Namespace) -> None:
    """What the client of the atproto SDK receives and decodes."""
    from atproto_jetstream.jetstream import AsyncJetstreamClient

    wanted = int(arguments.received)
    client = AsyncJetstreamClient(
        {"cursor": WINDOW.start_us}, base_uri=f"{arguments.address}/xrpc", compress=arguments.compressed
    )
    events = 0

    async def take(message: object) -> None:
        nonlocal events
        events += 1
        if events == wanted:
            await client.stop()

    with measuring() as made:
        asyncio.run(client.start(take))
    tell(made(events, 0, 0))


def measure_wire_to_parquet(arguments: argparse.Namespace) -> None:
    """A whole replay."""
    with tempfile.TemporaryDirectory() as folder:
        data = DataDirectory(Path(folder))
        with measuring() as made:
            summary = replay_window(
                "network",
                Subscription(),
                WINDOW,
                hosts=[Host.parse(arguments.address)],
                data=data,
                options=options_of(arguments),
            )
        assert summary.state == "complete", summary.reason
        tell(made(summary.events, 0, data.lake.events_path("network", WINDOW).stat().st_size))


MEASUREMENTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "bare": measure_bare,
    "receive": measure_receive,
    "decode": measure_decode,
    "foreign": measure_foreign,
    "wire_to_parquet": measure_wire_to_parquet,
}

if __name__ == "__main__":
    main()
