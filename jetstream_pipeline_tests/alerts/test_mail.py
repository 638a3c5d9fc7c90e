"""A group of alerts is one message, which nothing in them can turn into another one."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetstream_pipeline.alerts import mail
from jetstream_pipeline.alerts.deliver import deliver
from jetstream_pipeline.alerts.errors import AlertError
from jetstream_pipeline.alerts.mail import message_of
from jetstream_pipeline.alerts.targets import Mail, Targets
from jetstream_pipeline_tests.alerts.examples import PASSWORD, alert
from jetstream_pipeline_tests.alerts.receivers import Mailbox
from jetstream_pipeline_tests.alerts.receivers import mailbox as serving

YOU, THEY, ME = "you@example.org", "they@example.org", "me@example.org"
LOGIN = ("me", PASSWORD)


def to(box: Mailbox, scheme: str = "smtp", host: str = "127.0.0.1", login: tuple[str, str] | None = None) -> Targets:
    user = f"{login[0]}:{login[1]}@" if login else ""
    return Targets.parse("", f"{YOU}, {THEY}", f"{scheme}://{user}{host}:{box.port}", ME)


def failure(targets: Targets, settled: int = 0) -> str:
    with pytest.raises(AlertError) as error:
        deliver([alert()], targets)
    assert targets.mail
    assert error.value.settled == settled
    assert error.value.passing == (not settled)
    assert error.value.failed == (targets.mail.name,)
    text = str(error.value)
    assert PASSWORD not in text
    assert "\n" not in text
    return text.partition(f"{targets.mail.name}: ")[2]


def test_a_group_of_alerts_is_one_message(mailbox: Mailbox) -> None:
    deliver([alert("one"), alert("zwei ü", window=None, run_id="", url="", text="a\n.\nb")], to(mailbox))
    (message,) = mailbox.messages
    assert mailbox.recipients == [[YOU, THEY]]
    assert (message["From"], message["To"]) == (ME, f"{YOU}, {THEY}")
    assert message["Subject"] == "one (and 1 more)"
    assert message["Date"] == "Sat, 04 Jul 2026 15:00:00 +0000"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].endswith("@example.org>")
    assert message.get_content().splitlines() == [
        "one",
        "2026-07-04 14:00–15:00 UTC is truncated",
        "",
        "stream: network",
        "window: 2026-07-04-14:00",
        "state: truncated",
        "run: 0f0f",
        "time: 2026-07-04 15:00:00 UTC",
        "see: http://127.0.0.1:3000/runs/0f0f",
        "",
        "zwei ü",
        "a",
        ".",
        "b",
        "",
        "stream: network",
        "state: truncated",
        "time: 2026-07-04 15:00:00 UTC",
    ]


def test_one_alerts_subject_is_the_messages(mailbox: Mailbox) -> None:
    deliver([alert("Stunde 🌍 fehlt " + "x" * 300)], to(mailbox))
    assert mailbox.messages[0]["Subject"] == ("Stunde 🌍 fehlt " + "x" * 300)[:200]


HOSTILE = st.text(st.characters(codec=None) | st.sampled_from("\r\n\0.:\u2028\x85\ud800"), max_size=60)


@given(HOSTILE, HOSTILE, HOSTILE)
def test_no_text_becomes_a_header(subject: str, text: str, state: str) -> None:
    sent = message_of([alert(f"a\r\nBcc: {subject}", text=text, state=state)], Mail("smtp://mail", ME, (YOU,)))
    head, _, body = bytes(sent).partition(b"\r\n\r\n")
    names = [line.partition(b":")[0] for line in head.split(b"\r\n") if not line.startswith((b" ", b"\t"))]
    assert sorted(names) == sorted(
        b"From To Subject Date Message-ID Auto-Submitted Content-Type Content-Transfer-Encoding MIME-Version".split()
    )
    assert b"\0" not in body
    assert head.isascii()


@pytest.mark.parametrize("text", ["x\r\n.\r\nMAIL FROM:<a@b>\r\n", ".", "..", "\n.\n", "x" * 5000, "ü" * 5000])
def test_no_text_becomes_a_command(mailbox: Mailbox, text: str) -> None:
    deliver([alert(text=text)], to(mailbox))
    (message,) = mailbox.messages
    body = message.get_content().splitlines()
    assert body[1 : 1 + len(text.splitlines())] == [line.strip() for line in text.splitlines()]
    assert mailbox.commands == [f"plain {name}" for name in ("EHLO", "MAIL", "RCPT", "RCPT", "DATA", "QUIT")]


def test_a_recipient_who_is_refused_is_named_and_the_others_are_told(mailbox: Mailbox) -> None:
    mailbox.refused = (THEY,)
    assert failure(to(mailbox), settled=1) == f"refused {THEY} (550 nobody here)"
    assert mailbox.recipients == [[YOU]]
    mailbox.refused = (YOU, THEY)
    assert failure(to(mailbox)) == f"refused {YOU} (550 nobody here); refused {THEY} (550 nobody here)"


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"MAIL": "451 later\x1b[31m"}, r"answered 451 later\x1b[31m"),
        ({"DATA": "554 no"}, "answered 554 no"),
        ({"EHLO": "close"}, "cannot be used ("),
        ({"DATA": "close"}, "cannot be used ("),
    ],
)
def test_what_the_server_says_is_told_in_one_line(mailbox: Mailbox, answers: dict[str, str], told: str) -> None:
    mailbox.answers = answers
    assert failure(to(mailbox)).startswith(told)
    assert mailbox.messages == []


@pytest.mark.parametrize("answer", ["close", "500 no"])
def test_how_the_server_says_goodbye_changes_nothing(mailbox: Mailbox, answer: str) -> None:
    mailbox.answers = {"QUIT": answer}
    deliver([alert()], to(mailbox))
    assert len(mailbox.messages) == 1


def test_a_server_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as gone:
        pass
    assert "refused" in failure(to(gone))


def test_a_password_is_sent_and_not_shown_when_it_is_refused(mailbox: Mailbox) -> None:
    mailbox.login = LOGIN
    deliver([alert()], to(mailbox, login=LOGIN))
    assert len(mailbox.messages) == 1
    assert failure(to(mailbox, login=("me", PASSWORD + "!"))) == "refused the user or the password (535)"
    assert failure(to(mailbox)).startswith("answered 530 log in first")


def test_a_server_that_takes_no_password_is_told(mailbox: Mailbox) -> None:
    assert "AUTH" in failure(to(mailbox, login=LOGIN))
    assert mailbox.messages == []


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(("scheme", "implicit"), [("smtps", True), ("smtp+starttls", False)])
def test_what_is_to_be_encrypted_is_before_anything_is_said(tls: ssl.SSLContext, scheme: str, implicit: bool) -> None:
    with serving(tls, implicit=implicit) as box:
        box.login = LOGIN
        deliver([alert()], to(box, scheme, "localhost", LOGIN))
    assert len(box.messages) == 1
    assert [command for command in box.commands if command.startswith("plain")] == (
        [] if implicit else ["plain EHLO", "plain STARTTLS"]
    )
    assert "tls AUTH" in box.commands


@pytest.mark.parametrize(("scheme", "implicit"), [("smtps", True), ("smtp+starttls", False)])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_certificate_must_be_trusted_and_the_hosts(
    tls: ssl.SSLContext, scheme: str, implicit: bool, host: str, request: pytest.FixtureRequest
) -> None:
    if host == "127.0.0.1":
        request.getfixturevalue("trusted")
    with serving(tls, implicit=implicit) as box:
        assert "certificate verify failed" in failure(to(box, scheme, host, LOGIN))
    assert not [command for command in box.commands if "AUTH" in command or "MAIL" in command]


def test_nothing_is_said_in_the_clear_where_encryption_is_not_offered(mailbox: Mailbox) -> None:
    mailbox.login = LOGIN
    assert "STARTTLS" in failure(to(mailbox, "smtp+starttls", login=LOGIN))
    assert mailbox.commands == ["plain EHLO"]


def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "TIMEOUT_SEC", 0.2)
    with serving() as box:
        box.answers = {"EHLO": "250-more to come"}
        assert "timed out" in failure(to(box))
