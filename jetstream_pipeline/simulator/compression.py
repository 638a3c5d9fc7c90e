"""One zstd frame per message, against a dictionary that both sides know.

The dictionary is given, or trained from the network's own events. Whether a subscriber wants it is decided
elsewhere.
"""

from functools import cached_property
from itertools import islice

import zstandard

from jetstream_pipeline.simulator.network import Network
from jetstream_pipeline.simulator.schedule import MINUTE_US

_LEVEL = 3
_WINDOW_LOG = 17
_SMALLEST_WITH_SIZE = 256
_DICTIONARY_BYTES = 32_768
_SAMPLES = 2_000
_SAMPLE_MINUTE = 29_000_000
_FIRST_DICTIONARY_ID = 1_000_000_000


class Compression:
    """Compresses messages as a server of the v1 endpoint does."""

    def __init__(self, network: Network, dictionary: bytes | None) -> None:
        self._network = network
        self._given = dictionary

    @cached_property
    def dictionary(self) -> bytes:
        return train_dictionary(self._network) if self._given is None else self._given

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


def train_dictionary(network: Network) -> bytes:
    """The same network always yields the same dictionary."""
    events = network.events(_SAMPLE_MINUTE * MINUTE_US, (_SAMPLE_MINUTE + _SAMPLES) * MINUTE_US)
    samples: list[bytes | bytearray | memoryview[int]] = [event.message for event in islice(events, _SAMPLES)]
    dictionary_id = _FIRST_DICTIONARY_ID + network.seed % 1_000_000_000
    trained = zstandard.train_dictionary(_DICTIONARY_BYTES, samples, k=1024, d=8, dict_id=dictionary_id, threads=0)
    return trained.as_bytes()
