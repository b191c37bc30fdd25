"""Streams and buckets that lost something under running replicas: all of it (somebody deleted them), their end, or part
of it (a damaged disk). They are made anew or raised above all their sequences, and filled from memory where we can.

Every replica looks, for without the control bucket nobody leads. Definitions are what people put in and nobody else
has: every replica knows them all, so whoever notices that they are gone puts them back, each only if nobody was faster.
To remove everything, delete the schedules, or stop schedd first: a bucket that vanishes is taken for an accident. The
rest is derived, or history: what each loss costs is told in README, "If you lose something".

A server that was restarted may have lost something whatever its sequences say, so definitions and the index of
executions are compared with it then, once, before anything else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime

from scheduler.core.errors import ScheddError
from scheduler.core.reconciling import Repair
from scheduler.core.triggers import EPOCH
from scheduler.ports.clock import Clock
from scheduler.ports.stores import StreamSeen
from scheduler.ports.telemetry import Telemetry
from scheduler.services.calendars import CalendarCache
from scheduler.services.executions import ExecutionIndex
from scheduler.services.lost_definitions import Definitions, Rewrite, rewrite
from scheduler.services.lost_tasks import LostTasks
from scheduler.services.schedules import ScheduleCache
from scheduler.wire.ids import is_schedule_id

log = logging.getLogger(__name__)
EVERY_S = 5.0
TICK_S = 1.0  # how soon after a reconnect it looks
CONFIRM_S = 1.0  # a follower that was just elected may be a moment behind itself
SPARE = 1000  # sequences that others may have seen and we have not
_SCHEDULES, _CALENDARS, _EXECUTIONS = "-schedules", "-calendars", "-executions"  # how the names of their streams end
_TASKS = "_TASKS"
SHOWN_MAX = 10  # keys in one log line


class Restoring:
    """`births` tells how each stream is (None: it is not there), `ensure` makes what is missing, `raise_above` gives a
    stream higher sequences, `reconnects` counts how often NATS was lost and came back."""

    def __init__(
        self,
        *,
        births: Callable[[], Awaitable[Mapping[str, StreamSeen | None]]],
        ensure: Callable[[], Awaitable[Sequence[str]]],
        raise_above: Callable[[str, int], Awaitable[int]],
        reconnects: Callable[[], int],
        schedules: ScheduleCache,
        calendars: CalendarCache,
        index: ExecutionIndex,
        lost_tasks: LostTasks,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._births, self._ensure = births, ensure
        self._raise_above, self._reconnects = raise_above, reconnects
        self._schedules, self._calendars, self._index = schedules, calendars, index
        self._lost_tasks, self._clock, self._telemetry = lost_tasks, clock, telemetry
        self._seen: dict[str, StreamSeen] = {}
        self._owed: dict[str, list[Rewrite]] = {}  # definitions to put back, by stream
        self._low: dict[str, int] = {}  # streams that lost their end, and what they are to be raised above
        self._calm_at: dict[str, datetime] = {}
        self._proven = reconnects()
        self._turn = asyncio.Lock()  # the leader's reconciler looks, too

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except ScheddError as problem:
                log.warning("streams unknown", extra={"event": "restore_waits", "error": problem.message})
            await self._rest()

    async def _rest(self) -> None:
        for _ in range(round(EVERY_S / TICK_S)):
            await self._clock.sleep(TICK_S)
            if self._reconnects() != self._proven:
                return
            self._note_calm()

    def _note_calm(self) -> None:
        """Up to when we have seen all that was written, as long as NATS stands."""
        for stream in self._seen:
            if definitions := self._definitions(stream):
                self._calm_at[stream] = definitions.mirror.newest_at

    async def look(self) -> None:
        """Raises Unsure, Unavailable; then the next look goes on."""
        async with self._turn:
            await self._look()

    async def _look(self) -> None:
        streams = await self._births()
        for name, seen in streams.items():
            before = self._seen.get(name)
            if seen is None or (before is not None and before.born != seen.born):
                self._tell(name, "a stream was lost with what was in it", event="stream_lost")
                self._low.pop(name, None)
                self._remember(name)
        if None in streams.values():
            await self._ensure()
            streams = await self._births()
        await self._note_cut(streams)
        await self._prove(streams)
        if self._low or self._owed:
            for name in list(self._low):
                await self._lift(name)
            for name in list(self._owed):
                await self._put_back(name)
            streams = await self._births()
        self._seen |= {name: seen for name, seen in streams.items() if seen is not None}

    async def restored(self) -> Sequence[str]:
        """As `ensure`; what is lost by now is noticed first, and what can be is put back."""
        await self.look()
        return await self._ensure()

    # --- what is lost

    def _tell(self, stream: str, message: str, **more: object) -> None:
        log.error("%s", message, extra={"stream": stream, **more})
        self._telemetry.repaired(kind=Repair.CONSUMERS.value)

    def _remember(self, stream: str) -> None:
        """What is known now: soon the caches follow the empty bucket."""
        definitions = self._definitions(stream)
        if definitions is not None:
            live = ((key, known.raw) for key, known in definitions.known().items() if not known.deleted)
            self._owed[stream] = [Rewrite(key, raw, 0) for key, raw in live]

    async def _note_cut(self, streams: Mapping[str, StreamSeen | None]) -> None:
        """Streams whose sequences went back."""
        suspects = [name for name, seen in streams.items() if seen is not None and self._is_below(name, seen)]
        if not suspects:
            return
        await self._clock.sleep(CONFIRM_S)
        again = await self._births()
        for name in suspects:
            seen = again.get(name)
            if seen is not None and self._is_below(name, seen):
                self._is_cut(name, self._seen[name].last, seen.last)

    def _is_below(self, name: str, seen: StreamSeen) -> bool:
        before = self._seen.get(name)
        return before is not None and before.born == seen.born and seen.last < before.last

    def _is_cut(self, name: str, was: int, now: int) -> None:
        if name not in self._low:
            message = "a stream lost its end: its NATS server found a damaged block and gave up what lay behind it"
            self._tell(name, message, event="stream_cut", was=was, now=now)
        self._low[name] = max(was + SPARE, self._low.get(name, 0))
        if name.endswith(_TASKS):
            self._lost_tasks.note(now, self._low[name])

    async def _prove(self, streams: Mapping[str, StreamSeen | None]) -> None:
        """Compare with memory what may have been lost unseen: after a reconnect, and where sequences went back."""
        reconnects = self._reconnects()
        is_due = reconnects != self._proven
        for name, seen in streams.items():
            if seen is None or not (is_due or name in self._low):
                continue
            definitions = self._definitions(name)
            if definitions is not None:
                await self._compare(definitions, seen, self._calm_at.get(name, EPOCH) if is_due else EPOCH)
            elif name.endswith(_EXECUTIONS) and (name in self._low or await self._index.is_behind_itself()):
                self._is_cut(name, self._index.mirror.applied, seen.last)
            elif name.endswith(_TASKS) and is_due:
                await self._compare_tasks(name)
        self._proven = reconnects

    async def _compare(self, definitions: Definitions, seen: StreamSeen, seen_until: datetime) -> None:
        rewrites = await definitions.lost(seen_until)
        if not rewrites:
            return
        self._owed[definitions.stream] = rewrites
        lost = [each for each in rewrites if not each.is_ghost]
        extra = {"stream": definitions.stream, "ghosts": len(rewrites) - len(lost), "count": len(lost)}
        if not lost:
            log.warning("NATS has deleted definitions again", extra={"event": "definitions_haunt", **extra})
            return
        log.error("definitions were lost, or cannot be heard of", extra={"event": "definitions_lost", **extra})
        self._is_cut(definitions.stream, max(seen.last, definitions.mirror.applied), seen.last)

    async def _compare_tasks(self, name: str) -> None:
        """Records tell how far the tasks had come at least, before we ask."""
        newest, seen = self._index.newest_task_seq, (await self._births()).get(name)
        if seen is not None and seen.last < newest:
            self._is_cut(name, newest, seen.last)

    def _definitions(self, stream: str) -> Definitions | None:
        if stream.endswith(_SCHEDULES):
            cache = self._schedules
            return Definitions(
                stream, cache.mirror, cache.fresh, lambda: {each.id: each for each in cache}, is_schedule_id
            )
        if stream.endswith(_CALENDARS):
            calendars = self._calendars
            return Definitions(
                stream, calendars.mirror, calendars.fresh, lambda: {each.name: each for each in calendars}
            )
        return None

    # --- what is done about it

    async def _lift(self, name: str) -> None:
        count = await self._raise_above(name, self._low[name])
        if count:
            log.warning("sequences raised", extra={"event": "sequences_raised", "stream": name, "count": count})
        if name.endswith(_EXECUTIONS):
            await self._index.reread()
        await self._ensure()
        del self._low[name]

    async def _put_back(self, stream: str) -> None:
        """Each definition that nobody has put meanwhile."""
        definitions = self._definitions(stream)
        assert definitions is not None
        count = await rewrite(definitions.mirror.bucket, self._owed[stream])
        del self._owed[stream]
        if count:
            extra = {"event": "definitions_put_back", "stream": stream, "count": count}
            log.warning("definitions were put right from memory", extra=extra)
            await self._prove_kept(definitions)

    async def _prove_kept(self, definitions: Definitions) -> None:
        """Where a damaged message still counts, its server takes each write of that key and drops it: all we can do is
        to say so. It is carried out from memory for as long as a replica lives."""
        if left := [each for each in await definitions.lost() if not each.is_ghost]:
            message = "NATS forgets definitions that it acknowledges: export them while we know them, and restore NATS"
            keys = [each.key for each in left[:SHOWN_MAX]]
            self._tell(definitions.stream, message, event="definitions_not_kept", count=len(left), keys=keys)
