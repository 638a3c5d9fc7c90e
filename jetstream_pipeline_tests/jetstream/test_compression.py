"""Compressed messages become exactly the plain ones; bombs, garbage and foreign dictionaries do no harm."""

import asyncio
import hashlib
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from jetstream_pipeline.compiled import IS_COMPILED, zstd_frames
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.events.decode import MAX_EVENT_BYTES, decode
from jetstream_pipeline.events.messages import Messages
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.jetstream import compression, dictionaries
from jetstream_pipeline.jetstream.compression import Decompressor, Dictionary, OtherDictionary
from jetstream_pipeline.jetstream.dictionaries import Dictionaries, NoDictionary
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.server import Options, Server
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline_tests.reference import reference


def trained(number: int) -> Dictionary:
    samples = [b'{"did":"did:plc:%d","kind":"commit","text":"%d"}' % (i, i * 7919) for i in range(2000)]
    return Dictionary(zstandard.train_dictionary(4096, samples, k=256, d=8, dict_id=number).as_bytes())


def compressed(text: bytes, dictionary: Dictionary | None = None, *, with_size: bool = True) -> bytes:
    data = None if dictionary is None else zstandard.ZstdCompressionDict(dictionary.content)
    return zstandard.ZstdCompressor(dict_data=data, write_content_size=with_size).compress(text)


def told(dictionary: Dictionary, messages: list[bytes]) -> list[int]:
    together = Messages.of(messages)
    sizes, places = zstd_frames.content_sizes(together.memory, together.starts, together.ends, dictionary.number)
    known = [(start, start + length) for start, length in places.tolist()]
    assert [together.memory[start:end].tobytes() for start, end in known] == [
        message for message, size in zip(messages, sizes, strict=True) if size
    ]
    return [*sizes.tolist()]


def read(dictionary: Dictionary, *messages: bytes) -> list[bytes]:
    return [text for part in Decompressor(dictionary).parts(messages) for text in part]


@pytest.mark.parametrize(
    ("dictionary", "frames", "plain"),
    [
        ("dictionaries/v1-legacy.zdict", "server/v1_zstd.bin", "server/v1_frames.jsonl"),
        ("dictionaries/v2-20260811.zdict", "server/v2_zstd.bin", "server/v2_zstd.txt"),
    ],
)
def test_a_server_s_frames_become_exactly_its_plain_messages(dictionary: str, frames: str, plain: str) -> None:
    data, messages = reference(frames).read_bytes(), []
    while data:
        (size,) = struct.unpack_from("<I", data)
        messages.append(data[4 : 4 + size])
        data = data[4 + size :]
    ours, texts = Dictionary(reference(dictionary).read_bytes()), reference(plain).read_bytes().splitlines()
    assert read(ours, *messages) == texts
    if IS_COMPILED:
        sizes = told(ours, messages)
        assert all(size in (0, len(text)) for size, text in zip(sizes, texts, strict=True))
        assert len(sizes) - sizes.count(0) > len(messages) * 0.8


def test_the_checksum_is_that_of_the_real_dictionary() -> None:
    content = reference("dictionaries/v1-legacy.zdict").read_bytes()
    assert hashlib.sha256(content).hexdigest() == dictionaries.V1_SHA256
    assert Dictionary(content).number == 1612007021


OURS = trained(1_612_007_021)
FRAMES = {
    compressed(text, OURS, with_size=with_size): text
    for text in (b"text" * size for size in (1, 10, 63, 64, 70, 1_000, 20_000))
    for with_size in (True, False)
}
SOUND = compressed(b"sound", OURS)


@settings(max_examples=400)
@given(
    st.lists(st.tuples(st.sampled_from(list(FRAMES)), st.integers(0, 60), st.binary(max_size=2), st.integers(0, 2))),
    st.booleans(),
)
def test_many_at_once_are_what_they_are_one_by_one(changes: list[tuple[bytes, int, bytes, int]], sound: bool) -> None:
    messages = [
        frame if sound else frame[:place] + changed + frame[place + gone :] for frame, place, changed, gone in changes
    ]
    decompressor = Decompressor(OURS)
    try:
        one_by_one = [text for part in decompressor._one_by_one(Messages.of(messages)) for text in part]
    except OtherDictionary:
        one_by_one = None
    try:
        at_once = [text for part in decompressor.parts(messages) for text in part]
    except OtherDictionary:
        at_once = None
    assert at_once == one_by_one
    if sound:
        assert at_once == [FRAMES[message] for message in messages]


needs_compiler = pytest.mark.skipif(not IS_COMPILED, reason="there was no compiler when the package was installed")


