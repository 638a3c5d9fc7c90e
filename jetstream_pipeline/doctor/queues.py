"""Whether the queues can be used, and what lies dead in them."""

from __future__ import annotations

from collections.abc import Iterator

from jetstream_pipeline.doctor.case import Case
from jetstream_pipeline.doctor.finding import Finding, ok, problem, warning
from jetstream_pipeline.doctor.words import count
from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.storage.queue.queue import Queue, queues

_PATIENCE_SEC = 1.0


def examine_queues(case: Case) -> Iterator[Finding]:
    try:
        names = queues(case.data.root, _PATIENCE_SEC)
    except PipelineError as error:
        yield problem(str(error))
        return
    for name in names:
        try:
            stats = Queue(name, data_dir=case.data.root, patience=_PATIENCE_SEC).stats()
        except PipelineError as error:
            yield warning(str(error), queue=name)
            continue
        figures: dict[str, int | str] = {"queue": name, "pending": stats.pending, "dead": stats.dead}
        if stats.dead:
            text = f"{name}: {count(stats.dead, 'item')} failed too often (why: jetstream-pipeline queue peek {name} "
            yield warning(
                f"{text}--status dead --items); again: jetstream-pipeline queue requeue {name} --dead", **figures
            )
        else:
            yield ok(f"{name}: {stats.pending:,} pending, {stats.claimed:,} claimed", **figures)
    if not names:
        yield ok("there are no queues")
