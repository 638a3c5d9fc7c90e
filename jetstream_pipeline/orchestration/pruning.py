"""Deleting what Dagster keeps of old runs, but for what the state of partitions and consumers is read from.

Deleting a run deletes its materializations, after which its partitions look missing. So a run that materialized a
partition last, or succeeded last for one, loses its logs only; every other old run is deleted whole.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import dagster as dg
import sqlalchemy as db
from dagster import AssetRecordsFilter
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS, EVENT_TYPE_TO_PIPELINE_RUN_STATUS
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionsFilter, BulkActionStatus
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

from jetstream_pipeline.orchestration.under_way import NOT_ENDED, PARTITION_TAG

_T = TypeVar("_T")
_BATCH = 100
_IDS = 500
"""Records that are asked for at once: a database takes only so many parameters."""
_BACKFILL_TAG = "dagster/backfill"
_LOGS = "compute_logs"
_PATIENCE_SEC = 2.0
"""With whoever looks at a run at this very moment."""
_KEPT_EVENTS = [kind.value for kind in (*ASSET_EVENTS, *ASSET_CHECK_EVENTS, *EVENT_TYPE_TO_PIPELINE_RUN_STATUS)]
"""The events from which partitions, checks and runs have their state."""


@dataclass(frozen=True)
class Pruned:
    """What was done, or would be. `stripped` runs keep their record, what they materialized and their checks; `kept`
    ones are left as they are, because a run or a backfill that goes on refers to them."""

    deleted: int = 0
    stripped: int = 0
    kept: int = 0

    def __add__(self, other: Pruned) -> Pruned:
        return Pruned(self.deleted + other.deleted, self.stripped + other.stripped, self.kept + other.kept)


def prune(
    instance: dg.DagsterInstance, before: datetime, *, most: int | None = None, dry_run: bool = False
) -> Iterator[Pruned]:
    """Prune the runs that ended before a moment, a batch at a time, the oldest first; `most` of them at most.

    A run that has not ended is never touched. Ended in the middle, it leaves whole runs, and the next call goes on.
    """
    filters = dg.RunsFilter(statuses=FINISHED_STATUSES, updated_before=before)
    old = list(reversed(instance.get_run_ids(filters)))[:most]
    for batch in _batches(old, _BATCH):
        # What is needed changes while others work.
        pruning = _Pruning(instance, dry_run)
        runs = instance.get_runs(dg.RunsFilter(run_ids=list(batch), statuses=FINISHED_STATUSES))
        yield sum((pruning.prune(run) for run in runs), Pruned())


@dataclass(frozen=True)
class _Pruning:
    """One batch."""

    instance: dg.DagsterInstance
    dry_run: bool

    def prune(self, run: dg.DagsterRun) -> Pruned:
        if run.run_id in self._referred_to or run.tags.get(_BACKFILL_TAG) in self._backfills:
            return Pruned(kept=1)
        if run.run_id in self._materialized_last or self._succeeded_last(run):
            return Pruned(stripped=int(self._strip(run.run_id)))
        if not self.dry_run:
            self.instance.delete_run(run.run_id)
            self._delete_shard(run.run_id)
            self.instance.compute_log_manager.delete_logs(prefix=[run.run_id])
        return Pruned(deleted=1)

    @cached_property
    def _materialized_last(self) -> set[str]:
        """The runs in which some partition, or an asset without any, was materialized last."""
        found: set[str] = set()
        storage, kind = self.instance.event_log_storage, dg.DagsterEventType.ASSET_MATERIALIZATION
        for asset in self.instance.all_asset_keys():
            latest = list(storage.get_latest_storage_id_by_partition(asset, kind).values())
            filters = [AssetRecordsFilter(asset, storage_ids=list(some)) for some in _batches(latest, _IDS)]
            for asked in [AssetRecordsFilter(asset), *filters]:
                limit = len(asked.storage_ids) if asked.storage_ids else 1
                records = self.instance.fetch_materializations(asked, limit=limit).records
                found.update(record.run_id for record in records)
        return found

    def _succeeded_last(self, run: dg.DagsterRun) -> bool:
        """Whether no later run of its job has succeeded for its partition: consumers ask what that one has had."""
        partition = run.tags.get(PARTITION_TAG)
        if partition is None or not run.is_success:
            return False
        filters = dg.RunsFilter(
            job_name=run.job_name, tags={PARTITION_TAG: partition}, statuses=[dg.DagsterRunStatus.SUCCESS]
        )
        return [last.run_id for last in self.instance.get_runs(filters, limit=1)] == [run.run_id]

    @cached_property
    def _referred_to(self) -> set[str]:
        """The runs that those that go on are another attempt of."""
        runs = self.instance.get_runs(dg.RunsFilter(statuses=NOT_ENDED))
        return {run_id for run in runs for run_id in (run.root_run_id, run.parent_run_id) if run_id}

    @cached_property
    def _backfills(self) -> set[str]:
        """The backfills that go on."""
        going_on = [status for status in BulkActionStatus if status not in BULK_ACTION_TERMINAL_STATUSES]
        found = self.instance.get_backfills(filters=BulkActionsFilter(statuses=going_on))
        return {backfill.backfill_id for backfill in found}

    def _strip(self, run_id: str) -> bool:
        """Delete a run's logs; whether there were any."""
        storage = self.instance.event_log_storage
        shard = _shard(storage, run_id)
        if not isinstance(storage, SqlEventLogStorage) or (shard and not shard.exists()):
            return False
        had_any = self._strip_rows(storage, run_id)
        if had_any and not self.dry_run:
            self.instance.compute_log_manager.delete_logs(prefix=[run_id, _LOGS])
            if shard:
                _shrink(shard)
        return had_any

    def _strip_rows(self, storage: SqlEventLogStorage, run_id: str) -> bool:
        events, kinds = SqlEventLogStorageTable, SqlEventLogStorageTable.c.dagster_event_type
        logs = db.and_(events.c.run_id == run_id, db.or_(kinds.is_(None), kinds.not_in(_KEPT_EVENTS)))
        with storage.run_connection(run_id) as connection:
            if self.dry_run:
                return connection.execute(db.select(events.c.id).where(logs).limit(1)).first() is not None
            return bool(connection.execute(events.delete().where(logs)).rowcount)

    def _delete_shard(self, run_id: str) -> None:
        """Deleting its rows would leave the file as large as it was."""
        if shard := _shard(self.instance.event_log_storage, run_id):
            for suffix in ("", "-wal", "-shm"):
                Path(f"{shard}{suffix}").unlink(missing_ok=True)


def _shard(storage: object, run_id: str) -> Path | None:
    """SQLite's file of one run; None in another database. What is asked across runs stands in the index as well."""
    return Path(storage.path_for_shard(run_id)) if isinstance(storage, SqliteEventLogStorage) else None


def _shrink(shard: Path) -> None:
    """Give a file's free pages back. Of many empty tables and indices, each takes a page: those become small."""
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(shard, timeout=_PATIENCE_SEC)) as connection:
        for statement in ("journal_mode = DELETE", "page_size = 512"):
            connection.execute(f"PRAGMA {statement}")
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode = WAL")


def databases(instance: dg.DagsterInstance) -> list[Path]:
    """SQLite's files of an instance, but for those of single runs; none where it lies in another database. They do not
    shrink by themselves: what was deleted leaves room for what comes."""
    storage = instance.event_log_storage
    if not isinstance(storage, SqliteEventLogStorage):
        return []
    index = Path(storage.path_for_shard("index"))
    found = (index, index.parents[1] / "runs.db", index.parents[2] / "schedules" / "schedules.db")
    return [path for path in found if path.exists()]


def _batches(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
