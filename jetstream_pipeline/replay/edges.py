"""Cutting a window, and what lies around it, out of a stream."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from jetstream_pipeline.events.crossing import crossing
from jetstream_pipeline.events.parts import Part
from jetstream_pipeline.window import Window


class Section(IntEnum):
    """Where events lie, in stream order and by their host's clock."""

    BEFORE = 0
    LEAD = 1
    """Just before the window: another host may have witnessed these within it."""
    WINDOW = 2
    TAIL = 3
    """Just after the window: another host may have witnessed these within it."""
    AFTER = 4


class Edges:
    """Cuts a stream into sections, batch by batch.

    The window begins with the first event past its start and ends before the first one past its end, as `crossing` sees
    it; an event between them belongs to it whatever its own time says. Lead and tail are as long as hosts' clocks may
    differ.
    """

    def __init__(self, window: Window, skew_us: int) -> None:
        self.moments_us = (window.start_us - skew_us, window.start_us, window.end_us, window.end_us + skew_us)
        self.section = Section.BEFORE
        self._undecided = Part()

    @property
    def beyond(self) -> Part:
        """What came after the tail, where the stream has passed it."""
        return self._undecided if self.passed else Part()

    @property
    def passed(self) -> bool:
        """Whether the stream has been seen to pass the window and its tail."""
        return self.section is Section.AFTER

    def cut(self, part: Part, *, final: bool = False) -> Iterator[tuple[Section, Part]]:
        """The next part of the stream, section by section. Events of which it cannot be said yet where they lie come
        later; with `final` nothing is kept back."""
        rest = self._undecided.joined(part)
        final = final or rest.is_crowded
        while not self.passed:
            before, passed = crossing(rest.events, self.moments_us[self.section], final=final)
            within, rest = rest.split(before)
            yield self.section, within
            if not passed:
                break
            self.section = Section(self.section + 1)
        self._undecided = rest
