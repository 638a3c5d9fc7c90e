"""One zstd frame per message, against a dictionary that both sides know.

The dictionary is given, or trained from the network's own events. Whether a subscriber wants it is decided
elsewhere.
"""

from __future__ import annotations

from functools import cached_property
from itertools import islice

import zstandard

from jetstream_pipeline.simulator.encoding import Wire
from jetstream_pipeline.simulator.network import Network
from jetstream_pipeline.simulator.schedule import MINUTE_US

_LEVEL = 3
_WINDOW_LOG = 17
_SMALLEST_WITH_SIZE = 256
_DICTIONARY_BYTES = 32_768
_SAMPLES = 2_000
_SAMPLE_MINUTE = 29_000_000
_FIRST_DICTIONARY_ID = {Wire.V1: 1_000_000_000, Wire.V2: 2_000_000_000}
_SEEDS_TOLD_APART = 1_000_000_000


class Compression:
    """Compresses messages as a server does, on one wire. Not to be used by two threads at once."""

    def __init__(self, network: Network, wire: Wire, dictionary: bytes | None = None, *, edition: int = 0) -> None:
        self._network = network
        self._wire = wire
        self._given = dictionary
        self._edition = edition

    @cached_property
    def dictionary(self) -> bytes:
        if self._given is not None:
            return self._given
        return train_dictionary(self._network, self._wire, self._edition)

    @property
    def dictionary_id(self) -> int:
        """Known without training."""
        if self._given is not None:
            return zstandard.ZstdCompressionDict(self._given).dict_id()
        return dictionary_id(self._network, self._wire, self._edition)

    def retired(self) -> Compression:
        """The same with another dictionary."""
        return Compression(self._network, self._wire, edition=self._edition + 1)

    def compress(self, message: bytes) -> bytes:
        if len(message) < _SMALLEST_WITH_SIZE:
            return self._without_size.compress(message)
        return self._with_size.compress(message)

    @cached_property
    def _with_size(self) -> zstandard.ZstdCompressor:
        return self._compressor(True)

    @cached_property
    def _without_size(self) -> zstandard.ZstdCompressor:
        return self._compressor(False)

    def _compressor(self, with_size: bool) -> zstandard.ZstdCompressor:
        parameters = zstandard.ZstdCompressionParameters.from_level(
            _LEVEL,
            window_log=_WINDOW_LOG,
            write_content_size=with_size,
            write_checksum=True,
            write_dict_id=True,
        )
        dictionary = zstandard.ZstdCompressionDict(self.dictionary)
        dictionary.precompute_compress(compression_params=parameters)
        return zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters)


def train_dictionary(network: Network, wire: Wire = Wire.V1, edition: int = 0) -> bytes:
    """The same network always yields the same dictionary; each edition has samples and a number of its own."""
    first = _SAMPLE_MINUTE + edition * _SAMPLES
    events = islice(network.events(first * MINUTE_US, (first + _SAMPLES) * MINUTE_US), _SAMPLES)
    samples: list[bytes | bytearray | memoryview[int]] = [
        event.message if wire is Wire.V1 else event.message_v2 for event in events
    ]
    number = dictionary_id(network, wire, edition)
    trained = zstandard.train_dictionary(_DICTIONARY_BYTES, samples, k=1024, d=8, dict_id=number, threads=0)
    return trained.as_bytes()


def dictionary_id(network: Network, wire: Wire, edition: int) -> int:
    return _FIRST_DICTIONARY_ID[wire] + (network.seed + edition) % _SEEDS_TOLD_APART
