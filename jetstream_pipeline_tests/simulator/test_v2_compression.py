"""The second wire's dictionary: how it is had, used, and refused."""

import asyncio
import json

import pytest
import zstandard
from websockets.exceptions import InvalidStatus

from jetstream_pipeline.simulator import Network, Simulator
from jetstream_pipeline.simulator.compression import train_dictionary
from jetstream_pipeline.simulator.encoding import Wire
from jetstream_pipeline_tests.simulator.conftest import MINUTE_US, NOON_US, V2, Start, ask, receive, subscribed

_FROM = NOON_US - MINUTE_US
_DICTIONARY = "/xrpc/network.bsky.jetstream.getZstdDictionary"


async def fetched(simulator: Simulator) -> zstandard.ZstdCompressionDict:
    status, headers, content = await asyncio.to_thread(ask, simulator, _DICTIONARY)
    assert (status, headers["Content-Type"]) == (200, "application/octet-stream")
    dictionary = zstandard.ZstdCompressionDict(content)
    assert headers["X-Zstd-Dictionary-Id"] == str(dictionary.dict_id())
    return dictionary


@pytest.mark.parametrize("given", [True, False])
async def test_messages_come_back_whole(start: Start, network: Network, given: bool) -> None:
    dictionary = train_dictionary(Network(99, 20.0), Wire.V2) if given else None
    simulator = start(dictionary_v2=dictionary)
    shared = await fetched(simulator)
    assert shared.as_bytes() == simulator.dictionary_v2
    assert dictionary in (None, simulator.dictionary_v2)
    events = list(network.events(_FROM, NOON_US))
    async with subscribed(simulator, f"cursor={_FROM}&zstdDictionary={shared.dict_id()}", path=V2) as connection:
        received = await receive(connection, len(events))
    decompressor = zstandard.ZstdDecompressor(dict_data=shared)
    for frame, event in zip(received, events, strict=True):
        assert zstandard.get_frame_parameters(frame).dict_id == shared.dict_id()
        assert decompressor.decompressobj().decompress(frame) == event.message_v2
    assert sum(map(len, received)) < 0.6 * sum(len(event.message_v2) for event in events)


async def test_an_announcement_is_compressed_too(start: Start) -> None:
    simulator = start()
    shared = await fetched(simulator)
    query = f"cursor={10**15}&zstdDictionary={shared.dict_id()}"
    async with subscribed(simulator, query, path=V2) as connection:
        frame = (await receive(connection, 1))[0]
    text = zstandard.ZstdDecompressor(dict_data=shared).decompressobj().decompress(frame)
    assert json.loads(text)["payload"]["name"] == "OutdatedCursor"


async def test_the_wires_have_dictionaries_of_their_own(start: Start) -> None:
    simulator = start()
    v1 = zstandard.ZstdCompressionDict(simulator.dictionary)
    assert v1.dict_id() != (await fetched(simulator)).dict_id()
    assert (await asyncio.to_thread(ask, simulator, f"{_DICTIONARY}?id={v1.dict_id()}"))[0] == 404


async def test_an_unknown_dictionary_is_refused(start: Start) -> None:
    simulator = start()
    current = (await fetched(simulator)).dict_id()
    with pytest.raises(InvalidStatus) as refused:
        async with subscribed(simulator, "zstdDictionary=5", path=V2):
            pass
    assert refused.value.response.status_code == 400
    assert json.loads(bytes(refused.value.response.body)) == {
        "error": "UnknownZstdDictionary",
        "message": f"unknown zstd dictionary id 5; current dictionary id is {current} "
        "(fetch it via getZstdDictionary and reconnect)",
    }


async def test_a_dictionary_is_served_by_its_number(start: Start) -> None:
    simulator = start()
    current = await fetched(simulator)
    status, _, content = await asyncio.to_thread(ask, simulator, f"{_DICTIONARY}?id={current.dict_id()}")
    assert (status, content) == (200, current.as_bytes())
    for asked in ("5", "-1", "0"):
        status, headers, content = await asyncio.to_thread(ask, simulator, f"{_DICTIONARY}?id={asked}")
        assert (status, headers["Content-Type"]) == (404, "application/json")
        assert json.loads(content)["error"] == "DictionaryNotFound"
    for asked in ("x", ""):
        status, _, content = await asyncio.to_thread(ask, simulator, f"{_DICTIONARY}?id={asked}")
        assert (status, json.loads(content)["error"]) == (400, "InvalidRequest")
