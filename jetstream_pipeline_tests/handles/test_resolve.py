"""Handles to DIDs: who is asked in which order, what counts as an answer, and how failures are told."""

import threading

import pytest
from dns.resolver import BaseResolver, NoResolverConfiguration

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.handles.endpoints import parse_server
from jetstream_pipeline.handles.errors import HandlesUnreachable, UnresolvedHandles
from jetstream_pipeline.handles.resolve import ResolvedHandle
from jetstream_pipeline_tests.handles.web import Page
from jetstream_pipeline_tests.handles.world import ALICE, BOB, NOON, World

HERS = f"did={ALICE}"


def test_the_appview_is_asked_first_and_nobody_else(world: World) -> None:
    world.appview("alice.test", ALICE)
    world.document(ALICE, "at://alice.test")
    assert world.resolve("alice.test") == [ResolvedHandle("alice.test", ALICE, "appview", NOON)]
    assert (world.names.questions, world.connected) == ([], [])


def test_then_dns_is_asked(world: World) -> None:
    world.names.text("_atproto.alice.test", HERS)
    world.document(ALICE, "at://alice.test")
    assert world.resolve("alice.test") == [ResolvedHandle("alice.test", ALICE, "dns", NOON)]
    assert world.connected == []


def test_then_the_handles_own_host_is_asked(world: World) -> None:
    world.well_known("alice.test", f" {ALICE}\r\n")
    world.document(ALICE, "at://alice.test")
    assert world.resolve("alice.test") == [ResolvedHandle("alice.test", ALICE, "https", NOON)]
    assert [(host, path) for host, path, _ in world.hosts.requests] == [("alice.test", "/.well-known/atproto-did")]


def test_handles_come_once_in_the_order_asked(world: World) -> None:
    for handle, did in (("alice.test", ALICE), ("bob.test", BOB)):
        world.appview(handle, did)
        world.document(did, f"at://{handle}")
    resolved = world.resolve("@Bob.Test", "alice.test", "bob.test", " ALICE.test ")
    assert [(one.handle, one.did) for one in resolved] == [("bob.test", BOB), ("alice.test", ALICE)]
    assert (world.asked("alice.test"), world.asked("bob.test")) == (1, 1)


def test_what_is_no_handle_is_refused_before_anybody_is_asked(world: World) -> None:
    with pytest.raises(InvalidInput, match="'alice' is not a handle"):
        world.resolve("bob.test", "alice")
    assert world.trusted.requests == []


@pytest.mark.parametrize("page", [Page(b"busy", 503), Page(b"slow down", 429), Page(b"<html>"), Page(status=302)])
def test_an_appview_that_does_not_work_is_passed_over(world: World, page: Page) -> None:
    world.appview("alice.test", page)
    world.names.text("_atproto.alice.test", HERS)
    world.document(ALICE, "at://alice.test")
    assert world.source_of("alice.test") == "dns"


def test_trusted_services_redirect_nowhere(world: World) -> None:
    elsewhere = f"http://127.0.0.1:{world.trusted.port}/elsewhere"
    world.appview("alice.test", Page(status=302, headers={"Location": elsewhere}))
    world.trusted.pages["", "/elsewhere"] = Page(f'{{"did":"{ALICE}"}}'.encode())
    world.document(ALICE, "at://alice.test")
    with pytest.raises(HandlesUnreachable, match="appview: answered 302"):
        world.resolve("alice.test")


def test_a_source_whose_did_names_another_handle_is_passed_over(world: World) -> None:
    world.appview("alice.test", BOB)
    world.document(BOB, "at://bob.test")
    world.names.text("_atproto.alice.test", f"did={BOB}")
    world.well_known("alice.test", ALICE)
    world.document(ALICE, "at://alice.test")
    assert world.resolve("alice.test") == [ResolvedHandle("alice.test", ALICE, "https", NOON)]


