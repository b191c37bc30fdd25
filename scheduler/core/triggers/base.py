"""What every compiled trigger can do. All instants are aware UTC; what comes out is cut to milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""No trigger yields anything before this."""
LAST: Final = datetime(2199, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
"""Nor after this: the broker counts nanoseconds since 1970 in 63 bits, which end in 2262."""

EPOCH: Final = FIRST
MILLISECOND: Final = timedelta(milliseconds=1)
SECOND: Final = timedelta(seconds=1)


class CompiledTrigger(Protocol):
    """A strictly ascending sequence of instants between FIRST and LAST, the same on every replica."""

    def next_after(self, at: datetime) -> datetime | None:
        """The first instant strictly after `at`; None if there is none."""

    def previous_before(self, at: datetime) -> datetime | None:
        """The last instant strictly before `at`; None if there is none."""

    def yields(self, nominal: datetime) -> bool:
        """Whether `nominal` is one of the instants."""

    def notes_at(self, nominal: datetime) -> tuple[str, ...]:
        """What a reader of a preview should know about this instant, a daylight-saving shift for example."""


def floor_second(at: datetime) -> int:
    """Whole seconds since 1970, rounded down."""
    return (at - EPOCH) // SECOND


def ceiling_second(at: datetime) -> int:
    """Whole seconds since 1970, rounded up."""
    return -((EPOCH - at) // SECOND)


def from_second(count: int) -> datetime:
    return EPOCH + timedelta(seconds=count)
