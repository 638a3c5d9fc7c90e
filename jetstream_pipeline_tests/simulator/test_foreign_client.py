"""Clients that others wrote read the simulator, and follow it through cuts.

The atproto SDK's own Jetstream class speaks only the second version of the protocol; its reconnecting client
underneath leaves the framing open, and that is what reads the first one here.
"""

import asyncio
import json
from typing import Any

import pytest

from jetstream_pipeline.simulator import Faults, Network
from jetstream_pipeline.simulator.faults import Close, Cut, HalfFrame, Refuse, Reset, RetireDictionary
from jetstream_pipeline_tests.simulator.conftest import MINUTE_US, NOON_US, Start

websocket = pytest.importorskip("atproto_subscription.websocket", reason="the atproto SDK is not installed")
jetstream = pytest.importorskip("atproto_jetstream.jetstream", reason="the atproto SDK knows no Jetstream")
utilities = pytest.importorskip("atproto_client.models.utils", reason="the atproto SDK is not installed")

_FROM = NOON_US - 2 * MINUTE_US


class _Client(websocket.AsyncWebsocketClient):  # type: ignore[name-defined]
    """Version 1: every frame is an event, and its number is the next cursor."""

    def _decode_frame(self, raw_frame: str | bytes) -> dict[str, Any] | None:
        event: dict[str, Any] = json.loads(raw_frame)
        if event["cursor"] == self._params["cursor"] and self._reconnect_no:
            return None
        self._params["cursor"] = event["cursor"]
        return event

    def _handle_frame_decoding_error(self, exception: Exception) -> None:
        raise exception

    def _get_reconnection_delay(self) -> float:
        return 0.0


async def test_a_client_of_the_first_wire_sees_what_the_network_enumerates(start: Start, network: Network) -> None:
    expected = [json.loads(event.message) for event in network.events(_FROM, NOON_US)]
    simulator = start(faults=Faults(cut_after_events=(5, 1000)))
    client = _Client("subscribe", simulator.address, {"cursor": _FROM})
    received: list[dict[str, Any]] = []

    async def take(event: dict[str, Any]) -> None:
        received.append(event)
        if len(received) == len(expected):
            await client.stop()

    async with asyncio.timeout(20):
        await client.start(take)
    assert received == expected


class _JetstreamClient(jetstream.AsyncJetstreamClient):  # type: ignore[name-defined]
    """Waits for nothing."""

    def _get_reconnection_delay(self) -> float:
        return 0.0


@pytest.mark.parametrize("compressed", [True, False])
async def test_a_client_of_the_second_wire_sees_what_the_network_enumerates(
    start: Start, network: Network, compressed: bool
) -> None:
    # It skips what is JSON with half a surrogate pair, which Python's strict readers refuse.
    events = [event for event in network.events(_FROM, NOON_US) if b"\\ud83d" not in event.message]
    script = (Cut(5), Reset(1000), Close(300, 1011), Refuse(503), HalfFrame(10), RetireDictionary(100))
    simulator = start(faults=Faults(script=script))
    client = _JetstreamClient({"cursor": _FROM}, base_uri=f"{simulator.address}/xrpc", compress=compressed)
    received: list[Any] = []

    async def take(message: Any) -> None:
        received.append(message)
        assert client.compressed == compressed
        if len(received) == len(events):
            await client.stop()

    async with asyncio.timeout(60):
        while len(received) < len(events):
            # A host that goes away politely ends it for good, so it is started anew.
            await client.start(take)
    told = [json.loads(event.message_v2)["payload"] for event in events]
    read = [utilities.get_model_as_dict(message) for message in received]
    assert [without_types(message) for message in read] == [without_types(message) for message in told]


def without_types(value: Any) -> Any:
    """The client's models add the types that a schema implies."""
    if isinstance(value, dict):
        return {key: without_types(item) for key, item in value.items() if key != "$type"}
    return [without_types(item) for item in value] if isinstance(value, list) else value
