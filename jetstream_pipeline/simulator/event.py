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

    @property
    def uri(self) -> str | None:
        return None if self.collection is None else f"at://{self.did}/{self.collection}/{self.rkey}"
