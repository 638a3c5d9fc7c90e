"""One segment on its way: what is missing of it is asked for, and never joined to bytes of another version."""

from __future__ import annotations

import re

import httpx2

from jetstream_pipeline.archive.answers import MAX_SEGMENT_BYTES
from jetstream_pipeline.archive.client_errors import BadAnswer, Later, StalePlan
from jetstream_pipeline.archive.disk import Partial
from jetstream_pipeline.archive.plans import Unit
from jetstream_pipeline.archive.tries import Tries
from jetstream_pipeline.archive.web import Web

_RANGE = re.compile(r"bytes (?:([0-9]{1,18})-[0-9]{1,18}|\*)/([0-9]{1,18})")
_NO_MORE = 416


class Transfer:
    """Downloads a unit's whole segment into its beginning."""

    def __init__(self, web: Web, unit: Unit, beginning: Partial) -> None:
        self._web = web
        self._host = web.host.name
        self._unit = unit
        self._beginning = beginning

    async def go_on(self, tries: Tries) -> None:
        """One attempt to get all that is missing; Later where it did not come to its end.

        StalePlan where the host has another version: nothing is left of this one then.
        """
        unit, beginning = self._unit, self._beginning
        version = f'"{unit.checksum}"'
        headers = {"If-Match": version}
        if beginning.size:
            headers |= {"Range": f"bytes={beginning.size}-", "If-Range": version}
        try:
            async with self._web.answered("GET", "getSegment", params={"name": unit.name}, headers=headers) as response:
                size = self._place(response)
                if response.status_code != _NO_MORE:
                    await self._take(response, MAX_SEGMENT_BYTES if size is None else size, tries)
        except StalePlan:
            beginning.restart()
            raise
        if size is not None and beginning.size < size:
            raise Later(f"{self._host} sent {beginning.size} of {size} bytes of {unit.name}")

    def _place(self, response: httpx2.Response) -> int | None:
        """The whole segment's size, if told, once the beginning ends where the answer's body starts."""
        place = _RANGE.fullmatch(response.headers.get("content-range", ""))
        if response.status_code == _NO_MORE:
            if place is None or int(place[2]) != self._beginning.size:
                self._beginning.restart()
                raise Later(f"{self._host} has less of {self._unit.name} than came before")
            return self._beginning.size
        check_version(self._host, self._unit, response, etag(response))
        size: int | None
        if response.status_code == 206:
            if place is None or place[1] is None or int(place[1]) != self._beginning.size:
                raise BadAnswer(f"{self._host} sends another part of {self._unit.name} than was asked for")
            size = int(place[2])
        elif response.status_code == 200:
            self._beginning.restart()
            told = response.headers.get("content-length", "")
            size = int(told) if told.isdecimal() else None
        else:
            raise BadAnswer(f"{self._host} answered {response.status_code} where {self._unit.name} was asked for")
        if size is not None and size > MAX_SEGMENT_BYTES:
            raise BadAnswer(f"{self._host} announces {size} bytes of {self._unit.name}, which no segment has")
        return size

    async def _take(self, response: httpx2.Response, max_bytes: int, tries: Tries) -> None:
        beginning = self._beginning
        async for chunk in self._web.chunks(response):
            if beginning.size + len(chunk) > max_bytes:
                beginning.restart()
                raise BadAnswer(f"{self._host} sends more than {max_bytes} bytes of {self._unit.name}")
            beginning.write(chunk)
            tries.came(len(chunk))


def etag(response: httpx2.Response) -> str:
    """Which version was sent, without the quotes and the mark of a weak one; empty where the host does not say."""
    return str(response.headers.get("etag", "")).strip().removeprefix("W/").strip('"')


def check_version(host: str, unit: Unit, response: httpx2.Response, version: str) -> None:
    """StalePlan unless the answer is about the version that was planned."""
    if response.status_code in (404, 412) or (version and version != unit.checksum):
        raise StalePlan(host, unit.name)
    if not version:
        raise BadAnswer(f"{host} does not say which version of {unit.name} it sends")