@needs_compiler
@settings(max_examples=400)
@given(st.lists(st.tuples(st.sampled_from(list(FRAMES)), st.integers(0, 14), st.binary(max_size=2), st.integers(0, 2))))
def test_what_frames_tell_is_what_zstandard_reads(changes: list[tuple[bytes, int, bytes, int]]) -> None:
    messages = [frame[:place] + changed + frame[place + gone :] for frame, place, changed, gone in changes]
    for message, size in zip(messages, told(OURS, messages), strict=True):
        if size:
            described = zstandard.get_frame_parameters(message)
            assert (described.content_size, described.dict_id) == (size, OURS.number)
            assert described.window_size <= 8 * 1024 * 1024


@needs_compiler
def test_frames_that_are_not_there_are_not_read() -> None:
    memory = np.zeros(30, np.uint8)
    for starts, ends in (([-1], [20]), ([0], [31]), ([20], [10]), ([5, 0], [9, 4]), ([0], [10, 20])):
        with pytest.raises(IndexError):
            zstd_frames.content_sizes(memory, np.array(starts), np.array(ends), 7)


@pytest.mark.parametrize("with_size", [True, False])
@pytest.mark.parametrize("after", [b"x", b"garbage", compressed(b"more", OURS), compressed(b"", OURS)])
def test_a_message_is_one_frame_and_nothing_else(after: bytes, with_size: bool) -> None:
    decompressor = Decompressor(OURS)
    assert [*decompressor.parts([SOUND])] == [[b"sound"]]
    for text in (b"text", b"text" * 100, b"text" * 20_000):
        frame = compressed(text, OURS, with_size=with_size)
        assert read(OURS, SOUND, frame, frame + after, frame) == [b"sound", text, frame + after, text]
        assert [*map(list, decompressor.parts([SOUND] * 4 + [frame + after]))] == [[b"sound"] * 4 + [frame + after]]
        assert not IS_COMPILED or told(OURS, [frame + after]) == [0]


def test_a_frame_that_says_that_it_is_empty_stays_as_it_is() -> None:
    empty, full = compressed(b"", OURS), compressed(b"text" * 100, OURS)
    says_so = full[:4] + bytes([full[4] & 0b0011_1111]) + full[5:9] + bytes(1) + full[11:]
    assert zstandard.get_frame_parameters(says_so).content_size == 0
    assert read(OURS, empty, says_so, compressed(b"", OURS, with_size=False)) == [empty, says_so, b""]


def test_without_a_compiler_each_is_read_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "zstd_frames", None)
    assert read(OURS, *FRAMES) == [*FRAMES.values()]


@pytest.mark.parametrize("with_size", [True, False])
def test_a_message_that_grows_too_large_stays_compressed_and_is_handed_back(with_size: bool) -> None:
    ours = trained(7)
    bomb = compressed(b"a" * (MAX_EVENT_BYTES + 1), ours, with_size=with_size)
    sound = compressed(b"sound", ours)
    assert read(ours, sound, bomb, sound) == [b"sound", bomb, b"sound"]
    (rejected,) = decode([bomb], "host").rejected
    assert rejected.message == bomb
    assert "zstd" in rejected.reason


def test_plain_and_broken_messages_are_left_as_they_are() -> None:
    ours = trained(7)
    sound, broken = compressed(b"sound", ours), compressed(b"text" * 100, ours)[:-3]
    foreign = compressed(b"no dictionary")
    assert read(ours, b"{}", sound, broken, foreign, b"") == [b"{}", b"sound", broken, b"no dictionary", b""]
    assert read(ours, foreign, foreign[:-3]) == [b"no dictionary", foreign[:-3]]


def test_another_dictionary_is_told() -> None:
    with pytest.raises(OtherDictionary, match="8, not 7"):
        read(trained(7), compressed(b"text", trained(8)))


@pytest.mark.parametrize("number", [1, 300])
def test_a_dictionary_that_is_damaged_is_told_as_another_one(number: int) -> None:
    ours = trained(7)
    damaged = Dictionary(ours.content[:-3_000])
    frame = compressed(b'{"did":"did:plc:1999","kind":"commit","text":"15829881"}', ours)
    with pytest.raises(OtherDictionary, match="cannot be read with dictionary 7"):
        read(damaged, *[frame] * number)


@pytest.mark.parametrize("content", [b"", b"\x37\xa4\x30\xec", b"text" * 100, trained(7).content[:60]])
def test_what_cannot_be_used_as_a_dictionary_is_none(content: bytes) -> None:
    with pytest.raises(ValueError, match="zstd dictionary"):
        Dictionary(content)


def test_a_dictionary_without_a_number_is_none() -> None:
    with pytest.raises(ValueError, match="zstd dictionary"):
        Dictionary(OURS.content[:4] + bytes(4) + OURS.content[8:])


