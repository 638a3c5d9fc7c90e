"""All examinations, at once, each for so long and no longer. What they look at is in the modules beside this one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from jetstream_pipeline.doctor.case import Case
from jetstream_pipeline.doctor.clock import examine_clock
from jetstream_pipeline.doctor.disk import examine_disk
from jetstream_pipeline.doctor.finding import Finding, problem, warning
from jetstream_pipeline.doctor.hosts import examine_hosts
from jetstream_pipeline.doctor.locks import examine_locks
from jetstream_pipeline.doctor.quarantine import examine_quarantine
from jetstream_pipeline.doctor.queues import examine_queues
from jetstream_pipeline.doctor.staging import examine_staging
from jetstream_pipeline.doctor.tables import examine_tables
from jetstream_pipeline.doctor.variables import examine_variables
from jetstream_pipeline.doctor.versions import examine_versions
from jetstream_pipeline.doctor.windows import examine_windows
from jetstream_pipeline.errors import PipelineError

Examination = Callable[[Case], Iterable[Finding]]

EXAMINATIONS: Mapping[str, Examination] = {
    "settings": examine_variables,
    "versions": examine_versions,
    "disk": examine_disk,
    "clock": examine_clock,
    "hosts": examine_hosts,
    "windows": examine_windows,
    "tables": examine_tables,
    "staging": examine_staging,
    "quarantine": examine_quarantine,
    "queues": examine_queues,
    "locks": examine_locks,
}
"""By what they look at, in the order in which they are told."""

_REASON_CHARS = 300


@dataclass
class _Looking:
    """One examination under way, in a thread that nobody waits for when its time is up."""

    name: str
    examination: Examination
    case: Case
    found: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._look, name=f"doctor-{self.name}", daemon=True)
        self.thread.start()

    def _look(self) -> None:
        try:
            for finding in self.examination(self.case):
                self.found.append(finding)
        except PipelineError as error:
            self.found.append(problem(str(error)))
        except OSError as error:
            self.found.append(problem(f"the system refuses: {error}; mend that and ask again"))
        # Dagster's storages, and what they stand on, raise errors of no family: what could not be looked at is no ok.
        except Exception as error:
            why = f"{type(error).__name__}: {' '.join(str(error.__cause__ or error).split())[:_REASON_CHARS]}"
            self.found.append(problem(f"could not be looked at ({why}); mend that and ask again"))


def examine(case: Case, examinations: Mapping[str, Examination] = EXAMINATIONS) -> Iterator[tuple[str, list[Finding]]]:
    """What each examination found, by its name, in their order. Nothing is written."""
    until = time.monotonic() + case.seconds
    for looking in [_Looking(name, examination, case) for name, examination in examinations.items()]:
        looking.thread.join(max(until - time.monotonic(), 0.0))
        found = list(looking.found)
        if looking.thread.is_alive():
            found.append(
                warning(f"could not be looked at to the end within {case.seconds:g} s; ask for more: --timeout")
            )
        yield looking.name, found
