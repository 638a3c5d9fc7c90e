"""Which host a replay begins with where runs are spread over machines, which do not see each other's locks. On a
single one, `replay.leading` knows it by itself; how many replays there are at once, pools say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import dagster as dg
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.launcher.sync_in_memory_run_launcher import SyncInMemoryRunLauncher

from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.window import Window

HOST_TAG = "jetstream/host"
"""The tag of a run that says which host it began its last window with."""

_HERE = (DefaultRunLauncher, SyncInMemoryRunLauncher)
"""Launchers of runs on one machine."""


def spread(instance: dg.DagsterInstance, run: dg.DagsterRun, hosts: Sequence[Host], window: Window) -> tuple[Host, ...]:
    """The hosts, first the one that fewest other runs at work have begun with, and tells them of it; the others in
    their order. As they are where all runs are on this machine.

    Of those that are as free, it is the window's turn: runs that begin in the same moment have neighbouring windows.
    """
    if len(hosts) < 2 or isinstance(instance.run_launcher, _HERE):
        return tuple(hosts)
    names = [host.name for host in hosts]
    at_work = instance.get_runs(dg.RunsFilter(tags={HOST_TAG: names}, statuses=[dg.DagsterRunStatus.STARTED]))
    users = Counter(other.tags[HOST_TAG] for other in at_work if other.run_id != run.run_id)
    turn = int(window.start.timestamp() // 3600)
    leader = min(range(len(hosts)), key=lambda place: (users[names[place]], (place - turn) % len(hosts)))
    instance.add_run_tags(run.run_id, {HOST_TAG: names[leader]})
    return (hosts[leader], *hosts[:leader], *hosts[leader + 1 :])
