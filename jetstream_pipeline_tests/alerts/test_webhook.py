"""Alerts are posted one by one, and a webhook's secret stays one."""

import logging
import ssl
import threading

import pytest

from jetstream_pipeline.alerts import webhook
from jetstream_pipeline.alerts.deliver import deliver
from jetstream_pipeline.alerts.errors import AlertError
from jetstream_pipeline.alerts.targets import Targets
from jetstream_pipeline_tests.alerts.examples import PASSWORD, SECRET, alert
from jetstream_pipeline_tests.alerts.receivers import Hook
from jetstream_pipeline_tests.alerts.receivers import hook as serving

PATH = f"/services/{SECRET}?token={SECRET}"
ALERTS = [alert("one"), alert("two"), alert("three")]


def to(hook: Hook, scheme: str = "http", host: str = "127.0.0.1") -> Targets:
    return Targets.parse(webhook=f"{scheme}://{host}:{hook.port}{PATH}")


def failure(hook: Hook, settled: int = 0) -> str:
    with pytest.raises(AlertError) as error:
        deliver(ALERTS, to(hook))
    assert error.value.settled == settled
    assert error.value.passing == (settled < len(ALERTS))
    assert error.value.failed == ("webhook http://127.0.0.1",)
    assert SECRET not in str(error.value)
    return str(error.value).removeprefix("not everybody could be told of what happened: webhook http://127.0.0.1: ")


def test_each_alert_is_one_post_of_its_fields_and_of_what_chats_show(hook: Hook) -> None:
    deliver(ALERTS, to(hook))
    assert hook.paths == [PATH] * 3
    assert hook.subjects == ["one", "two", "three"]
    shown = "one\n2026-07-04 14:00–15:00 UTC is truncated\nhttp://127.0.0.1:3000/runs/0f0f"
    assert hook.bodies[0] == {
        "subject": "one",
        "text": shown,
        "content": shown,
        "stream": "network",
        "window": "2026-07-04-14:00",
        "state": "truncated",
        "run_id": "0f0f",
        "url": "http://127.0.0.1:3000/runs/0f0f",
        "time": "2026-07-04T15:00:00Z",
        "allowed_mentions": {"parse": []},
    }
    assert hook.headers[0]["Content-Type"] == "application/json"


def test_chats_are_shown_no_more_than_they_take_and_call_nobody(hook: Hook) -> None:
    deliver([alert("@everyone <!channel>", text="x" * 10_000, window=None)], to(hook))
    (body,) = hook.bodies
    assert len(body["content"]) == 2000
    assert body["content"].endswith("x…\nhttp://127.0.0.1:3000/runs/0f0f")
    assert "@everyone" not in body["text"]
    assert "<!channel" not in body["text"]
    assert body["subject"] == "@everyone <!channel>"
    assert body["window"] is None


def test_texts_of_strangers_arrive(hook: Hook) -> None:
    deliver([alert("\ud800 \x00 \x1b[31m 🌍", text="\n\r\u2028")], to(hook))
    assert hook.subjects == ["? \x00 \x1b[31m 🌍"]


def test_an_alert_that_is_refused_is_settled_and_does_not_keep_the_others(hook: Hook) -> None:
    hook.statuses = [200, 400, 200]
    assert failure(hook, settled=3) == "answered 400; dropped for good: two"
    assert hook.subjects == ["one", "two", "three"]


def test_of_many_that_are_refused_some_are_named_in_one_line(hook: Hook) -> None:
    hook.statuses = [404]
    with pytest.raises(AlertError) as error:
        deliver([alert("a\nb\x1b" + "x" * 500), *ALERTS, alert("four")], to(hook))
    assert str(error.value).endswith(": " + (r"a\nb\x1b" + "x" * 500)[:120] + ", one, two and 2 more")
    assert error.value.settled == 5


def test_what_is_refused_before_a_server_cannot_is_told_too(hook: Hook) -> None:
    hook.statuses = [400, 503]
    assert failure(hook, settled=1) == "answered 400; dropped for good: one; answered 503; 2 of 3 alerts are untold"
    assert hook.subjects == ["one", "two"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_cannot_is_left_alone(hook: Hook, status: int) -> None:
    hook.statuses = [204, status]
    assert failure(hook, settled=1) == f"answered {status}; 2 of 3 alerts are untold"
    assert hook.subjects == ["one", "two"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(hook: Hook, status: int) -> None:
    with serving() as elsewhere:
        hook.statuses, hook.location = [status], f"http://127.0.0.1:{elsewhere.port}/"
        assert failure(hook) == f"answered {status}, a redirect, which is not followed"
    assert elsewhere.bodies == []
    assert hook.subjects == ["one"]


def test_a_server_that_does_not_answer_is_waited_for_once(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "DEADLINE_SEC", 2.0)
    hook.silent = threading.Event()
    assert failure(hook) == "no answer within 2 s"
    hook.silent.set()
    assert hook.subjects == ["one"]


def test_a_server_that_is_not_there_is_told_in_one_line() -> None:
    with serving() as gone:
        pass
    assert failure(gone).startswith("cannot be reached (")


def test_a_password_in_the_address_is_sent_and_not_shown(hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    deliver([alert()], Targets.parse(webhook=f"http://me:{PASSWORD}@127.0.0.1:{hook.port}{PATH}"))
    assert hook.headers[0]["Authorization"].startswith("Basic ")
    assert hook.headers[0]["Host"] == f"127.0.0.1:{hook.port}"


@pytest.mark.parametrize("status", [200, 500])
def test_no_log_line_of_any_library_shows_the_secret(hook: Hook, caplog: pytest.LogCaptureFixture, status: int) -> None:
    caplog.set_level(logging.DEBUG)
    hook.statuses = [status]
    try:
        deliver([alert()], Targets.parse(webhook=f"http://me:{PASSWORD}@127.0.0.1:{hook.port}{PATH}"))
    except AlertError:
        assert status == 500
    assert f'POST http://127.0.0.1/ "HTTP/1.1 {status}' in caplog.text
    assert SECRET not in caplog.text
    assert PASSWORD not in caplog.text


@pytest.mark.usefixtures("trusted")
def test_over_tls_the_certificate_must_be_trusted_and_the_hosts(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tls) as hook:
        deliver([alert()], to(hook, "https", "localhost"))
        assert hook.paths == [PATH]
        with pytest.raises(AlertError, match="certificate"):
            deliver([alert()], to(hook, "https", "127.0.0.1"))
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(AlertError, match="certificate"):
            deliver([alert()], to(hook, "https", "localhost"))
        assert len(hook.bodies) == 1
