"""Several triggers as one: an instant that more than one of them yields is one occurrence."""

from __future__ import annotations

from datetime import datetime

from scheduler.core.triggers.base import CompiledTrigger


class Union:
    """Yields what any of its parts yields, ascending, each instant once."""

    __slots__ = ("parts",)

    def __init__(self, parts: tuple[CompiledTrigger, ...]) -> None:
        self.parts = parts

    def next_after(self, at: datetime) -> datetime | None:
        return min((found for part in self.parts if (found := part.next_after(at)) is not None), default=None)

    def previous_before(self, at: datetime) -> datetime | None:
        return max((found for part in self.parts if (found := part.previous_before(at)) is not None), default=None)

    def yields(self, nominal: datetime) -> bool:
        return any(part.yields(nominal) for part in self.parts)

    def notes_at(self, nominal: datetime) -> tuple[str, ...]:
        notes = (note for part in self.parts if part.yields(nominal) for note in part.notes_at(nominal))
        return tuple(dict.fromkeys(notes))
