"""Loading what is declared. Declarations are checked here before Dagster has them, so that what is wrong in them is
told in one clear line; but what a template becomes is known only to Dagster, and told by `component`."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import BaseModel, ImportString, ValidationError

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.orchestration.component import StreamComponent
from jetstream_pipeline.orchestration.declaration import StreamDeclaration, WrongDeclaration
from jetstream_pipeline.orchestration.declared_fields import is_template
from jetstream_pipeline.orchestration.declared_files import Document, documents
from jetstream_pipeline.orchestration.metadata import STREAM_TAG
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.streams.stream import Stream

_OURS = f"{StreamComponent.__module__}.{StreamComponent.__name__}"
_NAME = ("attributes", "name")
_PROJECT_FILES = ("pyproject.toml", "dg.toml")
_NO_TEMPLATE = ("model_type", "import_error")
"""Pydantic's names for what is wrong where Dagster takes no template: instead of an object, or of a type."""


class _Declaration(BaseModel):
    """What every declaration says, of a stream or of a component of the user's."""

    type: ImportString[type[dg.Component]]


class _Stream(_Declaration, extra="forbid"):
    """What may stand in a stream's: its fields, and what Dagster has for every component."""

    attributes: StreamDeclaration
    template_vars_module: Any = None
    requirements: Any = None
    post_processing: Any = None


def load_declared(package: Path) -> dg.Definitions:
    """The definitions of everything that is declared below `package`'s `defs` folder.

    InvalidInput with file, line and field where the declaration of a stream is wrong, or with the file where what a
    template became is wrong.
    """
    settings = Settings.read()
    declared = documents(package / "defs")
    if wrong := [text for document in declared for text in _mistakes(document, settings)]:
        raise InvalidInput("; ".join(wrong))
    try:
        definitions = _loaded(package)
    except Exception as error:
        if isinstance(error.__cause__, InvalidInput):
            raise InvalidInput(str(error.__cause__)) from error
        raise
    _check_jobs(definitions, declared)
    return definitions


def _loaded(package: Path) -> dg.Definitions:
    if any((folder / name).is_file() for folder in (package, *package.parents) for name in _PROJECT_FILES):
        return dg.load_from_defs_folder(path_within_project=package)
    # Installed, a package has no project's file above it.
    module = import_module(f"{package.name}.defs")
    with warnings.catch_warnings():
        for category in (dg.PreviewWarning, dg.BetaWarning):
            warnings.simplefilter("ignore", category)
        return dg.ComponentTree.from_module(defs_module=module, project_root=package.parent).build_defs()


def declared_streams(package: Path, settings: Settings) -> list[Stream]:
    """The streams that are declared below `package`'s `defs` folder, without their definitions; those that templates
    name are left out: only Dagster knows what becomes of them. InvalidInput where a declaration is wrong."""
    found = []
    for document in documents(package / "defs"):
        if document.text("type") == _OURS and "{{" not in str(document.value):
            if wrong := list(_mistakes(document, settings)):
                raise InvalidInput("; ".join(wrong))
            found.append(_Stream.model_validate(document.value).attributes.stream(settings, document.path.parent))
    return found


def _mistakes(document: Document, settings: Settings) -> Iterator[str]:
    if document.text("type").startswith("."):  # a component of the user's, beside its declaration
        return
    try:
        if _Declaration.model_validate(document.value).type is StreamComponent:
            declaration = _Stream.model_validate(document.value).attributes
            if "{{" not in str(document.value):
                declaration.stream(settings, document.path.parent)
    except ValidationError as error:
        for wrong in error.errors():
            if wrong["type"] in _NO_TEMPLATE or not is_template(wrong["input"]):
                said = "Input should be an object" if wrong["type"] == "model_type" else wrong["msg"]
                told = (document.place(*wrong["loc"]), _path(wrong["loc"]), said.removeprefix("Value error, "))
                yield ": ".join(filter(None, told))
    except WrongDeclaration as error:
        yield f"{document.place('attributes', error.field)}: {error}"


def _path(names: Sequence[str | int]) -> str:
    """A field's path as one would write it: queues[0].operations[1]."""
    parts = "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in names)
    return parts.removeprefix(".").removeprefix("attributes.")


def _check_jobs(definitions: dg.Definitions, declared: Sequence[Document]) -> None:
    """Of two jobs of a name Dagster would take the one; a stream that it does not find, it would not miss."""
    makers = defaultdict(list)
    for job in definitions.jobs or ():
        makers[job.name].append((job.tags or {}).get(STREAM_TAG))
    named = [(document, document.text(*_NAME)) for document in declared if document.text("type") == _OURS]
    for made, streams in makers.items():
        ours = [document for document, name in named if name in streams or is_template(name)]
        if len(streams) > 1 and ours:
            places = " and ".join(document.place(*_NAME) for document in ours)
            raise InvalidInput(f"{places}: name: two jobs would be called {made}; rename a stream, or its queue")
    found = {stream for streams in makers.values() for stream in streams}
    for document, name in named:
        if name not in found and not is_template(name):
            raise InvalidInput(
                f"{document.place()}: Dagster does not look into the folder of a declaration; move it out"
            )
