"""The timeline: occurrences armed in the broker, the fence, the watermark, and the due messages that come out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from scheduler.core.model.occurrence import Occurrence


class Watermark(Struct, frozen=True):
    """Planned up to nominal time `until`; schedule edits applied up to revision `applied`, calendars up to that."""

    until: datetime
    applied: int = 0
    calendars: int = 0


class Stored(Struct, frozen=True):
    """A control message of the timeline: its sequence and its decoded body."""

    seq: int
    epoch_holder: str | None = None
    lease_rev: int = 0
    watermark: Watermark | None = None


class Office(Struct, frozen=True):
    """What a term may write with: the fencing token and the sequence of the watermark it closes batches on."""

    epoch: int
    watermark_seq: int
    watermark: Watermark


class Due(Struct, frozen=True):
    """One due message: which occurrence, and what stood in it when it was armed."""

    schedule_id: str
    nominal_at: datetime
    fire_at: datetime
    generation: int
    epoch: int
    ack: str
    delivered: int
    at: datetime
    """The server's timestamp of the fired message."""


class Poison(Struct, frozen=True):
    """A due message that cannot be read."""

    subject: str
    ack: str
    problem: str


class Timeline(Protocol):
    """Leader reads, fenced writes, and the pull side of the due consumer."""

    async def epoch(self) -> Stored | None:
        """The epoch message in force."""

    async def watermark(self) -> Stored | None:
        """The watermark in force."""

    async def take_office(
        self,
        *,
        holder: str,
        lease_rev: int,
        at: datetime,
        expect_epoch: int,
        watermark: Watermark,
        expect_watermark: int,
    ) -> Office:
        """Epoch and unchanged watermark, both CAS, one atomic batch. Raises Fenced, Unsure, Unavailable."""

    async def commit(
        self,
        office: Office,
        *,
        arms: Sequence[Occurrence],
        disarms: Sequence[tuple[str, datetime]],
        watermark: Watermark,
    ) -> Office:
        """One fenced atomic batch of at most 500 arms and disarms, closed by the watermark.

        What is both armed and disarmed is armed; of one occurrence armed twice the later one stands.
        Returns the office with the new watermark. Raises Fenced when epoch or watermark is not ours, Unsure when no
        answer came (it may have landed), Unavailable when the storage refused for now (10164).
        """

    async def armed(self, schedule_id: str) -> list[datetime]:
        """Nominal times of everything armed for the schedule, whatever its instant, from the server, ascending.

        What was disarmed a second or so ago may still be among them: to disarm it again does no harm.
        """

    async def undispatched(self, schedule_id: str) -> list[datetime]:
        """Nominal times of what has fired and is still with a dispatcher, or waits for one; ascending."""

    async def armed_for(self, schedule_id: str, nominal_at: datetime) -> datetime | None:
        """The fire time that stands in an arm; None if there is no such arm, or none that can be read."""

    async def all_armed(self) -> dict[str, list[datetime]]:
        """Everything armed, per schedule; paged. For take-over and reconciling."""

    async def prove_fence(self) -> None:
        """Start-up self-test: a write with a wrong epoch must be refused. Raises Internal if it is accepted."""

    async def pull_due(self, batch: int, expires_s: float) -> list[Due | Poison]:
        """Up to `batch` due messages; an empty list after `expires_s` without any."""

    async def ack(self, tokens: Sequence[str]) -> None:
        """Acknowledge due messages (not confirmed: a lost ack means one more, harmless delivery)."""

    async def working(self, tokens: Sequence[str]) -> None:
        """Tell the server that these are still being worked on."""

    async def later(self, tokens: Sequence[str], delay_s: float) -> None:
        """Hand these back, to be delivered again after the delay."""

    async def due_floor(self) -> int:
        """Up to this sequence the consumer has seen every due message through. Raises Unsure, Unavailable."""

    async def oldest_due(self) -> int | None:
        """Sequence of the oldest due message there is, under way or not. Raises Unsure, Unavailable."""

    async def deliver_from(self, seq: int) -> None:
        """Deliver what is due from this sequence on, whatever was delivered before; what is under way comes twice.

        Raises Unsure, Unavailable.
        """
