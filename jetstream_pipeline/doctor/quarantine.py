"""Messages that could not be read."""

from __future__ import annotations

from collections.abc import Iterator

from jetstream_pipeline.doctor.case import Case
from jetstream_pipeline.doctor.finding import Finding, ok, problem, warning
from jetstream_pipeline.doctor.words import count
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.files import folders, found
from jetstream_pipeline.storage.quarantine import FILES
from jetstream_pipeline.storage.quarantine import count as messages_in


def examine_quarantine(case: Case) -> Iterator[Finding]:
    everything = 0
    for folder in folders(case.data.quarantine):
        number = 0
        for file in found(folder, FILES):
            try:
                number += messages_in(file.path)
            except StorageError as error:
                yield problem(str(error))
        if number:
            text = f"{count(number, 'message')} of {folder.name} could not be read"
            why = "why: jetstream-pipeline quarantine list"
            remedy = f"{why}; after an update, read them again: jetstream-pipeline quarantine retry {folder.name}"
            yield warning(f"{text}; {remedy}", name=folder.name, messages=number)
        everything += number
    if not everything:
        yield ok("the quarantine is empty", messages=0)
