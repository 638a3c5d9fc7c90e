"""Who is to be told is read from plain strings, and what is secret is shown nowhere."""

import pytest

from jetstream_pipeline.alerts.targets import Mail, Targets, Webhook
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline_tests.alerts.examples import PASSWORD, SECRET

HOOK = f"https://me:{PASSWORD}@hooks.example.org:8443/services/{SECRET}?token={SECRET}"
SERVER = f"smtp+starttls://me%40example.org:{PASSWORD}%2F@mail.example.org"


def mail_by(server: str) -> Mail:
    targets = Targets.parse(recipients="you@example.org", smtp=server, sender="me@example.org")
    assert targets.mail
    return targets.mail


def test_both_targets_are_read() -> None:
    targets = Targets.parse(f" {HOOK} ", "you@example.org, They@example.com,", f" {SERVER} ", " me@example.org ")
    assert targets.webhook == Webhook(HOOK)
    assert targets.mail == Mail(SERVER, "me@example.org", ("you@example.org", "They@example.com"))
    assert targets.names == ("webhook https://hooks.example.org", "mail server smtp+starttls://mail.example.org")


def test_what_is_not_named_is_not_wanted() -> None:
    assert Targets.parse() == Targets()
    assert Targets.parse(" ", " , ", " ", " ").names == ()
    assert Targets.parse(webhook="http://127.0.0.1:1/").mail is None


@pytest.mark.parametrize(
    ("server", "scheme", "host", "port", "user", "password"),
    [
        ("smtp://mail", "smtp", "mail", 25, "", ""),
        ("SMTPS://mail.example.org/", "smtps", "mail.example.org", 465, "", ""),
        ("smtp+starttls://u:p%20w%3A@[::1]", "smtp+starttls", "::1", 587, "u", "p w:"),
        ("smtp://u%40h:p@127.0.0.1:2525", "smtp", "127.0.0.1", 2525, "u@h", "p"),
    ],
)
def test_a_mail_servers_address_says_how_it_is_spoken_to(
    server: str, scheme: str, host: str, port: int, user: str, password: str
) -> None:
    mail = mail_by(server)
    assert (mail.scheme, mail.host, mail.port, mail.user, mail.password) == (scheme, host, port, user, password)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("hooks.example.org/" + SECRET, "the webhook is not an address of http, https"),
        ("ftp://hooks.example.org/" + SECRET, "the webhook is not an address of http, https"),
        ("https:///" + SECRET, "names no host"),
        ("https://-/" + SECRET, "names no host"),
        ("https://a..b/" + SECRET, "names no host"),
        ("https://" + "a" * 64 + "/" + SECRET, "names no host"),
        ("https://" + "a." * 127 + "/" + SECRET, "names no host"),
        ("https://a:0/" + SECRET, "no port that is one"),
        ("https://a:99999/" + SECRET, "the webhook is not an address"),
        ("https://[::1/" + SECRET, "the webhook is not an address"),
        ("https://a b/" + SECRET, "the webhook is not an address"),
        ("https://a/\r\nX: " + SECRET, "the webhook is not an address"),
        ("https://a/\x00" + SECRET, "the webhook is not an address"),
        ("https://hööks.example.org/" + SECRET, "the webhook is not an address"),
        ("https://a/?a=" + SECRET * 20_000, "the webhook is not an address"),
    ],
)
def test_what_is_no_webhook_is_told_without_being_shown(url: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as error:
        Targets.parse(webhook=url)
    assert SECRET not in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ("mail.example.org", "is not an address of smtp, smtps, smtp"),
        (f"imap://u:{PASSWORD}@mail", "is not an address of smtp, smtps, smtp"),
        (f"smtp://u:{PASSWORD}@mail:port", "is not an address"),
        (f"smtp://u:{PASSWORD}@", "names no host"),
        (f"smtp://u:{PASSWORD}/@mail", "is not an address"),
        (f"smtp://u:{PASSWORD}@mail/path", "more than a host and a port"),
        (f"smtp://u:{PASSWORD}@mail?x", "more than a host and a port"),
        (f"smtp://:{PASSWORD}@mail", "without a password, or the reverse"),
        ("smtp://u@mail", "without a password, or the reverse"),
        (f"smtp://u:{PASSWORD}%0D%0ARSET@mail", "printable ASCII"),
        (f"smtp://u:{PASSWORD}%C3%BC@mail", "printable ASCII"),
    ],
)
def test_what_is_no_mail_server_is_told_without_its_password(server: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as error:
        mail_by(server)
    assert PASSWORD not in str(error.value)


@pytest.mark.parametrize(
    "address",
    [
        *("you", "you@", "@example.org", "you@example.org\r\nBcc: all@example.org", "You <you@example.org>"),
        *("you@exa mple.org", "yöu@example.org", "you@example.org\n", "y" * 65 + "@example.org", "a@b@c"),
    ],
)
def test_only_plain_addresses_are_taken(address: str) -> None:
    with pytest.raises(InvalidInput, match="recipient 2 of e-mail is not an address"):
        Mail("smtp://mail", "me@example.org", ("you@example.org", address))
    with pytest.raises(InvalidInput, match="the sender of e-mail is not an address"):
        Mail("smtp://mail", address, ("you@example.org",))


@pytest.mark.parametrize(
    ("recipients", "smtp", "sender", "lacking"),
    [
        ("a@b.example", "", "", "a mail server and a sender"),
        ("a@b.example", "smtp://mail", "", "a sender"),
        ("", "smtp://mail", "a@b.example", "recipients"),
        ("", "", "a@b.example", "recipients and a mail server"),
    ],
)
def test_what_e_mail_lacks_is_named(recipients: str, smtp: str, sender: str, lacking: str) -> None:
    with pytest.raises(InvalidInput, match=f"^e-mail needs {lacking} too$"):
        Targets.parse(recipients=recipients, smtp=smtp, sender=sender)


def test_no_text_of_targets_shows_a_secret() -> None:
    targets = Targets.parse(HOOK, "you@example.org", SERVER, "me@example.org")
    for shown in (repr(targets), str(targets), f"{targets.webhook}", f"{targets.mail!r}", str(targets.names)):
        assert SECRET not in shown
        assert PASSWORD not in shown
        assert "example.org" in shown
