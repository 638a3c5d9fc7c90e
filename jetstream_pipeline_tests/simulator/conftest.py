"""A small network, and servers whose clock stands still unless a test moves it."""

import asyncio
import inspect
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from email.message import Message
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from jetstream_pipeline.simulator import Network, SimulatedEvent, Simulator, running

MINUTE_US = 60_000_000
NOON_US = 1_783_166_400_000_000
"""2026-07-04T12:00:00Z"""

V1, V2 = "/subscribe", "/xrpc/network.bsky.jetstream.subscribeEvents"

Start = Callable[..., Simulator]


class Clock:
    """Seconds since the epoch, as a test says."""

    def __init__(self, now_us: int) -> None:
        self.now_us = now_us

    def __call__(self) -> float:
        return self.now_us / 1_000_000


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run tests that are coroutines, each in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(scope="session")
def network() -> Network:
    return Network(seed=7, rate=20.0)


@pytest.fixture(scope="session")
def busy_network() -> Network:
    return Network(seed=1, rate=100.0)


@pytest.fixture(scope="session")
def busy_events(busy_network: Network) -> list[SimulatedEvent]:
    """Four minutes in the afternoon."""
    return list(busy_network.events(NOON_US, NOON_US + 4 * MINUTE_US))


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON_US)


@pytest.fixture
def start(network: Network, clock: Clock) -> Iterator[Start]:
    """Starts simulators that stop with the test."""
    contexts = []

    def start_one(**options: Any) -> Simulator:
        context = running(Simulator(network, **{"clock": clock, **options}))
        contexts.append(context)
        return context.__enter__()

    yield start_one
    for context in reversed(contexts):
        context.__exit__(None, None, None)


@asynccontextmanager
async def subscribed(
    simulator: Simulator, query: str = "", *, path: str = V1, **options: Any
) -> AsyncIterator[ClientConnection]:
    options = {"compression": None, "max_size": None, "ping_interval": None, "close_timeout": 0.3, **options}
    async with connect(f"{simulator.address}{path}?{query}", **{"open_timeout": 60, **options}) as connection:
        yield connection


async def receive(connection: ClientConnection, number: int) -> list[bytes]:
    return [await connection.recv(decode=False) for _ in range(number)]


def ask(simulator: Simulator, path: str) -> tuple[int, Message, bytes]:
    """Status, headers and body of a plain request."""
    origin = simulator.address.replace("ws://", "http://")
    try:
        with urllib.request.urlopen(origin + path, timeout=30) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def options_update(**payload: Any) -> str:
    return json.dumps({"type": "options_update", "payload": payload})
