"""What Celery's workers run: Dagster's task that executes a run, in the app that dagster.yaml's launcher describes.
Watching over the runs is `celery_launcher`'s.

    celery -A jetstream_pipeline.orchestration.celery_worker worker --concurrency 1 -n worker-1@%h
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import worker_process_init
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher.base import RunLauncher
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tasks import create_execute_job_task

from jetstream_pipeline.errors import InvalidInput

_PARENT_DEATH_SIGNAL = 1
"""Linux' number for prctl."""


def celery_app(home: str | None) -> Celery:
    """The app of the launcher that `home`'s dagster.yaml names, with the task; InvalidInput where it names none."""
    if not home or not Path(home, "dagster.yaml").is_file():
        raise InvalidInput("DAGSTER_HOME names no folder with a dagster.yaml; set it to that of deploy/celery")
    configured = InstanceRef.from_dir(home).run_launcher_data
    launcher = configured.rehydrate(as_type=RunLauncher) if configured else None  # type: ignore[type-abstract]
    if not isinstance(launcher, CeleryRunLauncher):
        raise InvalidInput(f"{home}/dagster.yaml launches no runs with Celery; take the one of deploy/celery")
    create_execute_job_task(launcher.celery)
    return launcher.celery


@worker_process_init.connect
def _end_with_the_worker(**_: Any) -> None:
    """A process whose worker was killed would go on with a run that is given up."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)


try:
    app = celery_app(os.environ.get("DAGSTER_HOME"))
except InvalidInput as error:
    # Celery would show where it was raised.
    print(f"Error: {error}", file=sys.stderr)
    sys.exit(2)
