"""Planning batches, one at a time: fenced, closed by the watermark, and repeated until they are stored.

A refusal does not say which expectation failed, and a silence not whether the batch landed. Both are answered by two
leader reads, the watermark first: if the epoch read after it is still ours, nobody else can have written that one. Not
ours: the term is over. Ours and moved: the batch landed. Ours and unmoved: once more (mechanisms.md, part 1).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from datetime import datetime

from scheduler.core.errors import Fenced, ScheddError, Unavailable
from scheduler.core.model.occurrence import Occurrence
from scheduler.ports.clock import Clock
from scheduler.ports.telemetry import Telemetry
from scheduler.ports.timeline import Office, Stored, Timeline, Watermark
from scheduler.services.leader import Deposed, Tenure
from scheduler.services.together import within
from scheduler.wire.timeline import BATCH_MAX

log = logging.getLogger(__name__)
OUTAGE_PAUSE_S = 0.2
AGAIN_PAUSE_S = 0.02
LAST_WORDS_S = 1.0

Disarm = tuple[str, datetime]


class Committer:
    """Writes to the timeline for whoever holds the office."""

    def __init__(self, timeline: Timeline, clock: Clock, telemetry: Telemetry) -> None:
        self._timeline, self._clock, self._telemetry = timeline, clock, telemetry

    async def commit_all(
        self,
        tenure: Tenure,
        arms: Sequence[Occurrence],
        disarms: Sequence[Disarm],
        *,
        applied: int | None = None,
        calendars: int | None = None,
    ) -> None:
        """Any number of arms and disarms; the last batch moves R and C. Raises as `commit` does."""
        work: list[Occurrence | Disarm] = [*disarms, *arms]
        while len(work) > BATCH_MAX:
            await self.commit(tenure, *_split(work[:BATCH_MAX]))
            work = work[BATCH_MAX:]
        await self.commit(tenure, *_split(work), applied=applied, calendars=calendars)

    async def commit(
        self,
        tenure: Tenure,
        arms: Sequence[Occurrence],
        disarms: Sequence[Disarm] = (),
        *,
        until: datetime | None = None,
        applied: int | None = None,
        calendars: int | None = None,
    ) -> None:
        """One batch; the watermark never moves back. Raises Deposed, or what no repetition would mend."""
        mark = tenure.office.watermark
        following = Watermark(
            until=max(until or mark.until, mark.until),
            applied=max(applied or 0, mark.applied),
            calendars=max(calendars or 0, mark.calendars),
        )
        while True:
            tenure.check()
            try:
                tenure.office = await self._send(tenure.office, arms, disarms, following)
                return
            except (Fenced, Unavailable) as problem:
                if await self._has_landed(tenure, problem):
                    return

    async def _send(
        self, office: Office, arms: Sequence[Occurrence], disarms: Sequence[Disarm], watermark: Watermark
    ) -> Office:
        """Should the term end while a batch is under way, its answer is still heard: a refusal is to be counted."""
        sending = asyncio.ensure_future(self._timeline.commit(office, arms=arms, disarms=disarms, watermark=watermark))
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            try:
                await within(LAST_WORDS_S, self._clock, sending)
            except Fenced:
                self._telemetry.fenced()
            except ScheddError as problem:
                log.info("a last batch", extra={"event": "last_batch", "error": problem.message})
            raise

    async def _has_landed(self, tenure: Tenure, problem: ScheddError) -> bool:
        log.info("a planning batch was refused", extra={"event": "batch_refused", "error": problem.message})
        reading = asyncio.ensure_future(self._read(tenure))
        try:
            mark, epoch = await asyncio.shield(reading)
        except asyncio.CancelledError:  # who tells that our time is over was faster: whose fence it was is still asked
            with contextlib.suppress(ScheddError, Deposed):
                self._count(tenure, problem, (await within(LAST_WORDS_S, self._clock, reading))[1])
            raise
        self._count(tenure, problem, epoch)
        if epoch is None or epoch.seq != tenure.office.epoch:
            raise Deposed(f"the storage refused epoch {tenure.office.epoch}: {problem.message}")
        if mark is None or mark.watermark is None or mark.seq == tenure.office.watermark_seq:
            await self._clock.sleep(AGAIN_PAUSE_S)
            return False
        tenure.office = Office(epoch.seq, mark.seq, mark.watermark)
        return True

    def _count(self, tenure: Tenure, problem: ScheddError, epoch: Stored | None) -> None:
        """Counted though our time may be over as well: it is the fence that held."""
        if isinstance(problem, Fenced) and (epoch is None or epoch.seq != tenure.office.epoch):
            self._telemetry.fenced()

    async def _read(self, tenure: Tenure) -> tuple[Stored | None, Stored | None]:
        """Watermark, then epoch: in this order, see above. Short outages are waited out."""
        while True:
            try:
                return await self._timeline.watermark(), await self._timeline.epoch()
            except Unavailable:
                tenure.check()
                await self._clock.sleep(OUTAGE_PAUSE_S)


def _split(work: Sequence[Occurrence | Disarm]) -> tuple[list[Occurrence], list[Disarm]]:
    arms = [each for each in work if isinstance(each, Occurrence)]
    return arms, [each for each in work if not isinstance(each, Occurrence)]
