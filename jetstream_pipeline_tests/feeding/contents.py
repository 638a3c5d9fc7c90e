"""Windows whose events are told apart by a number: odd ones are deletes, the others create posts."""

from collections.abc import Iterable, Sequence

import pytest

from jetstream_pipeline import JetstreamRecord
from jetstream_pipeline.storage import window_file
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.queue.items import QueueItem
from jetstream_pipeline_tests.windows import commit, delete, store


def contain(data: DataDirectory, numbers: Iterable[int], rows: int = 1_000) -> None:
    """Replace the window by these events, in this order, in row groups of so many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window_file, "_ROW_GROUP_ROWS", rows)
        store(data, [delete(number=n) if n % 2 else commit(f'{{"n":{n}}}', number=n) for n in numbers])


def numbers(items: Sequence[QueueItem]) -> list[int]:
    """The events of items in the order of adding."""
    ordered = sorted(items, key=lambda item: item.id)
    return [int(JetstreamRecord.from_json(item.payload).did.removeprefix("did:plc:a")) for item in ordered]
