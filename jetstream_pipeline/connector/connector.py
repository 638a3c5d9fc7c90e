"""The library's face: a stream into a queue, a callback, or an `async for`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from jetstream_pipeline.archive.access import Access
from jetstream_pipeline.connector.run import Bounds, Run
from jetstream_pipeline.connector.sinks import Bookmark, QuarantineSink, QueueSink
from jetstream_pipeline.connector.statistics import Progress, Statistics
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.events.record import JetstreamRecord
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.handles.cache import HandleCache
from jetstream_pipeline.handles.resolve import HandleResolver
from jetstream_pipeline.jetstream.client import Span, StreamClient
from jetstream_pipeline.jetstream.dictionaries import Dictionaries
from jetstream_pipeline.jetstream.resumption import FIRST_TIME_CURSOR
from jetstream_pipeline.jetstream.server import Options
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.queue.items import QueueStats
from jetstream_pipeline.storage.queue.queue import Queue
from jetstream_pipeline.window import from_us, parse_time, to_us

DEFAULT_QUEUE = "jetstream_sync"
DEFAULT_COLLECTIONS = ("app.bsky.feed.post",)

Moment = int | str | datetime
"""A cursor (unix microseconds, or a host's sequence number), a time as people type it (UTC), or a datetime."""

OnEvent = Callable[[JetstreamRecord], Awaitable[None] | None]

_UNQUEUED = "unqueued"
_FIRST_MILLISECONDS = 10**12


class JetstreamConnector:
    """Reads the network's events for programs that want them as they come."""

    def __init__(
        self,
        queue_name: str | None = DEFAULT_QUEUE,
        batch_size: int = 100,
        *,
        data_dir: Path | str | None = None,
        compress: bool = False,
        wire: Wire | str | None = None,
    ) -> None:
        """`queue_name`: made if it is missing; None: no queue, events go to the callback alone. `batch_size`: events
        in one transaction. `data_dir`: where the queue lies, default `JETSTREAM_DATA_DIR`. `compress`: ask hosts for
        zstd. `wire`: "v1" or "v2"; None chooses v2 where a host offers it."""
        if batch_size < 1:
            raise InvalidInput(f"batch_size={batch_size}: at least one record goes into a transaction")
        self._settings = Settings.read()
        settings = self._settings
        self._data = (settings.model_copy(update={"data_dir": Path(data_dir)}) if data_dir else settings).data
        self.queue = (
            Queue(queue_name, create_new_queue=True, data_dir=self._data.root) if queue_name is not None else None
        )
        self._name = _UNQUEUED if queue_name is None else queue_name
        self._batch_size = batch_size
        dictionaries = Dictionaries(self._data.cache, v1_file=self._settings.zstd_dictionary) if compress else None
        access = Access(self._data.archive, self._settings.api_token)
        self._options = Options(_wire(wire), dictionaries, transport=self._settings.transport, archive=access)

    async def listen_until_count(
        self,
        instance: str | Sequence[str] | None = None,
        wanted_collections: Sequence[str] = DEFAULT_COLLECTIONS,
        target_count: int | None = 1000,
        max_time: float | None = 300.0,
        cursor: Moment | None = None,
        wanted_dids: Sequence[str] = (),
        end_timestamp: Moment | None = None,
        *,
        wanted_handles: Sequence[str] = (),
        kinds: Sequence[str] = (),
        resume: bool = False,
        on_event: OnEvent | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        stop: asyncio.Event | None = None,
    ) -> Statistics:
        """Store events until `target_count` of them, `max_time` seconds or `end_timestamp` (0 or None: no such bound).

        `instance`: one host or several, in the order of fail-over; default `JETSTREAM_HOSTS`. `cursor`: where to begin;
        None: at the live tip. `resume`: go on where the last run of the same subscription into this queue stopped, if
        there was one. `on_event` is called with each event in order, after it was stored, and awaited if it is a
        coroutine; what it raises ends the run. `stop`: set it to end the run; what came until then is stored.

        From a time to an end that has passed, a host that no longer has the beginning is passed over while another one
        has more; what none of them has is among the result's `gaps`.

        InvalidInput for what cannot be asked, JetstreamError where no host can be reached, StorageError where the queue
        does not take the events.
        """
        subscription = await self._subscription(wanted_collections, wanted_dids, wanted_handles, kinds)
        start, bounds = _cursor(cursor), _bounds(target_count, max_time, end_timestamp)
        if resume and not self.queue:
            raise InvalidInput("resume=True goes on where a queue's last run stopped; give the connector a queue_name")
        resumed = await asyncio.to_thread(Bookmark.read, self.queue, subscription) if self.queue and resume else None
        if resumed:
            start = resumed.cursor
        else:
            _check_order(start, bounds.end_us)
        sink = QueueSink(self.queue, subscription, self._batch_size, resumed) if self.queue else None
        quarantine = QuarantineSink(self._data, self._name)
        notes = _Notes(on_progress, quarantine)
        client = self._client(instance, subscription, notes.tell, _past(start, bounds.end_us))
        run = Run(client, bounds, stop, sink.only_new if sink else None)
        notes.run = run
        try:
            async with aclosing(run.batches(start)) as batches:
                async for batch in batches:
                    await asyncio.to_thread(quarantine.take, batch)
                    if sink:
                        await asyncio.to_thread(sink.take, batch)
                    if on_event:
                        for record in quarantine.readable(batch):
                            await _call(on_event, record)
                    notes.tell()
        finally:
            if sink:
                await asyncio.to_thread(sink.flush)
        waiting = await asyncio.to_thread(self.queue.stats) if self.queue else None
        return _statistics(run, sink.stored if sink else run.events, waiting, quarantine.kept)

    async def events(
        self,
        instance: str | Sequence[str] | None = None,
        wanted_collections: Sequence[str] = DEFAULT_COLLECTIONS,
        target_count: int | None = None,
        max_time: float | None = None,
        cursor: Moment | None = None,
        wanted_dids: Sequence[str] = (),
        end_timestamp: Moment | None = None,
        *,
        wanted_handles: Sequence[str] = (),
        kinds: Sequence[str] = (),
    ) -> AsyncGenerator[JetstreamRecord, None]:
        """The events themselves, for an `async for`; the queue is left alone. Arguments as of `listen_until_count`.

        Whoever leaves it before its end closes it, by `contextlib.aclosing`: the connection ends with it.
        """
        subscription = await self._subscription(wanted_collections, wanted_dids, wanted_handles, kinds)
        start, bounds = _cursor(cursor), _bounds(target_count, max_time, end_timestamp)
        _check_order(start, bounds.end_us)
        run = Run(self._client(instance, subscription), bounds)
        quarantine = QuarantineSink(self._data, self._name)
        async with aclosing(run.batches(start)) as batches:
            async for batch in batches:
                await asyncio.to_thread(quarantine.take, batch)
                for record in quarantine.readable(batch):
                    yield record

    async def _subscription(
        self, collections: Sequence[str], dids: Sequence[str], handles: Sequence[str], kinds: Sequence[str]
    ) -> Subscription:
        lists = {"wanted_collections": collections, "wanted_dids": dids, "wanted_handles": handles, "kinds": kinds}
        for name, given in lists.items():
            if isinstance(given, str):
                raise InvalidInput(f"{name}={given!r}: give a list of texts")
        resolver = HandleResolver(self._settings.endpoints(), HandleCache(self._data.handles))
        resolved = await resolver.resolve(handles) if handles else []
        everybody = dict.fromkeys((*dids, *(handle.did for handle in resolved)))
        return Subscription(tuple(collections), tuple(everybody), tuple(kinds))

    def _client(
        self,
        instance: str | Sequence[str] | None,
        subscription: Subscription,
        on_note: Callable[[str], None] | None = None,
        span: Span | None = None,
    ) -> StreamClient:
        hosts = self._settings.parsed_hosts([instance] if isinstance(instance, str) else instance or ())
        # What has passed is had now, or from no host.
        return StreamClient(hosts, subscription, self._options, on_note, persistent=span is None, span=span)


@dataclass
class _Notes:
    """Tells a run's progress to whoever wants to know."""

    on_progress: Callable[[Progress], None] | None
    quarantine: QuarantineSink
    run: Run | None = None

    def tell(self, note: str | None = None) -> None:
        run = self.run
        if self.on_progress and run:
            client = run.client
            self.on_progress(
                Progress(
                    records=run.events,
                    bytes_received=client.bytes_received,
                    reconnections=run.reconnections,
                    seconds=run.seconds,
                    position_us=run.position_us,
                    note=note,
                    kinds=dict(run.kinds),
                    messages=client.messages_received,
                    repeats=client.repeats,
                    rejected=self.quarantine.kept,
                )
            )


async def _call(on_event: OnEvent, record: JetstreamRecord) -> None:
    result = on_event(record)
    if inspect.isawaitable(result):
        await result


def _wire(wire: Wire | str | None) -> Wire | None:
    try:
        return None if wire is None else Wire(wire)
    except ValueError:
        raise InvalidInput(f"wire={wire!r}: write v1 or v2, or leave it out") from None


def _cursor(moment: Moment | None) -> int | None:
    """A cursor that a host takes for what it was meant to be: see the protocol's "Cursors"."""
    cursor = _moment(moment)
    if cursor is None:
        return None
    if cursor < 0 or _FIRST_MILLISECONDS <= cursor < FIRST_TIME_CURSOR:
        raise InvalidInput(f"cursor {cursor} is neither unix microseconds (16 digits) nor a sequence number")
    now = datetime.now(UTC)
    if cursor >= FIRST_TIME_CURSOR and cursor > to_us(now + timedelta(minutes=1)):
        raise InvalidInput(
            f"the start, {from_us(cursor):%Y-%m-%d %H:%M:%S} UTC, lies in the future; write an earlier one"
        )
    return cursor


def _moment(moment: Moment | None) -> int | None:
    if isinstance(moment, str):
        return int(moment) if moment.isascii() and moment.isdigit() and len(moment) > 8 else to_us(parse_time(moment))
    if isinstance(moment, datetime):
        return to_us(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    return moment


def _bounds(count: int | None, seconds: float | None, end: Moment | None) -> Bounds:
    count, seconds = count or 0, seconds or 0.0
    if count < 0:
        raise InvalidInput(f"target_count={count}: write a number of records, or 0 for no limit")
    if not seconds >= 0:
        raise InvalidInput(f"max_time={seconds}: write seconds, or 0 for no limit")
    return Bounds(count, seconds, _moment(end))


def _check_order(start: int | None, end: int | None) -> None:
    if end is None:
        return
    if start is None and end <= to_us(datetime.now(UTC)):
        raise InvalidInput(f"the end, {from_us(end):%Y-%m-%d %H:%M:%S} UTC, has passed; say where to begin too")
    if start is not None and start >= FIRST_TIME_CURSOR and end <= start:
        begin = from_us(start)
        raise InvalidInput(f"the end is not after the start, {begin:%Y-%m-%d %H:%M:%S} UTC; write a later one")


def _past(start: int | None, end: int | None) -> Span | None:
    """The interval that a run is about, where it is one of time and has passed: hosts may no longer have all of it."""
    if start is None or end is None or not FIRST_TIME_CURSOR <= start < end <= to_us(datetime.now(UTC)):
        return None
    return Span(start, end)


def _statistics(run: Run, stored: int, queue: QueueStats | None, quarantined: int) -> Statistics:
    seconds = run.seconds
    return Statistics(
        records_stored=stored,
        messages_received=run.client.messages_received,
        total_time=seconds,
        records_per_second=stored / seconds if seconds else 0.0,
        collections=dict(run.collections.most_common()),
        target_reached=run.target_reached,
        end_cursor_reached=run.end_reached,
        latest_cursor=run.latest_us,
        current_date=f"{from_us(run.position_us):%Y-%m-%d}" if run.position_us else None,
        queue_length=queue.pending if queue else None,
        reconnections=run.reconnections,
        repeats=run.client.repeats,
        quarantined=quarantined,
        bytes_received=run.client.bytes_received,
        hosts=tuple(run.hosts),
        gaps=tuple(dict.fromkeys(map(str, run.client.gaps))),
    )
