"""How the addresses of trusted services are written."""

import pytest

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.handles.endpoints import Endpoints, parse_server


@pytest.mark.parametrize("field", ["appview", "plc"])
@pytest.mark.parametrize("text", ["http://127.0.0.1:3000", "https://a.example/", "https://[::1]:2", "http://localhost"])
def test_addresses_of_services(field: str, text: str) -> None:
    assert getattr(Endpoints(**{field: text}), field) == text


@pytest.mark.parametrize("field", ["appview", "plc"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.example",
        "ftp://a.example",
        "https://",
        "https://a/b",
        "https://a?b",
        "https://a#b",
        "https://a b",
        "https://a:0",
        "https://a:70000",
        "https://[a",
        "https://ü.example",
        "https://a\n",
    ],
)
def test_what_is_no_address_is_refused(field: str, text: str) -> None:
    with pytest.raises(InvalidInput, match=r"is not an address.*https://HOST") as refusal:
        Endpoints(**{field: text})
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("field", ["appview", "plc", "dns"])
def test_a_password_is_refused_and_not_shown(field: str) -> None:
    with pytest.raises(InvalidInput, match="password") as refusal:
        Endpoints(**{field: "https://me:secret@a.example"})
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("9.9.9.9", ("9.9.9.9", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("[::1]", ("::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
        ("dns.example:54", ("dns.example", 54)),
    ],
)
def test_a_dns_server_is_a_host_with_or_without_a_port(text: str, server: tuple[str, int]) -> None:
    assert parse_server(text) == server


@pytest.mark.parametrize("text", ["", ":53", "a:b", "a:0", "udp://a", "a/b", "a?b", "::1", "a b"])
def test_what_is_no_dns_server_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="HOST or HOST:PORT"):
        Endpoints(dns=text)


def test_an_appview_on_this_machine_is_for_development() -> None:
    assert Endpoints(appview="http://127.0.0.1:3000").development
    assert Endpoints(appview="http://[::1]:3000").development
    assert Endpoints(appview="http://localhost:3000").development
    assert not Endpoints(appview="https://10.0.0.1").development
    assert not Endpoints().development