@pytest.mark.parametrize("with_size", [[True], [False], [True, False]])
def test_parts_are_bounded(monkeypatch: pytest.MonkeyPatch, with_size: list[bool]) -> None:
    monkeypatch.setattr(compression, "_PART_BYTES", 1000)
    ours = trained(1_612_007_021)
    texts = [bytes([65 + i]) * 400 for i in range(10)]
    frames = [compressed(text, ours, with_size=with_size[i % len(with_size)]) for i, text in enumerate(texts)]
    parts = list(Decompressor(ours).parts(frames))
    assert [text for part in parts for text in part] == texts
    assert max(sum(map(len, part)) for part in parts) <= 1200


class Web:
    """Serves one content, or nothing."""

    def __init__(self) -> None:
        self.content: bytes | None = None
        self.paths: list[str] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.paths.append(self.path)
                self.send_response(404 if web.content is None else 200)
                self.end_headers()
                self.wfile.write(web.content or b"")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"


@pytest.fixture
def web() -> Iterator[Web]:
    served = Web()
    thread = threading.Thread(target=served.server.serve_forever)
    thread.start()
    yield served
    served.server.shutdown()
    served.server.server_close()
    thread.join()


def find(known: Dictionaries, wire: Wire, web: Web) -> Dictionary:
    return asyncio.run(known.find(Host.parse(f"ws://{web.address}"), wire))


def test_a_v2_dictionary_is_fetched_from_its_host_once_and_again_when_it_retired(web: Web) -> None:
    cache: dict[str, bytes] = {}
    web.content = trained(7).content
    assert find(Dictionaries(cache), Wire.V2, web).number == 7
    web.content = trained(8).content
    assert find(Dictionaries(cache), Wire.V2, web).number == 7
    assert web.paths == ["/xrpc/network.bsky.jetstream.getZstdDictionary"]
    host = Host.parse(f"ws://{web.address}")
    assert asyncio.run(Dictionaries(cache).renew(host)).number == 8
    assert find(Dictionaries(cache), Wire.V2, web).number == 8


def test_a_dictionary_that_is_forgotten_is_fetched_anew(web: Web) -> None:
    known, host = Dictionaries({}), Host.parse(f"ws://{web.address}")
    known.forget(host)
    for number in (7, 8):
        web.content = trained(number).content
        assert find(known, Wire.V2, web).number == number
        known.forget(host)


def test_a_dictionary_that_drips_is_not_waited_for(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dictionaries, "_PATIENCE_SEC", 0.0)
    web.content = trained(7).content
    with pytest.raises(NoDictionary, match="cannot fetch"):
        find(Dictionaries({}), Wire.V2, web)


def test_a_server_whose_dictionary_fails_goes_on_without_and_forgets_it() -> None:
    cache = {"v2-example.org.zdict": trained(7).content}
    server = Server(Host.parse("example.org"), Subscription(), Options(dictionaries=Dictionaries(cache)), print)
    assert asyncio.run(server.adapt(OtherDictionary("damaged")))
    assert not cache
    assert [*server.texts([b"as it is"])] == [[b"as it is"]]


def test_the_v1_dictionary_is_fetched_once_and_only_the_real_one_is_taken(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache: dict[str, bytes] = {}
    known = Dictionaries(cache, v1_url=f"http://{web.address}/v1.zdict")
    web.content = trained(7).content
    with pytest.raises(NoDictionary, match="checksum"):
        find(known, Wire.V1, web)
    monkeypatch.setattr(dictionaries, "V1_SHA256", hashlib.sha256(web.content).hexdigest())
    assert find(known, Wire.V1, web).number == 7
    web.content = None
    assert find(known, Wire.V1, web).number == 7
    cache["v1.zdict"] = trained(9).content
    with pytest.raises(NoDictionary, match="answered 404"):
        find(known, Wire.V1, web)


def test_a_file_of_one_s_own_comes_first(web: Web, tmp_path: Path) -> None:
    path = tmp_path / "own.zdict"
    path.write_bytes(trained(5).content)
    assert find(Dictionaries({}, v1_file=path, v1_url="http://127.0.0.1:1/"), Wire.V1, web).number == 5


@pytest.mark.parametrize("content", [None, b"not a dictionary"])
def test_a_file_that_is_none_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "own.zdict"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInput, match="JETSTREAM_ZSTD_DICTIONARY"):
        Dictionaries({}, v1_file=path)


@pytest.mark.parametrize("content", [None, b"", b"<html>", b"\x37\xa4\x30\xec" + bytes(5_000_000)])
def test_what_is_no_dictionary_is_told_in_one_line(web: Web, content: bytes | None) -> None:
    web.content = content
    with pytest.raises(NoDictionary) as told:
        find(Dictionaries({}), Wire.V2, web)
    assert web.address in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("size", [0, 1, 4_095, 4_096, 4_097, 100_000])
def test_a_frame_that_does_not_tell_its_size_is_read(size: int) -> None:
    dictionary = trained(7)
    assert read(dictionary, compressed(b"a" * size, dictionary, with_size=False)) == [b"a" * size]
