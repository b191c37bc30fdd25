"""Alerts: what the events of runs say about a schedule, told as events of their own. A duty of the leader.

It reads `finished` and `verdicts` in the order of the stream, folds each into the health of its schedule
(`core.alerting`) and stores what there is to tell: failed, missed, recovered, flapping; `late` comes from looking at
what has not begun. In this order: the alerts are stored, under ids that follow from the events they come from; then the
health of the schedules that are not well (`health.<id>` in the control bucket); then the place. A successor goes on
from the place, skips what a health has in it already, and tells the rest again under the same ids: nothing is lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from scheduler.core.alerting import HEALTHY, Alert, AlertKind, Health, fold
from scheduler.core.errors import InvalidArgument, ScheddError
from scheduler.core.model.execution import Execution, Kind, State
from scheduler.ports.clock import Clock
from scheduler.ports.feeds import EventFeed, Told
from scheduler.ports.queues import Events, Fact, TaskQueues
from scheduler.ports.stores import Bucket, Write
from scheduler.ports.telemetry import Telemetry
from scheduler.services.executions import ExecutionIndex, Seen
from scheduler.services.leader import Deposed, Tenure
from scheduler.services.places import PlaceKeeper
from scheduler.services.records import Records
from scheduler.services.schedules import ScheduleCache
from scheduler.services.together import run_together
from scheduler.wire.alerts import (
    DELETED,
    SOURCES,
    alert_data,
    alert_id,
    decode_health,
    encode_health,
    finished_data,
    lateness_of,
    outcome_of,
)
from scheduler.wire.events import Event
from scheduler.wire.names import ALERTS_KEY, HEALTH_KEYS, health_key
from scheduler.wire.schedule_json import labels_of

log = logging.getLogger(__name__)
BATCH = 500
WAIT_S = 2.0
RETRY_S = 2.0
UNWELL_MAX = 20_000  # schedules whose health is remembered
LATE_EVERY_S = 5.0
LATE_BATCH = 500  # told in one look; the others in the next
TOLD_MAX = 100_000
_NOT_BEGUN = frozenset({State.CLAIMED, State.WAITING, State.QUEUED})


class _Kept(Struct):
    """The health of one schedule: the newest event in it, and the revision it is stored under (0: not stored)."""

    health: Health = HEALTHY
    seq: int = 0
    revision: int = 0


class Alerting:
    """`run` while its replica leads."""

    def __init__(
        self,
        *,
        feed: EventFeed,
        events: Events,
        control: Bucket,
        schedules: ScheduleCache,
        index: ExecutionIndex,
        records: Records,
        queues: TaskQueues,
        clock: Clock,
        telemetry: Telemetry,
        late_after: timedelta,
    ) -> None:
        self._feed, self._events, self._control, self._schedules = feed, events, control, schedules
        self._index, self._records, self._queues = index, records, queues
        self._clock, self._telemetry, self._late_after = clock, telemetry, late_after
        self._unwell: dict[str, _Kept] = {}
        self._told_late: OrderedDict[str, None] = OrderedDict()

    async def run(self, tenure: Tenure) -> None:
        """Raises Deposed when the term is over."""
        try:
            await run_together(self._follow(tenure), self._watch_late(tenure))
        finally:
            await self._feed.close()

    async def _follow(self, tenure: Tenure) -> None:
        while True:
            tenure.check()
            try:
                await self._read(tenure)
            except Deposed:
                raise
            except ScheddError as problem:
                log.warning("alerts wait", extra={"event": "alerts_wait", "error": problem.message})
            except Exception:  # no reason to lead no longer
                log.exception("alerts broke and begin anew", extra={"event": "alerts_wait"})
            await self._clock.sleep(RETRY_S)

    async def _read(self, tenure: Tenure) -> None:
        """From the stored place on, until something fails; then all of this begins anew. Raises ScheddError."""
        place = PlaceKeeper(self._control, ALERTS_KEY, self._clock)
        seq = await place.open(self._feed.newest)
        await self._load()
        while True:
            page = await self._feed.read(seq, SOURCES, most=BATCH, wait_s=WAIT_S)
            tenure.check()
            if page.items:
                await self._fold(page.items, tenure)
                seq = page.items[-1].seq
            tenure.check()
            await place.move(seq)

    async def _load(self) -> None:
        keys = await self._control.keys(HEALTH_KEYS)
        self._unwell.clear()
        for entry in await self._control.get_many(keys):
            if entry is not None and not entry.deleted:
                health, seq = decode_health(entry.value)
                self._unwell[entry.key.removeprefix(health_key(""))] = _Kept(health, seq, entry.revision)

    # --- what the events say

    async def _fold(self, items: Sequence[Told], tenure: Tenure) -> None:
        facts: list[Fact] = []
        touched: dict[str, _Kept] = {}
        for told in items:
            if told.event is None or told.event.schedule_id is None:
                continue
            kept = touched.get(told.event.schedule_id) or self._unwell.get(told.event.schedule_id) or _Kept()
            try:
                facts += self._take(told.event, told.seq, kept)
            except InvalidArgument:
                self._telemetry.dropped(what="alert", reason="unreadable")
                continue
            touched[told.event.schedule_id] = kept
        await self._store(facts)
        self._remember_late(facts)
        tenure.check()
        await self._keep(touched)

    def _take(self, event: Event, seq: int, kept: _Kept) -> list[Fact]:
        """Fold one event into the health of its schedule; what there is to tell."""
        if event.kind == DELETED:
            kept.health, kept.seq = HEALTHY, seq
            return []
        outcome, facts = outcome_of(event), self._late_one(event)
        if outcome is None or seq <= kept.seq:
            return facts
        kept.health, alerts = fold(kept.health, outcome)
        kept.seq = seq
        return [*facts, *(self._fact(alert, event.id, event.schedule_id, event.data) for alert in alerts)]

    def _late_one(self, event: Event) -> list[Fact]:
        """One that was dispatched late, and not noticed before its end."""
        lateness_s = lateness_of(event)
        if lateness_s is None or lateness_s < self._late_after.total_seconds():
            return []
        run = _run_of(event.data["execution_id"], event.data.get("drive", 0))
        is_told = run in self._told_late
        return [] if is_told else [self._fact(Alert(AlertKind.LATE), run, event.schedule_id, event.data)]

    def _fact(self, alert: Alert, source_id: str, schedule_id: str | None, source: Mapping[str, Any]) -> Fact:
        data = {**alert_data(alert, source), "labels": self._labels(schedule_id)}
        return Fact(alert_id(alert, source_id), alert.kind, schedule_id, data)

    def _labels(self, schedule_id: str | None) -> dict[str, str]:
        known = None if schedule_id is None else self._schedules.get(schedule_id)
        return {} if known is None else labels_of(known.raw)

    async def _store(self, facts: Sequence[Fact]) -> None:
        """One that cannot be stored, whatever it is, keeps the others from nothing."""
        try:
            if facts:
                await self._events.store(facts)
        except InvalidArgument:
            if len(facts) == 1:
                self._telemetry.dropped(what="alert", reason="refused")
                return
            for fact in facts:
                await self._store([fact])

    async def _keep(self, touched: Mapping[str, _Kept]) -> None:
        """Write the health of those that are not well; of those that are, nothing is kept. Raises ScheddError."""
        writes: dict[str, Write] = {}
        for schedule_id, kept in touched.items():
            if kept.health == HEALTHY:
                self._unwell.pop(schedule_id, None)
                if kept.revision:
                    await self._control.delete(health_key(schedule_id), expect=kept.revision)
            elif schedule_id in self._unwell or len(self._unwell) < UNWELL_MAX:
                self._unwell[schedule_id] = kept
                body = encode_health(kept.health, kept.seq)
                writes[schedule_id] = Write(health_key(schedule_id), body, expect=kept.revision or None)
            else:
                self._telemetry.dropped(what="alert_health", reason="too_many")
        results = await self._control.put_many(list(writes.values()))
        for schedule_id, result in zip(writes, results, strict=True):
            if isinstance(result, ScheddError):
                raise result
            self._unwell[schedule_id].revision = result

    # --- what has not begun

    async def _watch_late(self, tenure: Tenure) -> None:
        while True:
            await self._clock.sleep(min(LATE_EVERY_S, self._late_after.total_seconds()))
            tenure.check()
            try:
                await self._look_for_late()
            except ScheddError as problem:
                log.warning("late ones are told later", extra={"event": "alerts_wait", "error": problem.message})

    async def _look_for_late(self) -> None:
        now = self._clock.now()
        waiting = [each for each in self._index.open_before(now - self._late_after) if _is_waiting(each)]
        waiting = [each for each in waiting if each.id not in self._told_late]
        if not waiting:
            return
        await asyncio.sleep(0)
        delivered = {each.queue: each.delivered_seq for each in await self._queues.queues()}
        waiting = [each for each in waiting if (each.summary.task_seq or 2**63) > delivered.get(each.summary.queue, 0)]
        stored = await self._records.get_many([each.id for each in waiting[:LATE_BATCH]])
        found = [each.execution for each in stored if each is not None]
        facts = [self._late_fact(each) for each in found if self._is_late(each)]
        await self._store(facts)
        self._remember_late(facts)
        for each in found:
            self._remember(each.id)

    def _is_late(self, execution: Execution) -> bool:
        waited = self._clock.now() - _wanted_at(execution)
        return execution.state in _NOT_BEGUN and execution.kind is not Kind.BACKFILL and waited >= self._late_after

    def _late_fact(self, execution: Execution) -> Fact:
        waited_s = (self._clock.now() - _wanted_at(execution)).total_seconds()
        source = {**finished_data(execution), "waited_s": waited_s}
        return self._fact(Alert(AlertKind.LATE), _run_of(execution.id, execution.drive), execution.schedule, source)

    def _remember_late(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if fact.kind == AlertKind.LATE:
                self._remember(fact.id.removeprefix(f"{AlertKind.LATE}-"))

    def _remember(self, run: str) -> None:
        """Executions that were looked at, and runs of them whose lateness was told."""
        self._told_late[run] = None
        self._told_late.move_to_end(run)
        if len(self._told_late) > TOLD_MAX:
            self._told_late.popitem(last=False)


def _is_waiting(seen: Seen) -> bool:
    return seen.state in _NOT_BEGUN and seen.summary.attempt == 0


def _wanted_at(execution: Execution) -> datetime:
    """Its fire time; of one that was retried when somebody asked for that."""
    return execution.claimed_at if execution.drive and execution.claimed_at is not None else execution.fire_at


def _run_of(execution_id: str, drive: int) -> str:
    return f"{execution_id}-{drive}"
