"""What strangers name is fetched from the public internet only, from the very address that was checked."""

import gzip
import threading
from collections.abc import Iterator

import pytest

from jetstream_pipeline.handles.errors import HandlesUnreachable, UnresolvedHandles
from jetstream_pipeline_tests.handles.web import Page
from jetstream_pipeline_tests.handles.world import ALICE, PUBLIC, PUBLIC_6, World

WELL_KNOWN = "/.well-known/atproto-did"
OTHER = "93.184.215.99"


@pytest.fixture(autouse=True)
def alice(world: World) -> None:
    world.document(ALICE, "at://alice.test")


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """Ends with the test."""
    event = threading.Event()
    yield event
    event.set()


def redirect(to: str, status: int = 302) -> Page:
    return Page(status=status, headers={"Location": to})


INSIDE = [
    ["127.0.0.1"],
    ["10.1.2.3"],
    ["169.254.169.254"],
    ["0.0.0.0"],
    ["::1"],
    ["fd00:ec2::254"],
    ["::ffff:127.0.0.1"],
    ["64:ff9b::a00:1"],
    ["2002:7f00:1::"],
    [PUBLIC, "10.1.2.3"],
    ["10.1.2.3", PUBLIC],
    [PUBLIC, "::1"],
    [PUBLIC, PUBLIC_6, "::ffff:169.254.169.254"],
]


@pytest.mark.parametrize("addresses", INSIDE)
def test_a_handles_host_inside_is_not_connected_to(world: World, addresses: list[str]) -> None:
    world.well_known("alice.test", ALICE)
    world.names.records.clear()
    world.names.host("alice.test", *addresses)
    with pytest.raises(UnresolvedHandles, match=r"https: alice\.test is not on the public internet"):
        world.resolve("alice.test")
    assert (world.connected, world.hosts.requests) == ([], [])


@pytest.mark.parametrize("addresses", INSIDE)
def test_a_redirect_to_a_host_inside_is_not_followed(world: World, addresses: list[str]) -> None:
    world.well_known("alice.test", redirect(f"https://elsewhere.test{WELL_KNOWN}"))
    world.hosts.pages["elsewhere.test", WELL_KNOWN] = Page(ALICE.encode())
    world.names.host("elsewhere.test", *addresses)
    with pytest.raises(UnresolvedHandles, match=r"https: elsewhere\.test is not on the public internet"):
        world.resolve("alice.test")
    assert world.connected == [PUBLIC]


@pytest.mark.parametrize("addresses", INSIDE)
def test_a_did_webs_host_inside_is_not_connected_to(world: World, addresses: list[str]) -> None:
    world.appview("alice.test", "did:web:web.test")
    world.document("did:web:web.test", "at://alice.test")
    world.names.host("web.test", *addresses)
    with pytest.raises(UnresolvedHandles, match=r"did:web:web\.test: web\.test is not on the public internet"):
        world.resolve("alice.test")
    assert world.connected == []


def test_the_connection_goes_to_the_address_that_was_checked(world: World) -> None:
    """DNS that would answer otherwise the second time is not asked a second time."""
    world.well_known("alice.test", ALICE)
    world.names.then("alice.test", "127.0.0.1")
    assert world.did_of("alice.test") == ALICE
    assert world.connected == [PUBLIC]
    assert world.names.questions.count(("alice.test", "A")) == 1


def test_each_redirect_is_looked_up_and_checked_anew(world: World) -> None:
    world.well_known("alice.test", redirect("/moved"))
    world.hosts.pages["alice.test", "/moved"] = Page(ALICE.encode())
    world.names.then("alice.test", "127.0.0.1")
    with pytest.raises(UnresolvedHandles, match=r"alice\.test is not on the public internet"):
        world.resolve("alice.test")
    assert world.connected == [PUBLIC]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_a_public_host_is_followed(world: World, status: int) -> None:
    world.well_known("alice.test", redirect("https://elsewhere.test:443/a?b=c", status))
    world.names.host("elsewhere.test", OTHER)
    world.hosts.pages["elsewhere.test", "/a?b=c"] = Page(ALICE.encode())
    assert world.source_of("alice.test") == "https"
    assert world.connected == [PUBLIC, OTHER]


@pytest.mark.parametrize(
    "to",
    [
        "http://elsewhere.test/",
        "https://elsewhere.test:8443/",
        "https://127.0.0.1/",
        f"https://{OTHER}/",
        "https://[::1]/",
        "https://2130706433/",
        "https://localhost/",
        "ftp://elsewhere.test/",
        "file:///etc/passwd",
    ],
)
def test_a_redirect_to_anything_but_https_of_a_host_is_not_followed(world: World, to: str) -> None:
    world.well_known("alice.test", redirect(to))
    world.names.host("elsewhere.test", OTHER)
    world.hosts.pages["", "/"] = Page(ALICE.encode())
    with pytest.raises(UnresolvedHandles, match="https: redirects to other than https://HOST"):
        world.resolve("alice.test")
    assert world.connected == [PUBLIC]


@pytest.mark.parametrize("to", ["https://elsewhere.test:99999999/", "https://[/", "https://\x7f/"])
def test_a_redirect_to_no_address_is_a_no(world: World, to: str) -> None:
    world.well_known("alice.test", redirect(to))
    with pytest.raises(UnresolvedHandles, match="https: redirects to"):
        world.resolve("alice.test")


def test_a_password_in_a_redirect_is_not_sent(world: World) -> None:
    world.well_known("alice.test", redirect("https://me:secret@elsewhere.test/"))
    world.names.host("elsewhere.test", OTHER)
    world.hosts.pages["elsewhere.test", "/"] = Page(ALICE.encode())
    assert world.did_of("alice.test") == ALICE
    assert "Authorization" not in world.hosts.requests[-1][2]


