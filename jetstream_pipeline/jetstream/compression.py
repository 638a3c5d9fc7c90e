"""Messages that come as zstd frames: from bytes to text, bounded. Where dictionaries come from is `dictionaries`'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import zstandard

from jetstream_pipeline.events.decode import MAX_EVENT_BYTES
from jetstream_pipeline.jetstream.errors import JetstreamError

_DICTIONARY_MAGIC = b"\x37\xa4\x30\xec"
_MAX_WINDOW_BYTES = 8 * 1024 * 1024
_PART_BYTES = 4 * 1024 * 1024


class OtherDictionary(JetstreamError):
    """The host compresses with a dictionary that is not ours."""


@dataclass(frozen=True)
class Dictionary:
    """A zstd dictionary; its number is part of every frame made with it (RFC 8878, section 5)."""

    content: bytes

    def __post_init__(self) -> None:
        if not self.content.startswith(_DICTIONARY_MAGIC) or len(self.content) < 8:
            raise ValueError("not a zstd dictionary")

    @property
    def number(self) -> int:
        return int.from_bytes(self.content[4:8], "little")


class Decompressor:
    """Reads messages of one connection. What is no zstd frame is left as it is."""

    def __init__(self, dictionary: Dictionary) -> None:
        self._number = dictionary.number
        self._decompressor = zstandard.ZstdDecompressor(
            dict_data=zstandard.ZstdCompressionDict(dictionary.content), max_window_size=_MAX_WINDOW_BYTES
        )

    def parts(self, messages: Sequence[bytes]) -> Iterator[list[bytes]]:
        """The messages' texts in order, in parts of some megabytes, however well they were compressed.

        A frame that cannot be read, or is larger than an event may be, stays compressed. OtherDictionary where a
        frame names another dictionary.
        """
        part: list[bytes] = []
        size = 0
        for message in messages:
            text = self._text(message) if message.startswith(zstandard.FRAME_HEADER) else message
            part.append(text)
            size += len(text)
            if size >= _PART_BYTES:
                yield part
                part, size = [], 0
        yield part

    def _text(self, message: bytes) -> bytes:
        try:
            frame = zstandard.get_frame_parameters(message)
            if frame.dict_id not in (0, self._number):
                raise OtherDictionary(f"a message is compressed with dictionary {frame.dict_id}, not {self._number}")
            known = frame.content_size != zstandard.CONTENTSIZE_UNKNOWN
            if known and frame.content_size > MAX_EVENT_BYTES:
                return message
            return self._decompressor.decompress(message, max_output_size=MAX_EVENT_BYTES)
        except zstandard.ZstdError:
            return message
