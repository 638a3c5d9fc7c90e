"""Making a window's report: `report.png`, `report.md` and, last, `report.json`, which says what they were made from.

<data>/reports/<stream>/date=YYYY-MM-DD/hour=HH/

What is counted is `figures`'; how it looks, `pictures`' and `text`'s.
"""

from __future__ import annotations

import base64
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.report.figures import Figures, count_figures
from jetstream_pipeline.report.pictures import drawn
from jetstream_pipeline.report.text import written
from jetstream_pipeline.storage.days import held, summary_of
from jetstream_pipeline.storage.files import replacing, told, version
from jetstream_pipeline.storage.hive import hour_folder
from jetstream_pipeline.storage.lake import check_name
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.storage.summary import read_summary
from jetstream_pipeline.window import Window

PICTURE, TEXT, FIGURES = "report.png", "report.md", "report.json"

_EDITION = 2
"""To be raised when a report of the same events becomes another one; the reports that stand are then made anew."""


@dataclass(frozen=True)
class Report:
    """A window's report as it lies in its folder, and the seconds that it took to have it."""

    folder: Path
    stream: str
    window: Window
    figures: Figures
    is_new: bool
    """Whether it was made just now; otherwise it stood there already."""
    seconds: float

    def markdown(self, picture: str = PICTURE) -> str:
        """Its text, with the picture from this address: a path beside the text, or a `data:` URI."""
        return written(self.figures, self.stream, self.window, picture)

    def picture_uri(self) -> str:
        """The picture itself as a `data:` URI; StorageError where it cannot be read."""
        path = self.folder / PICTURE
        with told(path, "read"):
            return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


class _Stored(BaseModel):
    """`report.json`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    edition: int
    stream: str
    window: str
    """Its key, `YYYY-MM-DD-HH:MM`."""
    content: str
    """The identity of the rows that were counted."""
    sha256: dict[str, str]
    """Of the files beside it: where one is another's, or damaged, the report is not whole."""
    figures: Figures


def report_folder(data: DataDirectory, stream: str, window: Window) -> Path:
    return data.root / "reports" / check_name(stream) / hour_folder(window.start)


def build_report(stream: str, window: Window, data: DataDirectory) -> Report:
    """Make the report of a whole window, or find the one that was made of the same events.

    InvalidInput where the lake has no whole window to make it from, StorageError where it cannot be read or written.
    """
    began = time.monotonic()
    events = data.lake.events_path(stream, window)
    if not data.lake.has(stream, window):
        raise InvalidInput(f"the lake holds no whole window {stream} {window}; replay it first")
    folder = report_folder(data, stream, window)
    figures = _standing(folder, summary_of(data.lake, stream, window).content)
    is_new = figures is None
    if figures is None:
        with held(data, stream, [window]):
            figures, content = _counted(events, window)
        _write(folder, stream, window, content, figures)
    return Report(folder, stream, window, figures, is_new, time.monotonic() - began)


def _counted(events: AnyPath, window: Window) -> tuple[Figures, str]:
    """The figures of one and the same file, and its content, also where it is replaced meanwhile."""
    while True:
        before = version(events)
        content, figures = read_summary(events).content, count_figures(events, window)
        if version(events) == before:
            return figures, content


def _standing(folder: Path, content: str) -> Figures | None:
    """The figures of the report that stands there whole, made of this content; None where there is none."""
    if not content:
        return None
    try:
        stored = _Stored.model_validate_json(_bytes(folder / FIGURES))
    except ValidationError:
        return None
    is_of_it = (stored.edition, stored.content) == (_EDITION, content)
    if not is_of_it or stored.sha256 != {name: _digest(_bytes(folder / name)) for name in (PICTURE, TEXT)}:
        return None
    return stored.figures


def _write(folder: Path, stream: str, window: Window, content: str, figures: Figures) -> None:
    files = {
        PICTURE: drawn(figures, stream, window),
        TEXT: written(figures, stream, window, PICTURE).encode(),
    }
    stored = _Stored(
        edition=_EDITION,
        stream=stream,
        window=window.key,
        content=content,
        sha256={name: _digest(written_bytes) for name, written_bytes in files.items()},
        figures=figures,
    )
    for name, made in {**files, FIGURES: stored.model_dump_json(indent=1).encode() + b"\n"}.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(made)


def _bytes(path: Path) -> bytes:
    """Nothing where there is no such file."""
    with told(path, "read"):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return b""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
