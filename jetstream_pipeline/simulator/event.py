"""One event, and how each wire spells it.

What happens on the network belongs to `network`; who receives it, and in which frames, elsewhere.
"""

from __future__ import annotations

import msgspec

from jetstream_pipeline.simulator.identifiers import precise_timestamp

MESSAGE_TYPE = "network.bsky.jetstream.subscribeEvents"


class SimulatedEvent(msgspec.Struct, frozen=True):
    """One event, as fields and as the message that a subscriber receives."""

    seq: int
    time_us: int
    """The time that the message shows."""
    witnessed_us: int
    """When the host saw it, which is what cursors go by. Not `time_us` where that was imported."""
    did: str
    kind: str
    operation: str | None
    collection: str | None
    rkey: str | None
    rev: str | None
    cid: str | None
    record_json: str | None
    payload_json: str | None
    message: bytes

    @property
    def message_without_cursor(self) -> bytes:
        """The message of a server that does not number its events."""
        return self.message.replace(b'"cursor":%d,' % self.seq, b"", 1)

    @property
    def message_v2(self) -> bytes:
        """The message of the second wire: keys in the order of the alphabet."""
        end = f'"seq":{self.seq},"time":"{precise_timestamp(self.time_us)}"'
        if self.kind == "account":
            body = f'"account":{self.payload_json},"did":"{self.did}",{end}'
        elif self.kind == "identity":
            body = f'"did":"{self.did}","identity":{self.payload_json},{end}'
        else:
            cid = "" if self.cid is None else f'"cid":"{self.cid}",'
            record = "" if self.record_json is None else f'"record":{self.record_json},'
            body = (
                f'{cid}"collection":"{self.collection}","did":"{self.did}","operation":"{self.operation}",{record}'
                f'"rev":"{self.rev}","rkey":"{self.rkey}",{end}'
            )
        return f'{{"$type":"message","payload":{{"$type":"{MESSAGE_TYPE}#{self.kind}",{body}}}}}'.encode()

    def witnessed(self, seq: int, witnessed_us: int) -> SimulatedEvent:
        """The same event as another host, or the same one at another time, spells it. An imported time stays."""
        imported = self.time_us != self.witnessed_us
        return self._respelled(seq, self.time_us if imported else witnessed_us, witnessed_us)

    def imported(self, time_us: int) -> SimulatedEvent:
        """The same event showing another time than the one at which it was witnessed."""
        return self._respelled(self.seq, time_us, self.witnessed_us)

    def _respelled(self, seq: int, time_us: int, witnessed_us: int) -> SimulatedEvent:
        before, after = (b'"time_us":%d,"cursor":%d,' % pair for pair in ((self.time_us, self.seq), (time_us, seq)))
        message = self.message.replace(before, after, 1)
        return msgspec.structs.replace(self, seq=seq, time_us=time_us, witnessed_us=witnessed_us, message=message)

    @property
    def uri(self) -> str | None:
        return None if self.collection is None else f"at://{self.did}/{self.collection}/{self.rkey}"


def commit_event(
    *,
    seq: int,
    time_us: int,
    did: str,
    rev: str,
    operation: str,
    collection: str,
    rkey: str,
    record_json: str | None,
    cid: str | None,
) -> SimulatedEvent:
    """One operation of a commit; a deletion has neither record nor CID."""
    content = "" if record_json is None else f',"record":{record_json},"cid":"{cid}"'
    message = (
        f'{{"did":"{did}","time_us":{time_us},"cursor":{seq},"kind":"commit","commit":{{"rev":"{rev}",'
        f'"operation":"{operation}","collection":"{collection}","rkey":"{rkey}"{content}}}}}'
    ).encode()
    return SimulatedEvent(
        seq, time_us, time_us, did, "commit", operation, collection, rkey, rev, cid, record_json, None, message
    )
