"""Loading what is declared, with one clear line for what is wrong in it."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import dagster as dg
from pydantic import ValidationError

from jetstream_pipeline.errors import InvalidInput, PipelineError
from jetstream_pipeline.orchestration.declaration import WrongDeclaration
from jetstream_pipeline.orchestration.declared_files import Document, documents

_PLACE = re.compile(r"^`(?P<field>.*) at (?P<place>[^`]+)`$")
_RESOLVING = re.compile(r"^(?P<place>\S.*:\d+) - attributes\.(?P<field>\S+)$")
_POINTER = re.compile(r"^\s*\|\s+\^ ")
_CLASS = re.compile(r"^[\w.]+Error: ")
_SAYS_NOTHING = re.compile(r"\d+ validation errors? for |^For further information ")
_BETWEEN = re.compile(r"\.(?![^\[]*\])")
_TYPE = re.compile(r"^(?:str|int|bool|constrained-int|.*\[.*)$")
"""What pydantic puts between the names of a field's path, to say which of several types it tried."""
_COMPONENT = re.compile(r"(?:component|for) (\S+)\[(\d+)\]")
_DETAIL = re.compile(r" \[type=.*$")
_UNRESOLVED = re.compile(r"^Module `(\S+)` (?:not found|has no attribute `(\S+)`)\.$")
_STREAM = ("attributes", "name")
_NOISE = "Input should be a valid string"
"""Dagster lets a template stand wherever something else may: what is neither is told a second time."""


Declared = Mapping[tuple[Path, int], Document]


def load_declared(package: Path) -> dg.Definitions:
    """The definitions of everything that is declared below `package`'s `defs` folder.

    InvalidInput with file, line and field where a declaration is wrong.
    """
    declared = documents(package / "defs")
    try:
        definitions = dg.load_from_defs_folder(path_within_project=package)
    except Exception as error:
        told = "; ".join(dict.fromkeys(_told(error, package / "defs", declared)))
        if not told:
            raise
        raise InvalidInput(told) from error
    _check_names(definitions, declared)
    return definitions


def _check_names(definitions: dg.Definitions, declared: Declared) -> None:
    """Dagster would take the one of two and say nothing."""
    names = Counter(job.name for job in definitions.jobs or ())
    for job in (name for name, count in names.items() if count > 1):
        streams = [document for document in declared.values() if job.startswith(f"{document.text(*_STREAM)}_")]
        places = " and ".join(document.place(*_STREAM) for document in streams)
        raise InvalidInput(f"{places}: name: both would make a job {job}; rename one of the streams, or its queue")


def _told(error: BaseException, folder: Path, declared: Declared) -> Iterator[str]:
    """What a person needs to know, from the causes of Dagster's error."""
    component = _COMPONENT.search(str(error))
    document = declared.get((folder / component[1] / "defs.yaml", int(component[2]))) if component else None
    for cause in _causes(error):
        lines = str(cause).splitlines() or [""]
        located = [*_located(lines, declared), *_resolving(lines)]
        yield from located
        if isinstance(cause, WrongDeclaration) and document:
            yield f"{document.place('attributes', cause.field)}: {cause.field}: {cause}"
        elif isinstance(cause, PipelineError):
            yield str(cause)
        elif unresolved := _UNRESOLVED.match(lines[0]):
            wanted = ".".join(filter(None, unresolved.groups()))
            yield from (
                f"{one.place('type')}: type: {cause}" for one in declared.values() if wanted in one.text("type")
            )
        elif isinstance(cause, ValidationError) and not located and document:
            for found in cause.errors():
                names = [str(name) for name in found["loc"]]
                said = found["msg"].removeprefix("Value error, ")
                yield f"{document.place('attributes', *names)}: {_path(names)}: {said}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _located(lines: Sequence[str], declared: Declared) -> Iterator[str]:
    """Of pydantic's errors, each a line with its place and one with its text: those that say something."""
    told: dict[str, str] = {}
    pairs = itertools.pairwise(lines)
    errors = [(match, text.strip()) for line, text in pairs if (match := _PLACE.match(line.strip()))]
    for match, text in sorted(errors, key=lambda error: error[1].startswith(_NOISE)):
        names = [name for name in _BETWEEN.split(match["field"]) if not _TYPE.match(name)]
        path = _path(names[1:] if names[0] == "attributes" and len(names) > 1 else names)
        said = [_exactly(match["place"], names, declared), path, _DETAIL.sub("", text).removeprefix("Value error, ")]
        told.setdefault(path, ": ".join(filter(None, said)))
    for path, text in told.items():
        if not any(other.startswith((f"{path}.", f"{path}[")) for other in told):
            yield text


def _exactly(place: str, names: Sequence[str], declared: Declared) -> str:
    """The place of a field's innermost part; Dagster's may be that of what it stands in."""
    path, _, line = place.rpartition(":")
    before = [one for one in declared.values() if str(one.path) == path and one.first_line <= int(line)]
    return before[-1].place(*names) if before else place


def _resolving(lines: Sequence[str]) -> Iterator[str]:
    """Of Dagster's errors about a template, or about an object in a list: what stands below the quoted line."""
    if place := _RESOLVING.match(lines[0]):
        below = itertools.dropwhile(lambda line: not _POINTER.match(line), lines)
        said = [_POINTER.sub("", line).strip() for line in itertools.takewhile(lambda line: line.strip() != "|", below)]
        telling = [_DETAIL.sub("", _CLASS.sub("", text)) for text in said if not _SAYS_NOTHING.search(text)]
        yield f"{place['place']}: {_path(place['field'].split('.'))}: {': '.join(telling)}"


def _path(names: Sequence[str]) -> str:
    """A field's path as one would write it: queues[0].operations[1]."""
    parts = [f"[{name}]" if name.isdigit() else f".{name}" for name in names if name]
    return "".join(parts).removeprefix(".")
