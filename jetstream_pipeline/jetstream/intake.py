"""Messages that have come and that nobody has taken yet. What bounds them is the connection's to know."""

from __future__ import annotations

from collections import deque

from jetstream_pipeline.events.messages import Messages


class Intake:
    """Messages in order: added one by one or many at once, taken in batches that lie together in memory."""

    def __init__(self) -> None:
        self.count = 0
        self.size = 0
        """Bytes of those that are here."""
        self.taken = 0
        """Bytes of those that were."""
        self._parts: deque[Messages] = deque()
        self._single: list[bytes] = []
        """Younger than those."""

    def add(self, message: bytes) -> None:
        self._single.append(message)
        self.count += 1
        self.size += len(message)

    def add_all(self, messages: Messages) -> None:
        if not messages:
            return
        self._settle()
        self._parts.append(messages)
        self.count += len(messages)
        self.size += messages.size

    def take(self, most: int) -> Messages:
        """The oldest, `most` of them, or fewer."""
        self._settle()
        parts: list[Messages] = []
        wanted = most
        while self._parts and wanted and (not parts or parts[-1].goes_on(self._parts[0])):
            part = self._parts.popleft()
            if len(part) > wanted:
                self._parts.appendleft(part[wanted:])
                part = part[:wanted]
            parts.append(part)
            wanted -= len(part)
        batch = Messages.joined(parts) if parts else Messages.of([])
        self.count -= len(batch)
        self.size -= batch.size
        self.taken += batch.size
        return batch

    def _settle(self) -> None:
        if self._single:
            self._parts.append(Messages.of(self._single))
            self._single = []
