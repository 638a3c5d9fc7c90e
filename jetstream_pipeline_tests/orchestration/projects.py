"""Projects whose declarations are loaded in this process."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import dagster as dg

from jetstream_pipeline.orchestration.loading import load_declared

TYPE = "jetstream_pipeline.orchestration.component.StreamComponent"
_number = itertools.count()


class Project:
    """An empty project below `folder`, with a package of a name that no other has."""

    def __init__(self, folder: Path) -> None:
        name = f"declared_{next(_number)}"
        self.package = folder / name
        self.defs = self.package / "defs"
        self.defs.mkdir(parents=True)
        for path in (self.package, self.defs):
            (path / "__init__.py").touch()
        (folder / "pyproject.toml").write_text(
            f'[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "{name}"\n'
        )
        sys.path.append(str(folder))

    def write(self, text: str, name: str = "mine/defs.yaml") -> Path:
        """A file of the definitions' folder."""
        path = self.defs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def declare(self, *attributes: str, name: str = "mine/defs.yaml") -> Path:
        """A stream in a folder of its own, by the lines of its attributes: the first one is the file's third line."""
        lines = [f"type: {TYPE}", "attributes:", *(f"  {line}" for line in attributes)]
        return self.write("\n".join(lines) + "\n", name)

    def load(self) -> dg.Definitions:
        return load_declared(self.package)
