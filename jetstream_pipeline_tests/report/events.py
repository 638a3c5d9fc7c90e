"""Messages of a window that a test can count by hand."""

import json
from collections.abc import Sequence

from jetstream_pipeline_tests.windows import HOUR

POST = "app.bsky.feed.post"
_MINUTE_US = 60_000_000


def event(
    minute: int = 0,
    *,
    account: str = "a",
    operation: str = "create",
    collection: str = POST,
    record: object = None,
    rkey: str = "k",
) -> bytes:
    """A commit of this minute of `HOUR`; lone surrogates in its record are sent as JavaScript does."""
    body: dict[str, object] = {"rev": f"3k{minute}", "operation": operation, "collection": collection, "rkey": rkey}
    if operation != "delete":
        body |= {"cid": "bafy", "record": record or {}}
    return _message(minute, account, "commit", body)


def change(kind: str, minute: int = 0, account: str = "a") -> bytes:
    """A change of an account, or of its identity."""
    return _message(minute, account, kind, {"did": f"did:plc:{account}", "seq": 1})


def _message(minute: int, account: str, kind: str, body: object) -> bytes:
    head = {"did": f"did:plc:{account}", "time_us": HOUR.start_us + minute * _MINUTE_US, "kind": kind}
    return json.dumps({**head, kind: body}).encode()


def post(
    minute: int = 0,
    *,
    account: str = "a",
    langs: Sequence[str] = (),
    tags: Sequence[str] = (),
    links: Sequence[str] = (),
    card: str | None = None,
) -> bytes:
    features: list[dict[str, str]] = [{"tag": tag} for tag in tags] + [{"uri": link} for link in links]
    record: dict[str, object] = {"text": "", "langs": list(langs), "facets": [{"features": features}]}
    if card is not None:
        record["embed"] = {"external": {"uri": card}}
    return event(minute, account=account, record=record)
