"""Dagster's launcher of runs on Celery's workers, which can also tell that a run's worker is gone. The workers' side is
`celery_worker`'s.

Dagster's own asks only what Celery last wrote of the task. A worker that was killed with its machine writes nothing any
more, so that its run would stay started for ever and keep its place in its pool; and where Redis has lost what was
written, runs that are well would be given up. So the workers themselves are asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import dagster as dg
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus

from jetstream_pipeline.errors import InvalidInput

try:
    from dagster_celery.launcher import CeleryRunLauncher
    from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG
except ImportError as error:
    raise InvalidInput("runs on Celery want an extra: pip install 'jetstream_pipeline[celery]'") from error

_ANSWER_SEC = 3.0
_PATIENCE_SEC = 45.0
"""A worker that is only slow, or whom Redis keeps waiting, is not gone."""

clock: Callable[[], float] = time.monotonic


class WatchedCeleryRunLauncher(CeleryRunLauncher):
    """Runs as tasks of Celery's workers; to be named in dagster.yaml, with `run_monitoring` enabled."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._silent_since: dict[str, float] = {}

    @property
    def supports_resume_run(self) -> bool:
        """What a dead worker had staged is on its disk: the run is executed again, as another one."""
        return False

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Not found where the task's worker is there without it, and where nobody has said to be at it for 45 s."""
        task = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        # Without one the run has only just begun.
        answered, has_task = self._ask(task) if task else (False, False)
        if has_task or self._has_ended(run):
            self._silent_since.pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        since = self._silent_since.setdefault(run.run_id, clock())
        if not answered and clock() - since < _PATIENCE_SEC:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        del self._silent_since[run.run_id]
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "the worker that had the run is gone, or no more at it")

    def terminate(self, run_id: str) -> bool:
        """Ask the worker to interrupt the run, which then ends as canceled; a task that waits is not begun."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or DAGSTER_CELERY_TASK_ID_TAG not in run.tags:
            return False
        self._instance.report_run_canceling(run)
        return super().terminate(run_id)

    def _ask(self, task: str) -> tuple[bool, bool]:
        """Whether the worker that had a task answers, and whether anybody who answers has it."""
        meta = self.celery.backend.get_task_meta(task)
        result = meta.get("result")
        worker = result.get("hostname") if isinstance(result, dict) else None
        # Who had it is not known any more where Redis was emptied, or where the task has ended: then all are asked.
        inspect = self.celery.control.inspect([worker] if worker else None, _ANSWER_SEC, limit=1 if worker else None)
        answers: dict[str, dict[str, Any]] = inspect.query_task(task) or {}
        ended = meta["status"] in self.celery.backend.READY_STATES
        return ended or worker in answers, any(task in found for found in answers.values())

    def _has_ended(self, run: dg.DagsterRun) -> bool:
        """Whether the run has ended since it was looked up."""
        now = self._instance.get_run_by_id(run.run_id)
        return now is None or now.is_finished
