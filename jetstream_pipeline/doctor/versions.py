"""Whether what is installed is what the package asks for, and how old the layouts of the lake's files are."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from jetstream_pipeline import __version__
from jetstream_pipeline.compiled import IS_COMPILED
from jetstream_pipeline.doctor.case import Case
from jetstream_pipeline.doctor.finding import Finding, ok, problem, warning
from jetstream_pipeline.doctor.words import count, some_windows
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.event_layout import POSITION
from jetstream_pipeline.storage.hive import hour_of
from jetstream_pipeline.storage.parquet import reading

_PACKAGE = "jetstream_pipeline"
_SHOWN = ("dagster", "duckdb", "pyarrow")
_COMPILED = "with its compiled parts"
_NOT_COMPILED = "(slower without its compiled parts: install it again where gcc and Python's headers are)"
_FAMILY = ("dagster", "dagster-webserver")
"""Of one version."""


def examine_versions(case: Case) -> Iterator[Finding]:
    shown = {name: _installed(name) or "missing" for name in _SHOWN}
    python = platform.python_version()
    told = ", ".join(f"{name} {number}" for name, number in shown.items())
    yield ok(
        f"{_PACKAGE} {__version__} {_COMPILED if IS_COMPILED else _NOT_COMPILED}, Python {python}, {told}",
        python=python,
        package=__version__,
        compiled=IS_COMPILED,
        **shown,
    )
    for requirement in map(Requirement, requires(_PACKAGE) or ()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield from _wrong(requirement)
    family = {_installed(name) for name in _FAMILY}
    if len(family) > 1:
        yield problem(f"{' and '.join(_FAMILY)} are of different versions; install both with constraints.txt")
    yield from _layouts(case)


def _wrong(requirement: Requirement) -> Iterator[Finding]:
    found = _installed(requirement.name)
    if found is None:
        yield problem(f"{requirement.name} is not installed: pip install '{requirement}'")
    elif not requirement.specifier.contains(found, prereleases=True):
        yield problem(
            f"{requirement.name} {found} is installed, {requirement} is asked for: pip install '{requirement}'"
        )


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _layouts(case: Case) -> Iterator[Finding]:
    """Windows that were written before their rows had a position: they can be queried, not repaired or verified."""
    for stream in case.names:
        old = []
        looked_at = 0
        for path in case.data.lake.windows(stream):
            if case.is_late:
                break
            looked_at += 1
            # One that cannot be read is told by `windows`.
            with suppress(StorageError), reading(path) as file:
                if POSITION not in file.schema_arrow.names:
                    old.append(hour_of(path))
        if old:
            text = f"{count(len(old), 'window')} of {stream} of an older layout, without the column {POSITION}"
            yield warning(f"{text} ({some_windows(old)}); replay them while a host has them", stream=stream)
        elif looked_at:
            yield ok(f"{count(looked_at, 'window')} of {stream} of the present layout", stream=stream)
