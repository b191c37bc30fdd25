"""Ends that nobody was told of: whoever wrote the record died before its event was stored, or had to give the event up.

The terminal record comes first, and the event soon after, for it must be in nobody's way; here is what makes it sure.
The ends that were written since the last look, and are older than a grace, are compared with the events `finished`
stored since; of those that miss theirs, it is told again, under the id that is the same for all who tell it. The look
goes on from a place in the executions bucket (`ends` in the control bucket), so that a successor passes over none.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from itertools import takewhile

from scheduler.core.lifecycle import is_terminal
from scheduler.core.reconciling import Ages, Repair
from scheduler.ports.clock import Clock
from scheduler.ports.feeds import EventFeed
from scheduler.ports.stores import Bucket
from scheduler.services.announcing import Announcer
from scheduler.services.executions import End, ExecutionIndex
from scheduler.services.leader import Tenure
from scheduler.services.places import PlaceKeeper
from scheduler.services.records import Records
from scheduler.wire.alerts import FINISHED
from scheduler.wire.events import Event
from scheduler.wire.names import ENDS_KEY

log = logging.getLogger(__name__)
PAGE = 500
WAIT_S = 0.05
BATCH = 256
MARGIN = timedelta(minutes=2)  # from how long before an end its event is looked for: each stream has a clock of its own
WRITES_MAX = 1_000_000  # how many a first look reads at the most

_Key = tuple[str, int]
"""Which execution, in which drive."""


class EventsRepair:
    """Keeps its place, and which ends are told, as long as one term lasts and nothing goes wrong."""

    kind = Repair.EVENTS

    def __init__(
        self,
        *,
        index: ExecutionIndex,
        records: Records,
        feed: EventFeed,
        announcer: Announcer,
        control: Bucket,
        clock: Clock,
        ages: Ages,
    ) -> None:
        self._index, self._records, self._feed, self._announcer = index, records, feed, announcer
        self._control, self._clock, self._ages = control, clock, ages
        self._place = PlaceKeeper(control, ENDS_KEY, clock)
        self._epoch = -1
        self._checked = self._read_to = 0
        self._told: set[_Key] = set()

    async def repair(self, tenure: Tenure) -> int:
        """Raises Deposed, Unsure, Unavailable."""
        if self._epoch != tenure.office.epoch:
            await self._begin()
        self._epoch = -1  # until this round has succeeded
        ends, until = await self._index.ends_since(self._checked)
        told = self._told | (new := await self._read_events())
        ripe_before = self._clock.now() - self._ages.grace
        ripe = list(takewhile(lambda each: each.at < ripe_before, ends))
        unripe = ends[len(ripe) :]
        missing = [each for each in ripe if (each.id, each.drive) not in told]
        count = 0
        for start in range(0, len(missing), BATCH):
            count += await self._tell(missing[start : start + BATCH], tenure)
        self._checked = unripe[0].revision - 1 if unripe else until
        await self._place.move(self._checked, at_once=True)
        self._told = {key for each in unripe if (key := (each.id, each.drive)) in told} | new
        self._epoch = tenure.office.epoch
        return count

    async def close(self) -> None:
        """Let go of the feed; idempotent."""
        await self._feed.close()

    async def _begin(self) -> None:
        """From the place of whoever led before; without one, from the oldest end that is still in memory."""
        self._place = PlaceKeeper(self._control, ENDS_KEY, self._clock)
        self._told, self._checked = set(), await self._place.open(self._oldest)
        oldest = await self._oldest()
        if oldest - self._checked > WRITES_MAX:
            extra = {"event": "ends_unchecked", "from": self._checked, "to": oldest}
            log.warning("for long nobody has compared ends with their events: some are left out", extra=extra)
            self._checked = oldest
        ends, _ = await self._index.ends_since(self._checked)
        since = ends[0].at if ends else self._clock.now() - self._ages.grace
        self._read_to = await self._feed.before(since - MARGIN)

    async def _oldest(self) -> int:
        return self._index.ends_after

    async def _read_events(self) -> set[_Key]:
        """Which ends the events tell that are new."""
        found: set[_Key] = set()
        newest = await self._feed.newest()
        while self._read_to < newest:
            page = await self._feed.read(self._read_to, (FINISHED,), most=PAGE, wait_s=WAIT_S)
            if not page.items:
                break
            self._read_to = page.items[-1].seq
            found |= {key for each in page.items if (key := key_of(each.event)) is not None}
        return found

    async def _tell(self, missing: Sequence[End], tenure: Tenure) -> int:
        stored = await self._records.get_many([each.id for each in missing])
        known = {each.execution.id: each.execution for each in stored if each is not None}
        ended = [
            execution
            for each in missing
            if (execution := known.get(each.id)) and execution.drive == each.drive and is_terminal(execution)
        ]
        tenure.check()
        await self._announcer.ended(ended)
        return len(ended)


def key_of(event: Event | None) -> _Key | None:
    """Whose end the event tells."""
    if event is None:
        return None
    execution_id, drive = event.data.get("execution_id"), event.data.get("drive", 0)
    return (execution_id, drive) if isinstance(execution_id, str) and isinstance(drive, int) else None
