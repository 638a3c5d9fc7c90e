"""zstd, one frame per message, against a dictionary."""

import pytest
import zstandard
from websockets.exceptions import InvalidStatus

from jetstream_pipeline.simulator import Network
from jetstream_pipeline.simulator.compression import train_dictionary
from jetstream_pipeline_tests.simulator.conftest import MINUTE_US, NOON_US, Start, receive, subscribed

_FROM = NOON_US - MINUTE_US


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("by_header", [True, False])
async def test_messages_come_back_whole(start: Start, network: Network, given: bool, by_header: bool) -> None:
    dictionary = train_dictionary(Network(99, 20.0)) if given else None
    simulator = start(dictionary=dictionary)
    if given:
        assert simulator.dictionary == dictionary
    events = list(network.events(_FROM, NOON_US))
    query, headers = f"cursor={_FROM}", {"Socket-Encoding": "zstd"}
    if not by_header:
        query, headers = f"{query}&compress=true", {}
    async with subscribed(simulator, query, additional_headers=headers) as connection:
        received = await receive(connection, len(events))
    shared = zstandard.ZstdCompressionDict(simulator.dictionary)
    decompressor = zstandard.ZstdDecompressor(dict_data=shared)
    for frame, event in zip(received, events, strict=True):
        parameters = zstandard.get_frame_parameters(frame)
        assert parameters.dict_id == shared.dict_id()
        assert parameters.window_size <= 1 << 17
        sized = parameters.content_size != zstandard.CONTENTSIZE_UNKNOWN
        assert sized == (len(event.message) >= 256)
        assert decompressor.decompressobj().decompress(frame) == event.message
    assert sum(map(len, received)) < 0.6 * sum(len(event.message) for event in events)


def test_the_dictionary_follows_from_the_network(network: Network) -> None:
    assert train_dictionary(Network(network.seed, network.rate)) == train_dictionary(network)


async def test_filters_judge_the_uncompressed_size(start: Start, network: Network) -> None:
    expected = [event for event in network.events(_FROM, NOON_US) if len(event.message) <= 500]
    simulator = start()
    async with subscribed(simulator, f"cursor={_FROM}&compress=true&maxMessageSizeBytes=500") as connection:
        received = await receive(connection, len(expected))
    decompressor = zstandard.ZstdDecompressor(dict_data=zstandard.ZstdCompressionDict(simulator.dictionary))
    assert [decompressor.decompressobj().decompress(frame) for frame in received] == [e.message for e in expected]


async def test_two_schemes_at_once_are_refused(start: Start) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with subscribed(start(), "compress=true", compression="deflate"):
            pass
    assert refused.value.response.status_code == 400
    assert b"choose one compression scheme" in bytes(refused.value.response.body)
