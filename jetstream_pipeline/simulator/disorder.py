"""Orders of events in which each repository's own order holds."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Sequence

_ATTEMPTS = 20


def shuffled(dids: Sequence[str]) -> list[int]:
    """Indices in a random order, always the same for the same repositories, and not the given one if there is
    another."""
    generator = random.Random(",".join(dids))
    order = list(range(len(dids)))
    for _ in range(_ATTEMPTS):
        lots = list(dids)
        generator.shuffle(lots)
        waiting: dict[str, deque[int]] = defaultdict(deque)
        for index, did in enumerate(dids):
            waiting[did].append(index)
        order = [waiting[did].popleft() for did in lots]
        if order != sorted(order):
            break
    return order
