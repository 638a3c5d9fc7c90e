"""Posting alerts to a webhook, one by one, as JSON that Slack, Mattermost and Discord show too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import httpx2

from jetstream_pipeline import __version__
from jetstream_pipeline.alerts.alert import Alert
from jetstream_pipeline.alerts.errors import NotTold
from jetstream_pipeline.alerts.targets import Webhook

DEADLINE_SEC = 15.0
"""For one alert."""
_HEADERS = {"User-Agent": f"jetstream_pipeline/{__version__}"}
_TOO_MANY_REQUESTS = 429
_SHOWN_CHARS = 2000
"""Discord takes no more."""
_REASON_CHARS = 120
_NAMED = 3
"""Alerts that an error names."""


class _Veiled(httpx2.URL):
    """The client writes each request's address to its log: of this one, scheme and host only."""

    def __str__(self) -> str:
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}/"

    __repr__ = __str__


async def post(alerts: Sequence[Alert], webhook: Webhook) -> None:
    """One request for each alert, each with a deadline; NotTold says which were not taken, and why.

    An alert that is refused is settled, and does not keep the next from being sent; a server that cannot take any is
    left alone.
    """
    settled, refused, refusal, failure = 0, list[Alert](), "", ""
    async with _client() as client:
        for alert in alerts:
            answer = await _post(client, alert, webhook)
            if answer.is_final:
                failure = answer.reason
                break
            settled += 1
            if answer.reason:
                refused.append(alert)
                refusal = answer.reason
    reasons = [f"{refusal}; dropped for good: {_named(refused)}"] if refused else []
    if failure:
        untold = f"; {len(alerts) - settled} of {len(alerts)} alerts are untold" if settled else ""
        reasons.append(failure + untold)
    if reasons:
        raise NotTold("; ".join(reasons), settled)


def _named(alerts: Sequence[Alert]) -> str:
    names = ", ".join(ascii(alert.subject)[1:-1][:_REASON_CHARS] for alert in alerts[:_NAMED])
    return f"{names} and {len(alerts) - _NAMED} more" if len(alerts) > _NAMED else names


def body_of(alert: Alert) -> dict[str, object]:
    """The alert's fields; its subject, text and address together as `text` and `content`, which chats show."""
    shown = _harmless(f"{alert.subject}\n{alert.text}")
    end = f"\n{alert.url}" if alert.url else ""
    if len(shown) + len(end) > _SHOWN_CHARS:
        shown = shown[: max(0, _SHOWN_CHARS - len(end) - 1)] + "…"
    shown = (shown + end)[:_SHOWN_CHARS]
    return alert.model_dump(mode="json") | {"text": shown, "content": shown, "allowed_mentions": {"parse": []}}


def _harmless(text: str) -> str:
    """A text in which chats see nobody to be called: neither @everyone nor <!channel>."""
    return text.replace("@", "@\u200b").replace("<!", "<\u200b!")


class _Answer(NamedTuple):
    reason: str
    """Why the alert was not taken; empty where it was."""
    is_final: bool
    """Whether another alert would fare the same."""


def _client() -> httpx2.AsyncClient:
    try:
        return httpx2.AsyncClient(timeout=None, follow_redirects=False, headers=_HEADERS)
    except (ImportError, ValueError, OSError):
        raise NotTold("the proxy or the certificates that the environment names cannot be used") from None


async def _post(client: httpx2.AsyncClient, alert: Alert, webhook: Webhook) -> _Answer:
    request = client.build_request("POST", webhook.url, json=body_of(alert))
    request.url = _Veiled(webhook.url)
    try:
        async with asyncio.timeout(DEADLINE_SEC):
            response = await client.send(request, stream=True)
            await response.aclose()
    except TimeoutError:
        return _Answer(f"no answer within {DEADLINE_SEC:g} s", True)
    except httpx2.HTTPError as error:
        reason = ascii(str(error) or type(error).__name__)[1:-1][:_REASON_CHARS]
        return _Answer(f"cannot be reached ({reason})", True)
    status = response.status_code
    if response.is_success:
        return _Answer("", False)
    if response.has_redirect_location:
        return _Answer(f"answered {status}, a redirect, which is not followed", True)
    return _Answer(f"answered {status}", not 400 <= status < 500 or status == _TOO_MANY_REQUESTS)
