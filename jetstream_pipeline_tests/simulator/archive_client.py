"""What tests ask an archive, over real HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2

from jetstream_pipeline.simulator import Simulator
from jetstream_pipeline_tests.simulator.conftest import MINUTE_US, NOON_US
from jetstream_pipeline_tests.simulator.segment_reader import SegmentFile

XRPC = "/xrpc/network.bsky.jetstream."
FROM = NOON_US - 6 * MINUTE_US
SINCE = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=FROM)
ARCHIVE: dict[str, Any] = {"archive_since": SINCE, "segment_minutes": 2, "block_events": 400}
"""Three segments by noon."""


class ArchiveClient:
    def __init__(self, host: Simulator | str, token: str | None = None) -> None:
        """Of a simulator, or of whatever is at this address."""
        address = host if isinstance(host, str) else host.address
        headers = {} if token is None else {"Authorization": f"Bearer {token}".encode("latin-1")}
        self._origin = address.replace("ws://", "http://")
        self._client = httpx2.Client(headers=headers, timeout=30, trust_env=False)

    def get(self, method: str, headers: dict[str, str] | None = None, **parameters: Any) -> httpx2.Response:
        return self._client.get(self._origin + XRPC + method, params=parameters, headers=headers)

    def post(self, method: str, **options: Any) -> httpx2.Response:
        return self._client.post(self._origin + XRPC + method, **options)

    def listed(self, **parameters: Any) -> list[dict[str, Any]]:
        """All segments, however many pages their list has."""
        segments = []
        while True:
            page = self.get("listSegments", **parameters).raise_for_status().json()
            segments += page["segments"]
            if "cursor" not in page:
                return segments
            parameters["cursor"] = page["cursor"]

    def plan(self, **wanted: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.post("planSnapshot", json=wanted).raise_for_status().json()
        return answer

    def segment(self, name: str, headers: dict[str, str] | None = None) -> httpx2.Response:
        return self.get("getSegment", headers, name=name)

    def block(self, name: str, number: int, headers: dict[str, str] | None = None) -> httpx2.Response:
        return self.get("getBlock", headers, segment=name, blockIndex=number)

    def file(self, name: str) -> SegmentFile:
        return SegmentFile(self.segment(name).raise_for_status().content)

    def files(self) -> list[SegmentFile]:
        return [self.file(segment["name"]) for segment in self.listed()]
