"""The use case: one window of one stream, from a host into the lake, with what shows that it is whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.server import Options
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.replay.reading import Progress, Source, read_window
from jetstream_pipeline.replay.sealing import Place, drafted, seal
from jetstream_pipeline.replay.streams import check_filter
from jetstream_pipeline.storage.errors import Damaged
from jetstream_pipeline.storage.files import exists
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.storage.staging import staged, sweep
from jetstream_pipeline.storage.summary import WindowState, WindowSummary, read_summary
from jetstream_pipeline.window import Window, span_us

SETTLE = timedelta(minutes=5)
HOST_SKEW = timedelta(seconds=30)


class NotSettled(InvalidInput):
    """A window that has not ended, or only just: what is still coming in may be missing, or come in another order."""

    passing = True


def replay_window(
    stream: str,
    subscription: Subscription,
    window: Window,
    *,
    hosts: Sequence[Host],
    data: DataDirectory,
    settle: timedelta = SETTLE,
    skew: timedelta = HOST_SKEW,
    options: Options | None = None,
    replace: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> WindowSummary:
    """Replay one window into `data`'s lake and return what its file says of itself.

    A run that died is gone on with. A host that no longer has the window's start is passed over while another one has.
    A window that was verified or repaired stays as it is: one host alone has no more than it. `settle`: how long ago
    the window must have ended. `skew`: how far the hosts' clocks may differ. `replace`: the stream's windows shall have
    this filter from now on, whatever they had before.

    InvalidInput where the stream's windows have another filter, NotSettled where the window ended too lately, Refused
    where every host refuses the request, JetstreamError where none can be reached, StorageError where the disk does not
    take the data, WindowBusy where another run is at the same window; then the lake is as it was.
    """
    check_settled(window, settle)
    if not replace:
        check_filter(data, stream, subscription)
    standing = data.lake.events_path(stream, window)
    with staged(data, stream, window) as files:
        if summary := _proved_by_others(standing, subscription):
            files.discard()
            return summary
        source = Source(subscription, hosts, span_us(skew), options or Options())
        place = Place(data, stream, window, subscription, replace)
        with drafted(place, files, source.skew_us) as draft:
            evidence = read_window(window, source, files, on_progress)
            summary = seal(place, files, evidence, draft)
        files.discard()
    sweep(data, stream)
    return summary


def _proved_by_others(path: AnyPath, subscription: Subscription) -> WindowSummary | None:
    """What a window's file says of itself, where more than one host stands for it. One that is damaged is replayed."""
    with suppress(Damaged):
        if exists(path):
            summary = read_summary(path)
            proved = summary.state is WindowState.VERIFIED or summary.repaired > 0
            return summary if proved and summary.fingerprint == subscription.fingerprint else None
    return None


def check_settled(window: Window, settle: timedelta) -> None:
    """NotSettled unless the window ended at least `settle` ago."""
    now = datetime.now(UTC)
    if window.end > now:
        raise NotSettled(f"{window} has not ended yet; only finished windows can be replayed")
    if window.end + settle > now:
        raise NotSettled(
            f"{window} ended less than {settle / timedelta(minutes=1):g} minutes ago, and its last events may still be "
            f"under way; replay it from {window.end + settle:%H:%M:%S} UTC on"
        )
