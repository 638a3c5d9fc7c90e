"""Everybody who is to know is told, whoever else cannot be."""

import pytest

from jetstream_pipeline.alerts.deliver import deliver
from jetstream_pipeline.alerts.errors import AlertError
from jetstream_pipeline.alerts.targets import Targets
from jetstream_pipeline_tests.alerts.examples import alert
from jetstream_pipeline_tests.alerts.receivers import Hook, Mailbox

HOOK, SERVER = "webhook http://127.0.0.1", "mail server smtp://127.0.0.1"


def both(hook: Hook, mailbox: Mailbox) -> Targets:
    return Targets.parse(
        f"http://127.0.0.1:{hook.port}/x", "you@example.org", f"smtp://127.0.0.1:{mailbox.port}", "me@example.org"
    )


def test_both_are_told(hook: Hook, mailbox: Mailbox) -> None:
    deliver([alert("one"), alert("two")], both(hook, mailbox))
    assert hook.subjects == ["one", "two"]
    assert [message["Subject"] for message in mailbox.messages] == ["one (and 1 more)"]


@pytest.mark.parametrize(("status", "refusal", "failed"), [(500, "", (HOOK,)), (200, "554 no", (SERVER,))])
def test_what_one_refuses_does_not_keep_the_other_from_being_told(
    hook: Hook, mailbox: Mailbox, status: int, refusal: str, failed: tuple[str, ...]
) -> None:
    hook.statuses, mailbox.answers = [status], {"DATA": refusal}
    with pytest.raises(AlertError) as error:
        deliver([alert()], both(hook, mailbox))
    assert error.value.failed == failed
    assert (len(hook.bodies), len(mailbox.messages)) == (1, 0 if refusal else 1)


def test_both_that_fail_are_named(hook: Hook, mailbox: Mailbox) -> None:
    hook.statuses, mailbox.answers = [500], {"DATA": "554 no"}
    with pytest.raises(AlertError) as error:
        deliver([alert()], both(hook, mailbox))
    assert error.value.failed == (HOOK, SERVER)
    assert str(error.value) == (
        f"not everybody could be told of what happened: {HOOK}: answered 500; {SERVER}: answered 554 no"
    )


def test_how_far_all_came_is_how_far_the_last_came(hook: Hook, mailbox: Mailbox) -> None:
    hook.statuses, mailbox.answers = [200, 500], {"DATA": "554 no"}
    with pytest.raises(AlertError) as error:
        deliver([alert("one"), alert("two")], both(hook, mailbox))
    assert error.value.settled == 0


def test_no_alert_and_no_target_are_nothing_to_do(hook: Hook, mailbox: Mailbox) -> None:
    deliver([], both(hook, mailbox))
    deliver([alert()], Targets())
    assert (hook.bodies, mailbox.commands) == ([], [])


def test_certificates_that_cannot_be_read_do_not_keep_the_other_from_being_told(
    hook: Hook, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    with pytest.raises(AlertError, match="certificates that the environment names"):
        deliver([alert()], both(hook, mailbox))
    assert len(mailbox.messages) == 1
