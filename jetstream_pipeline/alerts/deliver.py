"""Telling alerts to everybody who is to know. What is worth an alert is the caller's to say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from jetstream_pipeline.alerts.alert import Alert
from jetstream_pipeline.alerts.errors import AlertError, NotTold
from jetstream_pipeline.alerts.mail import send
from jetstream_pipeline.alerts.targets import Targets
from jetstream_pipeline.alerts.webhook import post


def deliver(alerts: Sequence[Alert], targets: Targets) -> None:
    """Post each alert to the webhook, and send all of them in one e-mail. Not from within a running event loop.

    A target that fails does not keep the other from being told; AlertError then names those that failed, and says how
    far all of them came.
    """
    if not alerts:
        return
    failures: dict[str, NotTold] = {}
    for name, tell in _ways(alerts, targets):
        try:
            tell()
        except NotTold as error:
            failures[name] = error
    if failures:
        reasons = "; ".join(f"{name}: {error}" for name, error in failures.items())
        settled = min(error.settled for error in failures.values())
        text = f"not everybody could be told of what happened: {reasons}"
        raise AlertError(text, tuple(failures), settled, passing=settled < len(alerts))


def _ways(alerts: Sequence[Alert], targets: Targets) -> list[tuple[str, Callable[[], None]]]:
    ways: list[tuple[str, Callable[[], None]]] = []
    if webhook := targets.webhook:
        ways.append((webhook.name, lambda: asyncio.run(post(alerts, webhook))))
    if mail := targets.mail:
        ways.append((mail.name, lambda: send(alerts, mail)))
    return ways