@pytest.mark.parametrize(("hops", "followed"), [(3, True), (4, False)])
def test_three_redirects_are_followed(world: World, hops: int, followed: bool) -> None:
    world.well_known("alice.test", redirect("/1"))
    for hop in range(1, hops):
        world.hosts.pages["alice.test", f"/{hop}"] = redirect(f"/{hop + 1}")
    world.hosts.pages["alice.test", f"/{hops}"] = Page(ALICE.encode())
    if followed:
        assert world.source_of("alice.test") == "https"
    else:
        with pytest.raises(UnresolvedHandles, match="redirects more than 3 times"):
            world.resolve("alice.test")


def test_a_redirects_own_body_is_not_read(world: World, never: threading.Event) -> None:
    page = Page(status=302, headers={"Location": "/moved"}, drip=never)
    world.well_known("alice.test", page)
    world.hosts.pages["alice.test", "/moved"] = Page(ALICE.encode())
    assert world.source_of("alice.test") == "https"


def test_the_certificate_must_be_the_hosts(world: World) -> None:
    world.well_known("stranger.test", ALICE)
    world.document(ALICE, "at://stranger.test")
    with pytest.raises(HandlesUnreachable, match=r"https: cannot be reached .*CERTIFICATE_VERIFY_FAILED"):
        world.resolve("stranger.test")
    assert world.hosts.requests == []


def test_a_connection_to_one_host_is_not_used_for_another_of_the_same_address(world: World) -> None:
    world.well_known("alice.test", "did:web:stranger.test")
    world.names.host("stranger.test", PUBLIC)
    world.document("did:web:stranger.test", "at://alice.test")
    with pytest.raises(HandlesUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
        world.resolve("alice.test")
    assert [host for host, _, _ in world.hosts.requests] == ["alice.test"]


def test_a_host_of_ipv6_only_is_reached(world: World) -> None:
    world.well_known("alice.test", ALICE)
    world.names.records.clear()
    world.names.host("alice.test", PUBLIC_6)
    assert world.source_of("alice.test") == "https"
    assert world.connected == [PUBLIC_6]


def test_a_hosts_next_address_is_tried_and_ipv4_first(world: World) -> None:
    world.well_known("alice.test", ALICE)
    world.names.records.clear()
    world.names.host("alice.test", PUBLIC_6, PUBLIC)
    world.unreachable |= {PUBLIC}
    assert world.source_of("alice.test") == "https"
    assert world.connected == [PUBLIC, PUBLIC_6]


def test_not_more_than_three_addresses_are_tried(world: World) -> None:
    addresses = [f"93.184.215.{number}" for number in range(1, 9)]
    world.names.host("alice.test", *addresses)
    world.unreachable.update(addresses)
    with pytest.raises(HandlesUnreachable, match="https: cannot be reached"):
        world.resolve("alice.test")
    assert len(set(world.connected)) == len(world.connected) == 3


def test_the_environments_proxy_is_for_trusted_services_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{world.trusted.port}")
    world.well_known("alice.test", ALICE)
    assert world.source_of("alice.test") == "https"
    assert world.connected == [PUBLIC]


def test_more_than_64_kib_are_no_answer(world: World) -> None:
    world.well_known("alice.test", ALICE + " " * 64 * 1024)
    with pytest.raises(UnresolvedHandles, match="https: answered more than 64 KiB"):
        world.resolve("alice.test")


@pytest.mark.parametrize(("size", "read"), [(1_000_000, True), (1_100_000, False)])
def test_documents_may_have_a_mebibyte(world: World, size: int, read: bool) -> None:
    world.appview("alice.test", ALICE)
    world.document(ALICE, "at://alice.test", filling="x" * size)
    if read:
        assert world.did_of("alice.test") == ALICE
    else:
        with pytest.raises(UnresolvedHandles, match="answered more than 1024 KiB"):
            world.resolve("alice.test")


@pytest.mark.parametrize("body", [b"[" * 500_000, b'{"id":' * 100_000, b"\xff\xfe", b"{}", b"null"])
def test_a_document_made_to_break_its_reader_is_none(world: World, body: bytes) -> None:
    world.appview("alice.test", ALICE)
    world.trusted.pages["", f"/{ALICE}"] = Page(body)
    with pytest.raises(UnresolvedHandles, match="no document that can be read"):
        world.resolve("alice.test")


def test_a_compressed_body_is_not_unpacked(world: World) -> None:
    """A few bytes may hold gigabytes."""
    page = Page(gzip.compress(ALICE.encode()), headers={"Content-Encoding": "gzip"})
    world.well_known("alice.test", page)
    with pytest.raises(UnresolvedHandles, match="which is no account's DID"):
        world.resolve("alice.test")
    assert world.hosts.requests[0][2]["Accept-Encoding"] == "identity"


def test_a_body_without_end_is_left_after_the_deadline(world: World, never: threading.Event) -> None:
    world.deadline_sec = 1.5
    world.well_known("alice.test", Page(drip=never))
    with pytest.raises(HandlesUnreachable, match=r"https: no answer within 1\.5 s"):
        world.resolve("alice.test")


def test_an_appview_without_end_is_left_after_the_deadline(world: World, never: threading.Event) -> None:
    world.deadline_sec = 1.5
    world.appview("alice.test", Page(drip=never))
    with pytest.raises(HandlesUnreachable, match=r"appview: http://\S+ did not answer within 1\.5 s"):
        world.resolve("alice.test")


def test_silent_dns_is_left_after_the_deadline(world: World) -> None:
    world.deadline_sec = 1.5
    world.names.silent = True
    with pytest.raises(HandlesUnreachable, match=r"dns: DNS did not answer within 1\.5 s"):
        world.resolve("alice.test")
