"""What people type for a handle, and what a stranger may call a DID."""

import pytest

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.handles.syntax import is_did, parse_handle

LONGEST = ".".join(["a" * 63] * 3 + ["b" * 61])


@pytest.mark.parametrize(
    ("typed", "handle"),
    [
        ("alice.bsky.social", "alice.bsky.social"),
        (" @Alice.Example.COM\n", "alice.example.com"),
        ("8.cn", "8.cn"),
        ("name.t--t", "name.t--t"),
        ("xn--fiqa61au8b7zsevnm8ak20mc4a87e.xn--fiqs8s", "xn--fiqa61au8b7zsevnm8ak20mc4a87e.xn--fiqs8s"),
        (LONGEST, LONGEST),
    ],
)
def test_a_handle_is_stripped_of_its_at_sign_and_written_small(typed: str, handle: str) -> None:
    assert parse_handle(typed) == handle


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "@",
        "@@alice.bsky.social",
        "alice",
        "alice.bsky.social.",
        ".bsky.social",
        "john..com",
        "jo@hn.com",
        "al_ice.com",
        "-alice.com",
        "alice-.com",
        "john.0",
        "cn.8com",
        "127.0.0.1",
        "a b.com",
        "alice.com/x",
        "alice.com:443",
        "at://alice.com",
        "a" * 64 + ".com",
        LONGEST + "b",
    ],
)
def test_what_is_no_handle_is_refused_and_named(typed: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_handle(typed)
    assert str(refusal.value).startswith(f"{typed!a} is not a handle")


@pytest.mark.parametrize("typed", ["bücher.com", "alice.bsky.social\u202c", "\u212aelvin.com"])
def test_beyond_ascii_the_way_is_punycode(typed: str) -> None:
    with pytest.raises(InvalidInput, match="punycode") as refusal:
        parse_handle(typed)
    assert str(refusal.value).startswith(ascii(typed))


@pytest.mark.parametrize("tld", ["alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion"])
def test_reserved_domains_are_nobodys(tld: str) -> None:
    with pytest.raises(InvalidInput, match=rf"\.{tld} is reserved"):
        parse_handle(f"alice.{tld}", development=True)
    assert not is_did(f"did:web:alice.{tld}", development=True)


def test_the_domain_for_tests_is_for_development_only() -> None:
    assert parse_handle("alice.test", development=True) == "alice.test"
    assert is_did("did:web:alice.test", development=True)
    with pytest.raises(InvalidInput, match=r"\.test is reserved"):
        parse_handle("alice.test")
    assert not is_did("did:web:alice.test")


@pytest.mark.parametrize("text", ["did:plc:ewvi7nxzyoun6zhxrhs64oiz", "did:web:user.example.com"])
def test_accounts_have_these_dids(text: str) -> None:
    assert is_did(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "did:plc:",
        "did:plc:ewvi7nxzyoun6zhxrhs64oi",
        "did:plc:ewvi7nxzyoun6zhxrhs64oiz\n",
        "did:plc:ewvi7nxzyoun6zhxrhs64oi/",
        "did:plc:EWVI7NXZYOUN6ZHXRHS64OIZ",
        "did:web:user.example.com:path",
        "did:web:user.example.com%3A8443",
        "did:web:user.example.com/x",
        "did:web:localhost",
        "did:web:127.0.0.1",
        "did:key:zQ3shZc2QzApp2oymGvQbzP8eKheVshBHbU4ZYjeXqwSKEn6N",
    ],
)
def test_accounts_have_no_such_dids(text: str) -> None:
    assert not is_did(text)
