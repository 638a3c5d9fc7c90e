"""How connections are opened, whatever carries them, and what each refusal of a host means."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from jetstream_pipeline.jetstream import opening
from jetstream_pipeline.jetstream.errors import (
    Busy,
    CursorTooOld,
    JetstreamError,
    NotOffered,
    Refused,
    RetiredDictionary,
)
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.opening import connected
from jetstream_pipeline.jetstream.request import Request
from jetstream_pipeline.jetstream.transport import Transport
from jetstream_pipeline_tests.jetstream.peers import TEXT, Peer, Script, answering, frame, saying, sending

V2 = "xrpc.v1.json"


async def first(host: Host, transport: Transport, subprotocol: str | None = None, hello: str | None = None) -> bytes:
    """The first message of a subscription."""
    request = Request(f"{host.address}/subscribe?cursor=1", subprotocol, hello)
    async with connected(host, request, transport) as connection:
        while not (messages := await connection.receive(1)):
            assert connection.ended is None
        return messages[0]


def answer(*parts: bytes | str) -> Script:
    """Send this and hang up; a pause between the parts."""

    async def script(peer: Peer) -> None:
        for number, part in enumerate(parts):
            if number:
                await asyncio.sleep(0.1)
            await peer.send(part if isinstance(part, bytes) else part.replace("\n", "\r\n").encode())

    return script


def refusal(status: int, body: str = "") -> str:
    return f"HTTP/1.1 {status} Whatever\nContent-Length: {len(body)}\n\n{body}"


async def test_a_host_is_told_who_asks_for_what(transport: Transport) -> None:
    asked: list[Peer] = []

    async def script(peer: Peer) -> None:
        asked.append(peer)
        await peer.send(frame(TEXT, b"hello"))
        await peer.left()

    async with answering(saying(script)) as host:
        assert await first(host, transport) == b"hello"
    (peer,) = asked
    assert peer.path == "/subscribe?cursor=1"
    assert peer.headers["host"] == host.name
    assert peer.headers["user-agent"]
    assert not {"sec-websocket-extensions", "sec-websocket-protocol", "origin"} & peer.headers.keys()


@pytest.mark.parametrize("connection", ["Upgrade", "upgrade", "keep-alive, Upgrade"])
async def test_what_comes_with_the_handshake_is_not_lost(transport: Transport, connection: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(peer.acceptance(connection=connection), frame(TEXT, b"at once"))
        await peer.left()

    async with answering(script) as host:
        assert await first(host, transport) == b"at once"


@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_the_first_message_is_sent_where_there_is_one(transport: Transport, size: int) -> None:
    hello = "ü" * size

    async def script(peer: Peer) -> None:
        first_byte, second = await peer.reader.readexactly(2)
        assert (first_byte, second & 0x80) == (0x81, 0x80)
        length = second & 0x7F
        if length > 125:
            length = int.from_bytes(await peer.reader.readexactly(2 if length == 126 else 8), "big")
        assert length == 2 * size
        mask = await peer.reader.readexactly(4)
        masked = await peer.reader.readexactly(length)
        key = int.from_bytes(mask * (length // 4) + mask[: length % 4], "big")
        assert (int.from_bytes(masked, "big") ^ key).to_bytes(length, "big").decode() == hello
        await peer.send(frame(TEXT, b"understood"))
        await peer.left()

    async with answering(saying(script)) as host:
        assert await first(host, transport, hello=hello) == b"understood"


async def test_the_subprotocol_is_asked_for(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        assert peer.headers["sec-websocket-protocol"] == V2
        await peer.send(frame(TEXT, b"{}"))
        await peer.left()

    async with answering(saying(script, f"Sec-WebSocket-Protocol: {V2}")) as host:
        assert await first(host, transport, V2) == b"{}"


@pytest.mark.parametrize(
    ("asked", "header", "error", "told"),
    [
        (V2, None, NotOffered, "does not speak xrpc.v1.json"),
        (V2, "Sec-WebSocket-Protocol: chat", JetstreamError, "unsupported subprotocol: chat"),
        (V2, f"Sec-WebSocket-Protocol: {V2}, chat", JetstreamError, "chat"),
        (None, "Sec-WebSocket-Protocol: chat", JetstreamError, "subprotocol"),
        (None, "Sec-WebSocket-Extensions: permessage-deflate", JetstreamError, "no extensions supported"),
    ],
)
async def test_a_host_that_agrees_to_something_else_is_not_read(
    transport: Transport, asked: str | None, header: str | None, error: type[Exception], told: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(frame(TEXT, b"?"))
        await peer.left()

    async with answering(saying(script, *([header] if header else []))) as host:
        with pytest.raises(error, match=told) as failure:
            await first(host, transport, asked)
        assert type(failure.value) is error


@pytest.mark.parametrize(
    ("status", "body", "subprotocol", "error", "told"),
    [
        (400, "invalid cursor\n", None, Refused, "answered 400: invalid cursor; check the host and the filters"),
        (403, "not for you", None, Refused, "answered 403: not for you; check"),
        (404, "404 page not found", None, Refused, "answered 404"),
        (429, "slow down", None, Busy, "answered 429: slow down"),
        (500, "", None, Busy, "answered 500$"),
        (503, "warming up", None, Busy, "answered 503: warming up"),
        (200, "<html>", None, JetstreamError, "answered 200: <html>"),
        (304, "", None, JetstreamError, "answered 304$"),
        (520, "the origin is away", None, JetstreamError, "answered 520: the origin is away"),
        (400, "x" * 1_000, None, Refused, "answered 400: x{300};"),
        (400, '{"error":"CursorTooOld","message":"below"}', V2, CursorTooOld, "below"),
        (400, '{"error":"UnknownZstdDictionary"}', V2, RetiredDictionary, "answered 400"),
        (400, '{"error":"InvalidRequest","message":"no"}', V2, Refused, "no"),
        (400, "plain text", V2, NotOffered, "plain text"),
        (404, '{"error":"MethodNotImplemented"}', V2, NotOffered, "answered 404"),
        (200, "<html>", V2, NotOffered, "answered 200"),
        (501, "", V2, NotOffered, "answered 501"),
        (503, '{"error":"ServiceUnavailable"}', V2, Busy, "ServiceUnavailable"),
        (429, "", V2, Busy, "answered 429"),
        (400, "[" * 100_000, V2, NotOffered, "answered 400"),
    ],
)
async def test_each_refusal_is_what_it_means(
    transport: Transport, status: int, body: str, subprotocol: str | None, error: type[Exception], told: str
) -> None:
    async with answering(answer(refusal(status, body))) as host:
        with pytest.raises(error, match=told) as failure:
            await first(host, transport, subprotocol)
        assert type(failure.value) is error


@pytest.mark.parametrize(
    "parts",
    [
        ("HTTP/1.1 400 Bad Request\nContent-Length: 9\n\n", "too young"),
        ("HTTP/1.1 400 Bad Request\n", "Content-Length: 9\n\ntoo", " young"),
        ("HTTP/1.1 400 Bad Request\nTransfer-Encoding: chunked\n\n3\ntoo\n6\n young\n0\n\n",),
        ("HTTP/1.1 400 Bad Request\n\ntoo young",),
        ("HTTP/1.1 400 Bad Request\nContent-Length: 9\n\ntoo young and more",),
    ],
)
async def test_a_refusals_reason_is_read_however_it_is_sent(transport: Transport, parts: tuple[str, ...]) -> None:
    async with answering(answer(*parts)) as host:
        with pytest.raises(Refused, match="answered 400: too young"):
            await first(host, transport)


@pytest.mark.parametrize("status", [429, 503])
async def test_a_host_that_wants_to_be_left_alone_is_asked_once(transport: Transport, status: int) -> None:
    asked = 0

    async def script(peer: Peer) -> None:
        nonlocal asked
        asked += 1
        await peer.send(f"HTTP/1.1 {status} Not now\r\nContent-Length: 5\r\n\r\n".encode())
        await asyncio.sleep(0.1)
        await peer.send(b"later")

    async with answering(script) as host:
        with pytest.raises(Busy, match=f"answered {status}"):
            await first(host, transport)
    assert asked == 1


@pytest.mark.parametrize(
    "parts",
    [
        (b"",),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n",),
        (bytes(range(256)) * 10,),
        ("HTTP/1.1 101 Switching Protocols\n\n",),
        ("HTTP/1.0 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\n\n",),
        ("HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Accept: x\n\n",),
        ("HTTP/1.1 101 Switching Protocols\nUpgrade: h2c\nConnection: Upgrade\n\n",),
        ("HTTP/1.1 abc What\n\n",),
        ("HTTP/1.1 200 OK\nX: " + "y" * 20_000,),
        ("HTTP/1.1 302 Found\nContent-Length: 0\n\n",),
        ("HTTP/1.1 302 Found\nLocation: gopher://example.org\nContent-Length: 0\n\n",),
        ("HTTP/1.1 302 Found\nLocation: ws://[::1/\nContent-Length: 0\n\n",),
        ("HTTP/1.1 302 Found\nLocation: ws://a:99999/\nContent-Length: 0\n\n",),
        ("HTTP/1.1 302 Found\nLocation: ws://a:port/\nContent-Length: 0\n\n",),
        ("HTTP/1.1 302 Found\nLocation: ws://a/\nLocation: ws://b/\nContent-Length: 0\n\n",),
    ],
)
async def test_a_host_that_answers_nonsense_cannot_be_reached(
    transport: Transport, parts: tuple[bytes | str, ...]
) -> None:
    async with answering(answer(*parts)) as host:
        with pytest.raises(JetstreamError):
            await first(host, transport)


async def test_an_answer_that_is_no_answer_is_told_alike(transport: Transport) -> None:
    async with answering(answer(b"")) as host:
        with pytest.raises(JetstreamError, match=r"cannot reach .* \(did not receive a valid HTTP response\)$"):
            await first(host, transport)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed(transport: Transport, status: int) -> None:
    async with answering(sending(frame(TEXT, b"here"))) as there:
        there_url = f"{there.address}/subscribe?cursor=1"
        redirecting = answer(f"HTTP/1.1 {status} Elsewhere\nLocation: {there_url}\nContent-Length: 0\n\n")
        async with answering(redirecting) as host:
            assert await first(host, transport) == b"here"


async def test_redirects_without_end_are_not(transport: Transport) -> None:
    async with answering(answer("HTTP/1.1 302 Found\nLocation: /again\nContent-Length: 0\n\n")) as host:
        with pytest.raises(JetstreamError, match="redirects"):
            await first(host, transport)


async def test_nobody_listens(transport: Transport) -> None:
    with pytest.raises(JetstreamError, match=r"^cannot reach 127\.0\.0\.1:1 \(.*Connect call failed"):
        await first(Host.parse("ws://127.0.0.1:1"), transport)


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".example.org"])
async def test_a_name_that_is_none(transport: Transport, name: str) -> None:
    with pytest.raises(JetstreamError, match=r"^cannot reach"):
        await first(Host(name, f"ws://{name}"), transport)


async def test_the_addresses_of_a_name_are_tried_in_turn(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(sending(frame(TEXT, b"here"))) as host:
        port = int(host.address.rsplit(":", 1)[1])
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        addresses = [(*kind, ("127.0.0.2", port)), (*kind, ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        assert await first(Host("both", f"ws://both.example.org:{port}"), transport) == b"here"


async def test_a_host_on_ipv6(transport: Transport) -> None:
    try:
        async with answering(sending(frame(TEXT, b"six")), "::1") as host:
            assert await first(host, transport) == b"six"
    except OSError:
        pytest.skip("there is no IPv6 here")


async def test_a_host_that_does_not_answer_is_given_up(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_OPEN_TIMEOUT_SEC", 0.3)
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.left()
        left.set()

    async with answering(script) as host:
        with pytest.raises(JetstreamError, match=r"^cannot reach .* \(timed out during opening handshake\)$"):
            await first(host, transport)
        await asyncio.wait_for(left.wait(), 20)


async def test_who_gives_up_before_the_answer_leaves_nothing_open(transport: Transport) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        asked.set()
        await peer.left()
        left.set()

    async with answering(script) as host:
        opening_it = asyncio.create_task(first(host, transport))
        await asked.wait()
        opening_it.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening_it
        await asyncio.wait_for(left.wait(), 20)


async def test_a_proxy_is_asked_where_the_environment_names_one(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(peer: Peer) -> None:
        assert peer.path == "far.example.org:80"
        await peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
        await peer.read_request()
        assert peer.headers["host"] == "far.example.org"
        await peer.send(peer.acceptance(), frame(TEXT, b"through"))
        await peer.left()

    async with answering(script) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy.name}")
        for name in ("ws_proxy", "socks_proxy", "https_proxy", "no_proxy", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        assert await first(Host.parse("ws://far.example.org"), transport) == b"through"


async def test_a_proxy_is_passed_by_where_the_environment_says_so(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with answering(sending(frame(TEXT, b"direct"))) as host:
        assert await first(host, transport) == b"direct"


@pytest.fixture
def trust(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


async def test_a_certificate_that_nobody_vouches_for_is_refused(transport: Transport, tls: ssl.SSLContext) -> None:
    async with answering(sending(frame(TEXT, b"?")), tls=tls, name="localhost") as host:
        with pytest.raises(JetstreamError, match=r"^cannot reach localhost:\d+ \(.*certificate verify failed"):
            await first(host, transport)


async def test_a_certificate_of_another_name_is_refused(
    transport: Transport, tls: ssl.SSLContext, trust: Callable[[], None]
) -> None:
    trust()
    async with answering(sending(frame(TEXT, b"?")), tls=tls, name="127.0.0.1") as host:
        with pytest.raises(JetstreamError, match="certificate verify failed"):
            await first(host, transport)


async def test_a_certificate_that_is_trusted_is_taken(
    transport: Transport, tls: ssl.SSLContext, trust: Callable[[], None]
) -> None:
    trust()
    messages = [str(number).encode() * 1_000 for number in range(1_000)]
    async with answering(sending(*(frame(TEXT, message) for message in messages)), tls=tls, name="localhost") as host:
        found: list[bytes] = []
        async with connected(host, Request(f"{host.address}/subscribe"), transport) as connection:
            while len(found) < len(messages):
                found += await connection.receive(1)
                assert connection.ended is None
        assert found == messages


async def test_the_buffer_is_bounded_behind_tls_too(
    transport: Transport, tls: ssl.SSLContext, trust: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    trust()
    monkeypatch.setattr("jetstream_pipeline.jetstream.connection._BUFFER_BYTES", 1_000_000)
    total, sent = 1_000, 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        for number in range(total):
            await peer.send(frame(TEXT, number.to_bytes(4, "big") + bytes(60_000)))
            sent += 1
        await peer.left()

    async with (
        answering(saying(script), tls=tls, name="localhost") as host,
        connected(host, Request(f"{host.address}/subscribe"), transport) as connection,
    ):
        before = -1
        while before < sent:
            before = sent
            await asyncio.sleep(0.5)
        assert 0 < sent < total / 2
        found: list[int] = []
        while len(found) < total:
            found += [int.from_bytes(message[:4], "big") for message in await connection.receive(1)]
            assert connection.ended is None
        assert found == list(range(total))
