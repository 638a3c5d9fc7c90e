"""A client that others wrote reads the simulator, and follows it through cuts.

The atproto SDK's own Jetstream class speaks only the second version of the protocol; its reconnecting client
underneath leaves the framing open, and that is what reads here.
"""

import asyncio
import json
from typing import Any

import pytest

from jetstream_pipeline.simulator import Faults, Network
from jetstream_pipeline_tests.simulator.conftest import MINUTE_US, NOON_US, Start

websocket = pytest.importorskip("atproto_subscription.websocket", reason="the atproto SDK is not installed")

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


async def test_the_atproto_client_sees_what_the_network_enumerates(start: Start, network: Network) -> None:
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
