"""Sending alerts by e-mail: one message for all of them. What stands in alerts cannot become a header or a command."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid

from jetstream_pipeline.alerts.alert import Alert
from jetstream_pipeline.alerts.errors import NotTold
from jetstream_pipeline.alerts.targets import Mail

TIMEOUT_SEC = 15.0
"""For each of the server's answers."""
_SUBJECT_CHARS = 200
_REASON_CHARS = 120


def send(alerts: Sequence[Alert], mail: Mail) -> None:
    """One message to all recipients; NotTold says why it, or to whom it, was not taken.

    A message that some recipients have is settled for all: another one would reach those again. Where encryption is
    asked for, nothing is sent without.
    """
    try:
        with _connected(mail) as server:
            refused = server.send_message(message_of(alerts, mail))
    except smtplib.SMTPAuthenticationError as error:
        raise NotTold(f"refused the user or the password ({error.smtp_code})") from None
    except smtplib.SMTPRecipientsRefused as error:
        raise NotTold(_refusal(error.recipients)) from None
    except smtplib.SMTPResponseException as error:
        raise NotTold(f"answered {error.smtp_code} {_line(error.smtp_error)}") from None
    except (smtplib.SMTPException, OSError) as error:
        raise NotTold(f"cannot be used ({_line(str(error) or type(error).__name__)})") from None
    if refused:
        raise NotTold(_refusal(refused), len(alerts))


def message_of(alerts: Sequence[Alert], mail: Mail) -> EmailMessage:
    """The message: the subject of the first alert, and all of them in its text."""
    more = f" (and {len(alerts) - 1} more)" if len(alerts) > 1 else ""
    message = EmailMessage(policy=SMTP)
    message["From"] = mail.sender
    message["To"] = ", ".join(mail.recipients)
    message["Subject"] = _one_line(alerts[0].subject)[:_SUBJECT_CHARS] + more
    message["Date"] = format_datetime(max(alert.time for alert in alerts))
    message["Message-ID"] = make_msgid(domain=mail.sender.partition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    message.set_content("\n\n".join(map(_paragraph, alerts)) + "\n")
    return message


def _paragraph(alert: Alert) -> str:
    lines = [_one_line(alert.subject), *map(_one_line, alert.text.splitlines()), ""]
    rows = {
        "stream": alert.stream,
        "window": alert.window,
        "state": alert.state,
        "run": alert.run_id,
        "time": f"{alert.time:%Y-%m-%d %H:%M:%S} UTC",
        "see": alert.url,
    }
    return "\n".join(lines + [f"{name}: {_one_line(value)}" for name, value in rows.items() if value])


def _one_line(text: str) -> str:
    """What can be printed of a text, in one line."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


@contextmanager
def _connected(mail: Mail) -> Iterator[smtplib.SMTP]:
    server = _open(mail)
    try:
        if mail.scheme == "smtp+starttls":
            server.starttls(context=ssl.create_default_context())
        if mail.user:
            server.login(mail.user, mail.password)
        yield server
        # The message is taken: how the server says goodbye changes nothing.
        with suppress(smtplib.SMTPException, OSError):
            server.quit()
    finally:
        server.close()


def _open(mail: Mail) -> smtplib.SMTP:
    if mail.scheme == "smtps":
        return smtplib.SMTP_SSL(mail.host, mail.port, timeout=TIMEOUT_SEC, context=ssl.create_default_context())
    return smtplib.SMTP(mail.host, mail.port, timeout=TIMEOUT_SEC)


def _refusal(recipients: dict[str, tuple[int, bytes]]) -> str:
    return "; ".join(f"refused {name} ({code} {_line(reason)})" for name, (code, reason) in recipients.items())


def _line(text: str | bytes) -> str:
    """A server's words, fit for a line on a terminal."""
    shown = text.decode(errors="replace") if isinstance(text, bytes) else text
    return ascii(" ".join(shown.split()))[1:-1][:_REASON_CHARS]
