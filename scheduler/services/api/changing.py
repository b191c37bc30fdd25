"""Changing one stored schedule: read at the store's leader, decide, compare-and-set, and again after a lost race.

silence (Unsure)  the write may have landed: the next round reads, and recognises it by its revision and value
conflict          somebody else was faster: the next round decides about what they stored
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from enum import Enum

from scheduler.core.errors import Conflict, ScheddError, Unavailable, Unsure
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Bucket, Entry

ROUNDS_MAX = 12  # in each of them somebody gets through
RACE_PAUSE_S = 0.002  # doubled each round, up to the cap, and spread
RACE_PAUSE_MAX_S = 0.1


class Verb(Enum):
    """A decision other than a new value."""

    LEAVE = "leave"
    DELETE = "delete"


LEAVE, DELETE = Verb.LEAVE, Verb.DELETE
Decision = bytes | Verb
Decide = Callable[[Entry | None], Decision]


class ScheduleChanges:
    """Changes to the schedules bucket, or to another one of definitions (`noun`)."""

    def __init__(self, bucket: Bucket, clock: Clock, *, noun: str = "schedule") -> None:
        self._bucket, self._clock, self._noun = bucket, clock, noun

    async def change(self, schedule_id: str, decide: Decide) -> int:
        """The revision in force after the change. `decide` gets what is stored (None: nothing) and may raise.

        LEAVE is for what is stored already. Raises what `decide` raises, Unsure, Unavailable.
        """
        sent: tuple[int, Decision] | None = None
        problem: ScheddError = Unavailable(f"{self._noun} {schedule_id!r} keeps changing: try again")
        for number in range(ROUNDS_MAX):
            entry = await self._bucket.get(schedule_id)
            if entry is not None and sent is not None and _landed(entry, *sent):
                return entry.revision
            wanted = decide(None if entry is None or entry.deleted else entry)
            if wanted is LEAVE and entry is not None:
                return entry.revision
            expect = 0 if entry is None else entry.revision
            try:
                return await self._write(schedule_id, wanted, expect)
            except Conflict:
                pass
            except Unsure as silence:
                sent, problem = (expect, wanted), silence
            await self._clock.sleep(_spread(min(RACE_PAUSE_S * 2**number, RACE_PAUSE_MAX_S)))
        raise problem

    async def _write(self, schedule_id: str, wanted: Decision, expect: int) -> int:
        if isinstance(wanted, bytes):
            return await self._bucket.put(schedule_id, wanted, expect=expect)
        return await self._bucket.delete(schedule_id, expect=expect)


def _landed(entry: Entry, expect: int, wanted: Decision) -> bool:
    """Whether what is stored now is the very write whose answer never came."""
    if entry.revision <= expect:
        return False
    return entry.deleted if wanted is DELETE else entry.value == wanted and not entry.deleted


def _spread(seconds: float) -> float:
    return seconds * (0.5 + secrets.randbelow(1000) / 1000)


def check_expectation(what: str, expected: int | None, entry: Entry | None) -> None:
    """Whether the caller decided about what is stored; `expected` 0: nothing is, None: whatever is. Raises Conflict."""
    actual = 0 if entry is None else entry.revision
    if expected is None or expected == actual:
        return
    if entry is None:
        raise Conflict(f"{what} does not exist", field="expected_revision")
    if expected == 0:
        raise Conflict(f"{what} exists already, at revision {actual}", field="expected_revision")
    raise Conflict(f"{what} is at revision {actual}, not {expected}", field="expected_revision")