def test_a_handle_that_no_account_claims_is_told_with_every_sources_reason(world: World) -> None:
    world.appview("alice.test", BOB)
    world.document(BOB, "at://bob.test")
    world.names.text("_atproto.alice.test", "did=nonsense")
    world.well_known("alice.test", Page(b"gone", 410))
    with pytest.raises(UnresolvedHandles) as failure:
        world.resolve("alice.test")
    assert str(failure.value) == (
        f"could not resolve a handle: alice.test (appview: {BOB}: its document names 'bob.test' instead, "
        "dns: answered 'nonsense', which is no account's DID, https: answered 410); "
        "check the spelling, or try again in a minute"
    )


@pytest.mark.parametrize(
    "names", [["at://alice.test"], ["at://Alice.Test", "at://bob.test"], ["https://x.y", "at://alice.test"]]
)
def test_the_first_handle_of_a_document_is_the_accounts(world: World, names: list[str]) -> None:
    world.appview("alice.test", ALICE)
    world.document(ALICE, *names)
    assert world.did_of("alice.test") == ALICE


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "its document names no handle"),
        (["https://alice.test"], "its document names no handle"),
        (["at://bob.test", "at://alice.test"], "its document names 'bob.test' instead"),
        (["at://alice.test/"], "its document names 'alice.test/' instead"),
        ([7], "no document that can be read"),
    ],
)
def test_a_document_that_does_not_name_the_handle_first_is_no_claim(
    world: World, names: list[object], reason: str
) -> None:
    world.appview("alice.test", ALICE)
    world.document(ALICE, *names)
    with pytest.raises(UnresolvedHandles, match=f"appview: {ALICE}: {reason}"):
        world.resolve("alice.test")


def test_a_document_of_another_did_is_no_claim(world: World) -> None:
    world.appview("alice.test", ALICE)
    world.document(ALICE, "at://alice.test", id=BOB)
    with pytest.raises(UnresolvedHandles, match="its document is another's"):
        world.resolve("alice.test")


def test_a_did_that_the_directory_does_not_know_is_no_claim(world: World) -> None:
    world.appview("alice.test", ALICE)
    with pytest.raises(UnresolvedHandles, match=f"appview: {ALICE}: answered 404"):
        world.resolve("alice.test")


@pytest.mark.parametrize(
    "texts",
    [
        ["v=spf1 -all", HERS],
        [HERS, f'did=" "{ALICE}'],
        ["did=nonsense", HERS],
        [f'did={ALICE[:10]}" "{ALICE[10:]}'],
    ],
)
def test_texts_of_one_did_are_an_answer(world: World, texts: list[str]) -> None:
    world.names.text("_atproto.alice.test", *texts)
    world.document(ALICE, "at://alice.test")
    assert world.source_of("alice.test") == "dns"


def test_texts_of_two_dids_are_none(world: World) -> None:
    world.names.text("_atproto.alice.test", HERS, f"did={BOB}")
    world.document(ALICE, "at://alice.test")
    world.document(BOB, "at://alice.test")
    with pytest.raises(UnresolvedHandles, match="dns: 2 different DIDs"):
        world.resolve("alice.test")


def test_a_handle_too_long_for_its_dns_record_is_asked_at_its_host(world: World) -> None:
    handle = ".".join([*["a" * 63] * 3, "b" * 56, "test"])
    world.appview_knows_none(handle)
    with pytest.raises(UnresolvedHandles, match="dns: the name is too long for DNS, https: no host"):
        world.resolve(handle)


def test_without_a_dns_server_of_our_own_the_systems_is_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(resolver: BaseResolver, path: str) -> None:
        assert path == "/etc/resolv.conf"
        host, port = parse_server(world.names.server)
        resolver.nameservers, resolver.port = [host], port

    monkeypatch.setattr(BaseResolver, "read_resolv_conf", read)
    world.system_dns = True
    world.names.text("_atproto.alice.test", HERS)
    world.document(ALICE, "at://alice.test")
    assert world.source_of("alice.test") == "dns"


