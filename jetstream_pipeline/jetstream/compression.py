"""Messages that come as zstd frames: from bytes to text, bounded. Where dictionaries come from is `dictionaries`'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import zstandard

from jetstream_pipeline.compiled import zstd_frames
from jetstream_pipeline.events.decode import MAX_EVENT_BYTES
from jetstream_pipeline.events.messages import Messages
from jetstream_pipeline.jetstream.errors import JetstreamError

_DICTIONARY_MAGIC = b"\x37\xa4\x30\xec"
_MAX_WINDOW_BYTES = 8 * 1024 * 1024
_PART_BYTES = 16 * 1024 * 1024
_UNTOLD_BYTES = 4_096
"""Frames that do not tell their contents' size are small: Go's encoder tells it from 256 bytes on."""


class OtherDictionary(JetstreamError):
    """The host compresses with a dictionary that is not ours, or not as ours is."""


@dataclass(frozen=True)
class Dictionary:
    """A zstd dictionary; its number is part of every frame made with it (RFC 8878, section 5)."""

    content: bytes

    def __post_init__(self) -> None:
        if not self.content.startswith(_DICTIONARY_MAGIC) or len(self.content) < 8 or not self.number:
            raise ValueError("not a zstd dictionary")
        try:
            self.decompressor()
        except zstandard.ZstdError as error:
            raise ValueError(f"not a sound zstd dictionary ({error})") from None

    def decompressor(self) -> zstandard.ZstdDecompressor:
        return zstandard.ZstdDecompressor(
            dict_data=zstandard.ZstdCompressionDict(self.content), max_window_size=_MAX_WINDOW_BYTES
        )

    @property
    def number(self) -> int:
        return int.from_bytes(self.content[4:8], "little")


class Decompressor:
    """Reads messages of one connection. What is no zstd frame is left as it is."""

    def __init__(self, dictionary: Dictionary) -> None:
        self._number = dictionary.number
        self._decompressor = dictionary.decompressor()
        self._works = False
        """Whether the dictionary has shown to be whole."""

    def parts(self, messages: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
        """The messages' texts in order, in parts of some megabytes, however well they were compressed.

        A frame that cannot be read, or is larger than an event may be, stays compressed. OtherDictionary where a
        frame names another dictionary, or none has been read with ours yet and the first one cannot be.
        """
        together = Messages.of(messages)
        texts = self._at_once(together) if zstd_frames and self._works else None
        return iter((texts,)) if texts is not None else self._one_by_one(together)

    def _at_once(self, messages: Messages) -> Messages | None:
        """All texts, those of the usual frames in one go; None where one of these is broken, or it is too much."""
        sizes, places = zstd_frames.content_sizes(messages.memory, messages.starts, messages.ends, self._number)
        others: dict[int, bytes] = {}
        size = int(sizes.sum())
        for row in np.flatnonzero(sizes == 0).tolist():
            others[row] = self._text(messages[row])
            sizes[row] = len(others[row])
            size += len(others[row])
            if size > _PART_BYTES:
                return None
        if not len(places) or size > _PART_BYTES:
            return None
        frames = zstandard.BufferWithSegments(messages.text.data, places.tobytes())
        try:
            usual = [*self._decompressor.multi_decompress_to_buffer(frames)]  # type: ignore[misc]
        except zstandard.ZstdError:
            return None
        self._works = True
        texts: list[bytes] = []
        for number, (row, text) in enumerate(others.items()):
            texts += usual[len(texts) - number : row - number]
            texts.append(text)
        texts += usual[len(texts) - len(others) :]
        return Messages.of(texts, sizes)

    def _one_by_one(self, messages: Messages) -> Iterator[list[bytes]]:
        part: list[bytes] = []
        size = 0
        for message in messages:
            text = self._text(message)
            part.append(text)
            size += len(text)
            if size >= _PART_BYTES:
                yield part
                part, size = [], 0
        yield part

    def _text(self, message: bytes) -> bytes:
        if not message.startswith(zstandard.FRAME_HEADER):
            return message
        try:
            frame = zstandard.get_frame_parameters(message)
        except zstandard.ZstdError:
            return message
        if frame.dict_id not in (0, self._number):
            raise OtherDictionary(f"a message is compressed with dictionary {frame.dict_id}, not {self._number}")
        is_told = frame.content_size != zstandard.CONTENTSIZE_UNKNOWN
        if is_told and not 0 < frame.content_size <= MAX_EVENT_BYTES:
            # Where it is said to be 0, zstandard does not look whether that is so.
            return message
        try:
            text = self._content(message, MAX_EVENT_BYTES) if is_told else self._untold(message)
        except zstandard.ZstdError as error:
            if frame.dict_id and not self._works:
                raise OtherDictionary(f"the first message cannot be read with dictionary {self._number}") from error
            return message
        self._works |= frame.dict_id > 0
        return text

    def _content(self, frame: bytes, most: int) -> bytes:
        return self._decompressor.decompress(frame, max_output_size=most, allow_extra_data=False)

    def _untold(self, frame: bytes) -> bytes:
        """The content of a frame that does not tell its size."""
        try:
            text = self._content(frame, _UNTOLD_BYTES)
        except zstandard.ZstdError:
            # Memory for the largest event costs more than the rest.
            text = self._content(frame, MAX_EVENT_BYTES)
        # zstandard does not look whether anything follows here. Now it is known to be small.
        again = self._decompressor.decompressobj()
        again.decompress(frame)
        if again.unused_data:
            raise zstandard.ZstdError("something follows the frame")
        return text
