"""The files in which users declare: what Dagster would pass over in them in silence, and where in them a field stands.
What their fields mean is `declaration`'s."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import yaml

from jetstream_pipeline.errors import InvalidInput

_NAME = "defs.yaml"
_OURS = "StreamComponent"


class _Loader(yaml.SafeLoader):
    """Like Dagster's: a time is a text."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, form) for tag, form in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@dataclass(frozen=True)
class Document:
    """One declaration, a file's part between two lines of `---`: what it says, and the nodes that it is read from."""

    path: Path
    value: object
    root: yaml.Node

    def text(self, *names: str) -> str:
        """What a field says; empty where it is not there, or is no text."""
        value = self.value
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value if isinstance(value, str) else ""

    def place(self, *names: str | int) -> str:
        """File and line of a field, or of what stands nearest above it."""
        node, mark = self.root, self.root.start_mark
        for name in names:
            found = [(mark, child) for key, mark, child in _children(node) if key == str(name)]
            if not found:
                break
            mark, node = found[-1]
        return f"{self.path}:{mark.line + 1}"


def documents(folder: Path) -> list[Document]:
    """Everything that is declared below `folder`.

    InvalidInput for a file that is no YAML, declares nothing, names a field twice, or has a name that Dagster does not
    look for.
    """
    found = []
    for path in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.name == _NAME:
            found.extend(_read(path))
        elif _OURS in path.read_text(errors="replace"):
            raise InvalidInput(f"{path}: the file of a stream is called {_NAME}, in a folder of its own; move it there")
    return found


def _read(path: Path) -> list[Document]:
    found = []
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        while loader.check_node():
            root = loader.get_node()
            _check_keys(path, root)
            found.append(Document(path, loader.construct_document(root), root))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not found:
        raise InvalidInput(f"{path} declares nothing; delete it, or write what it is to be")
    return found


def _check_keys(path: Path, node: yaml.Node) -> None:
    """YAML would take the last one of two."""
    names = set()
    for name, mark, child in _children(node):
        if name in names:
            raise InvalidInput(f"{path}:{mark.line + 1}: {name}: it stands there twice; leave one")
        names.add(name)
        _check_keys(path, child)


def _children(node: yaml.Node) -> Iterator[tuple[str, yaml.Mark, yaml.Node]]:
    """A list's or an object's parts: the name (a list's: the number), where it stands, and the part."""
    if isinstance(node, yaml.SequenceNode):
        for number, child in enumerate(node.value):
            yield str(number), child.start_mark, child
    elif isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            yield str(key.value), key.start_mark, child
