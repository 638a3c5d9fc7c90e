"""Dagster's long-running programs as processes of ours: begun, watched, ended. What they are for is not known here."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from jetstream_pipeline.errors import PipelineError

_STOPPING_SEC = 15


class DemoError(PipelineError):
    """The demonstration could not come to its end."""


@dataclass(frozen=True)
class Program:
    """One that was begun. Its output is in `log`."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    def check(self) -> None:
        """DemoError where it runs no longer."""
        if self.process.poll() is not None:
            raise DemoError(f"Dagster's {self.name} ended; see {self.log}")


@contextmanager
def started(name: str, command: Sequence[str], variables: Mapping[str, str], log: Path) -> Iterator[Program]:
    """A program for as long as the body runs; with it ends every process that it began."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=variables, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield Program(name, log, process)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOPPING_SEC)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