def test_a_system_without_dns_is_told_of_the_setting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(resolver: BaseResolver, path: str) -> None:
        raise NoResolverConfiguration

    monkeypatch.setattr(BaseResolver, "read_resolv_conf", read)
    world.system_dns = True
    with pytest.raises(HandlesUnreachable, match="set JETSTREAM_DNS_SERVER"):
        world.resolve("alice.test")


def test_the_document_of_a_did_web_is_on_its_host(world: World) -> None:
    world.appview("alice.test", "did:web:web.test")
    world.names.host("web.test", "93.184.215.20")
    world.document("did:web:web.test", "at://alice.test")
    assert world.did_of("alice.test") == "did:web:web.test"
    assert world.connected == ["93.184.215.20"]


@pytest.mark.parametrize("did", ["did:web:web.test:alice", "did:web:web.test%3A8443", "did:web:127.0.0.1", "did:web:x"])
def test_a_did_web_of_less_than_a_host_is_none(world: World, did: str) -> None:
    world.appview("alice.test", did)
    world.names.host("web.test", "93.184.215.20")
    with pytest.raises(UnresolvedHandles, match="which is no account's DID"):
        world.resolve("alice.test")
    assert world.connected == []


def test_one_error_names_every_handle_that_failed(world: World) -> None:
    world.appview("bob.test", BOB)
    world.document(BOB, "at://bob.test")
    world.appview_knows_none("carol.test")
    with pytest.raises(
        UnresolvedHandles, match=r"^could not resolve 2 handles: alice\.test .*; carol\.test"
    ) as failure:
        world.resolve("alice.test", "bob.test", "carol.test")
    assert "bob.test" not in str(failure.value)
    assert not failure.value.passing


@pytest.mark.parametrize("status", [429, 500, 503])
def test_where_somebody_could_not_be_asked_a_later_attempt_may_help(world: World, status: int) -> None:
    world.appview("alice.test", Page(b"", status))
    with pytest.raises(HandlesUnreachable, match=rf"appview: answered {status}.*try again in a minute") as failure:
        world.resolve("alice.test")
    assert failure.value.passing


def test_a_directory_out_of_reach_is_not_the_handles_fault(world: World) -> None:
    world.appview("alice.test", ALICE)
    world.trusted.pages["", f"/{ALICE}"] = Page(b"", 502)
    with pytest.raises(HandlesUnreachable, match=f"{ALICE}: answered 502"):
        world.resolve("alice.test")


def test_a_handle_that_is_nobodys_outweighs_one_that_could_not_be_asked_about(world: World) -> None:
    world.appview("alice.test", Page(b"", 500))
    with pytest.raises(UnresolvedHandles, match=r"alice\.test.*bob\.test"):
        world.resolve("alice.test", "bob.test")


def test_what_strangers_write_stays_on_one_line(world: World) -> None:
    world.well_known("alice.test", "did:plc:\x1b[2J\u202e\nPWNED " + "x" * 10_000)
    with pytest.raises(UnresolvedHandles) as failure:
        world.resolve("alice.test")
    text = str(failure.value)
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 500


def test_ten_handles_are_asked_about_at_once(world: World) -> None:
    handles = [f"user{number}.test" for number in range(25)]
    world.appview_knows_none(*handles)
    change = threading.Condition()
    inside, seen = 0, []

    def wait_for_ten() -> None:
        nonlocal inside
        with change:
            inside += 1
            seen.append(inside)
            change.notify_all()
            change.wait_for(lambda: max(seen) >= 10, timeout=20)
        # Room for an eleventh to come.
        threading.Event().wait(0.05)
        with change:
            inside -= 1

    world.trusted.before = wait_for_ten
    with pytest.raises(UnresolvedHandles, match="25 handles"):
        world.resolve(*handles)
    assert max(seen) == 10


def test_a_proxy_that_cannot_be_used_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:1")
    with pytest.raises(InvalidInput, match=r"^the proxy that the environment names cannot be used: "):
        world.resolve("alice.test")
