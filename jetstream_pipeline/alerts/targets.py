"""Who is to be told: read from plain strings, checked before anything is sent. Nobody is contacted here.

A webhook's path and query, and a mail server's password, are secrets: no text, repr or error shows them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

import httpx2

from jetstream_pipeline.errors import InvalidInput

_SMTP_PORTS = {"smtp": 25, "smtps": 465, "smtp+starttls": 587}
_LABEL = r"[a-zA-Z0-9_](?:[a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*")
_MAILBOX = re.compile(r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[a-zA-Z0-9](?:[a-zA-Z0-9.-]{0,251}[a-zA-Z0-9])?")
_URL = re.compile(r"[!-~]+")
_CREDENTIAL = re.compile(r"[ -~]*")
_WEBHOOK_ADVICE = "write https://HOST/PATH"
_SMTP_ADVICE = "write smtp://, smtps:// or smtp+starttls://[USER:PASSWORD@]HOST[:PORT], with %40 for @ in a password"


@dataclass(frozen=True)
class Webhook:
    """An address that alerts are posted to."""

    url: str

    def __post_init__(self) -> None:
        _split(self.url, "webhook", ("http", "https"), _WEBHOOK_ADVICE)
        try:
            httpx2.URL(self.url)
        except (httpx2.InvalidURL, ValueError):
            raise InvalidInput(f"the webhook is not an address; {_WEBHOOK_ADVICE}") from None

    @property
    def name(self) -> str:
        """What may be shown of it."""
        return f"webhook {_origin(urlsplit(self.url))}"

    def __repr__(self) -> str:
        return f"<{self.name}>"


@dataclass(frozen=True)
class Mail:
    """A mail server, and who writes to whom through it."""

    server: str
    sender: str
    recipients: tuple[str, ...]

    def __post_init__(self) -> None:
        parts = _split(self.server, "mail server", tuple(_SMTP_PORTS), _SMTP_ADVICE)
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise InvalidInput(f"the mail server's address has more than a host and a port; {_SMTP_ADVICE}")
        if "@" in parts.netloc and not (self.user and self.password):
            raise InvalidInput(f"the mail server's user is given without a password, or the reverse; {_SMTP_ADVICE}")
        if not (_CREDENTIAL.fullmatch(self.user) and _CREDENTIAL.fullmatch(self.password)):
            raise InvalidInput("the mail server's user and password take printable ASCII characters only")
        if not _MAILBOX.fullmatch(self.sender):
            raise InvalidInput("the sender of e-mail is not an address; write name@example.org")
        if not self.recipients:
            raise InvalidInput("e-mail has no recipient; name at least one")
        for number, recipient in enumerate(self.recipients, 1):
            if not _MAILBOX.fullmatch(recipient):
                raise InvalidInput(f"recipient {number} of e-mail is not an address; write name@example.org")

    @property
    def name(self) -> str:
        """What may be shown of it."""
        return f"mail server {_origin(urlsplit(self.server))}"

    @property
    def scheme(self) -> str:
        """`smtp`: never encrypted; `smtps`: from the first byte on; `smtp+starttls`: before anything is said."""
        return urlsplit(self.server).scheme

    @property
    def host(self) -> str:
        return urlsplit(self.server).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.server).port or _SMTP_PORTS[self.scheme]

    @property
    def user(self) -> str:
        return unquote(urlsplit(self.server).username or "")

    @property
    def password(self) -> str:
        return unquote(urlsplit(self.server).password or "")

    def __repr__(self) -> str:
        return f"<{self.name}, from {self.sender} to {', '.join(self.recipients)}>"


@dataclass(frozen=True)
class Targets:
    """Everybody who is to be told; nobody where both are None."""

    webhook: Webhook | None = None
    mail: Mail | None = None

    @classmethod
    def parse(cls, webhook: str = "", recipients: str = "", smtp: str = "", sender: str = "") -> Targets:
        """Targets from plain strings: a URL, addresses separated by commas, a server's URL, an address.

        Empty: not wanted. InvalidInput says what is wrong or lacks, and shows nothing that is secret.
        """
        to = tuple(part.strip() for part in recipients.split(",") if part.strip())
        given = {"recipients": bool(to), "a mail server": bool(smtp.strip()), "a sender": bool(sender.strip())}
        lacking = [name for name, is_given in given.items() if not is_given]
        if lacking and len(lacking) < len(given):
            raise InvalidInput(f"e-mail needs {' and '.join(lacking)} too")
        return cls(
            Webhook(webhook.strip()) if webhook.strip() else None,
            Mail(smtp.strip(), sender.strip(), to) if to else None,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """What may be shown of them."""
        return tuple(target.name for target in (self.webhook, self.mail) if target)


def _split(url: str, what: str, schemes: tuple[str, ...], advice: str) -> SplitResult:
    """A URL's parts; InvalidInput, without the URL, where it is none of these schemes."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise InvalidInput(f"the {what} is not an address; {advice}") from None
    if parts.scheme not in schemes or not _URL.fullmatch(url):
        raise InvalidInput(f"the {what} is not an address of {', '.join(schemes)}; {advice}")
    if not _HOST.fullmatch(host) or port == 0:
        raise InvalidInput(f"the {what}'s address names no host, or no port that is one; {advice}")
    return parts


def _origin(parts: SplitResult) -> str:
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}"
