"""The files in which users declare: what Dagster would pass over in them in silence, and where in them a field stands.
What their fields mean is `declaration`'s."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from jetstream_pipeline.errors import InvalidInput

_NAME = "defs.yaml"
_OURS = "StreamComponent"


@dataclass(frozen=True)
class Document:
    """One declaration: a file's part between two lines of `---`. Lines count from 1."""

    path: Path
    root: yaml.Node

    @property
    def first_line(self) -> int:
        return int(self.root.start_mark.line) + 1

    def text(self, *names: str) -> str:
        """What a field says; empty where it is not there, or is no plain value."""
        node: yaml.Node | None = self.root
        for name in names:
            node = next((child for key, _, child in _children(node) if key == name), None) if node else None
        return str(node.value) if isinstance(node, yaml.ScalarNode) else ""

    def place(self, *names: str) -> str:
        """File and line of a field, or of what stands nearest above it."""
        node, mark = self.root, self.root.start_mark
        for name in names:
            found = [(mark, child) for key, mark, child in _children(node) if key == name]
            if not found:
                break
            mark, node = found[0]
        return f"{self.path}:{mark.line + 1}"


def documents(folder: Path) -> dict[tuple[Path, int], Document]:
    """Everything that is declared below `folder`, by its file and its place in that.

    InvalidInput for a file that is no YAML, declares nothing, names a field twice, or has a name that Dagster does not
    look for.
    """
    found = {}
    for path in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
        if path.name == _NAME:
            found.update({(path, number): document for number, document in enumerate(_read(path))})
        elif _OURS in path.read_text(errors="replace"):
            raise InvalidInput(f"{path}: the file of a stream is called {_NAME}, in a folder of its own; move it there")
    return found


def _read(path: Path) -> list[Document]:
    try:
        roots = [root for root in yaml.compose_all(path.read_text(), yaml.SafeLoader) if root]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not roots:
        raise InvalidInput(f"{path} declares nothing; delete it, or write what it is to be")
    for root in roots:
        _check_keys(path, root)
    return [Document(path, root) for root in roots]


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
