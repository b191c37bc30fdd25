"""What became of every nominal time of a window: expected by whom, and explained by what. Pure.

Expected is what the definitions in force yield: each from the instant it took effect to the instant the next one did,
exclusions left out, nothing before the first start of schedd. Late one-shots belong to the definition that brought
them. A chain (`after`) expects what is on record. Each expected nominal time is explained by the first of these:

1. its record: `fired` if it was ever queued, else the state it is in;
2. a pause of the definition in force;
3. a range of verdicts, which explains as many as it counts and not one more; of several the one that ends first, so
   that ranges that lie in each other (edits take back what others left) explain as many as they can together;
4. an edit, pause or deletion that came before it was armed, or before its fire time: superseded, paused;
5. that it is still on its way: armed, due, not planned yet, or waiting for the leader's catch-up: pending.

What none of them explains is unexplained. There is no verdict before the fire time: what fires later than the audit is
asked for is not expected yet. A record that nobody expects (armed by a definition that was edited away, and decided by
the next) is listed with its verdict and counts as expected, since somebody did; it can hide nothing, for it stands at a
nominal time of its own.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import pairwise

from msgspec import Struct, field

from scheduler.core.chain import is_chained
from scheduler.core.dispatching import InForce
from scheduler.core.errors import InvalidArgument
from scheduler.core.firing import fire_time
from scheduler.core.model.schedule import At, Definition, Schedule
from scheduler.core.model.status import StatusRow
from scheduler.core.planning import late_one_shots
from scheduler.core.triggers import EPOCH, LAST
from scheduler.core.triggers.base import MILLISECOND

NOMINALS_MAX = 100_000
UNEXPLAINED = "unexplained"
FIRED, PAUSED, SUPERSEDED, PENDING = "fired", "paused", "superseded", "pending"


class Change(Struct, frozen=True, kw_only=True):
    """A write to the schedules bucket, or of a calendar in use (revision `calendars`).

    `in_force` None: deleted, or invalid (`reason` says which, or `edited`).

    `planned_until`, `applied_until`: how far the one before was planned when this one was applied, if its generation is
    `applied_until` or less: a later one was never applied. None where that is not known.
    """

    generation: int
    at: datetime
    in_force: InForce | None
    calendars: int = 0
    reason: str = "edited"
    planned_until: datetime | None = None
    applied_until: int | None = None

    def passed_over(self, before: Change) -> bool:
        """Whether the one before was replaced by this one before anybody applied it."""
        return self.applied_until is not None and self.applied_until < before.generation

    def wants(self, nominal: datetime) -> bool:
        """Whether it would fire a nominal time that was armed before it took effect."""
        if self.in_force is None or is_chained(self.in_force):
            return False
        return self.in_force.trigger.yields(nominal) and not self.pauses(nominal)

    def pauses(self, nominal: datetime) -> bool:
        return self.in_force is not None and self.in_force.definition.schedule.is_paused_at(nominal)


class VerdictRange(Struct, frozen=True, kw_only=True):
    """One verdict for `count` nominal times, `first` and `last` among them.

    Where an edit takes back what was late (superseded), nobody knows any more how many there were: then it is one for
    the whole span up to the edit, and `count` at least so many. `generation` 0: of whichever definition there was.
    """

    first: datetime
    last: datetime
    count: int
    verdict: str
    reason: str
    generation: int

    @property
    def is_counted(self) -> bool:
        return self.verdict != SUPERSEDED


class OnRecord(Struct, frozen=True):
    """What the record of an automatic execution says."""

    nominal_at: datetime
    execution_id: str
    verdict: str
    reason: str | None


class OnItsWay(Struct, frozen=True, kw_only=True):
    """What was not decided when the audit looked: armed, due, and how far the leader has come."""

    armed: frozenset[datetime] = frozenset()
    due: frozenset[datetime] = frozenset()
    planned_until: datetime = LAST
    applied: int = 2**63
    row: StatusRow = StatusRow()


class Case(Struct, frozen=True, kw_only=True):
    """All there is to judge by. `changes` and `records` ascend. `now`: when it was looked at.

    `started_at`: the first start of schedd. `known_from`: records older than this may be gone.
    """

    changes: tuple[Change, ...]
    records: tuple[OnRecord, ...] = ()
    ranges: tuple[VerdictRange, ...] = ()
    on_its_way: OnItsWay = OnItsWay()
    started_at: datetime = EPOCH
    known_from: datetime = EPOCH
    now: datetime


class Judged(Struct, frozen=True):
    """A nominal time and what became of it. `schedule`: the definition that expected it, None if nobody knows it."""

    nominal_at: datetime
    fire_at: datetime
    verdict: str
    reason: str | None
    execution_id: str | None
    in_force: InForce | None


class Tally(Struct):
    """The sum of an audit: `expected` is all the `verdicts` and what is unexplained."""

    expected: int = 0
    unexplained: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)

    def add(self, judged: Judged) -> None:
        self.expected += 1
        if judged.verdict == UNEXPLAINED:
            self.unexplained += 1
        else:
            self.verdicts[judged.verdict] = self.verdicts.get(judged.verdict, 0) + 1


class Expected(Struct, frozen=True):
    """A nominal time that the `number`-th change expects."""

    nominal_at: datetime
    number: int


def judged(case: Case, since: datetime, until: datetime) -> Iterator[Judged]:
    """Every occurrence with since <= nominal < until and a fire time up to `case.now`, ascending, each once.

    Raises InvalidArgument when there are more than `NOMINALS_MAX`, or when one is expected of a time before
    `case.known_from`.
    """
    judge = _Judge(case)
    count = 0
    for each in _with_extras(case, expected(case, since, until), since, until):
        found = judge.of(each)
        if found is None:
            continue
        count += 1
        if count > NOMINALS_MAX:
            message = f"there are more than {NOMINALS_MAX:,} occurrences in this time: ask for a shorter one"
            raise InvalidArgument(message, field="since")
        yield found


# --- what is expected


def expected(case: Case, since: datetime, until: datetime) -> Iterator[Expected]:
    """What the definitions yield in [since, until), ascending, each nominal time once."""
    known = None
    for each in heapq.merge(*_expectations(case, since, until), key=lambda each: (each.nominal_at, -each.number)):
        if each.nominal_at != known:
            known = each.nominal_at
            yield each


def _expectations(case: Case, since: datetime, until: datetime) -> Iterator[Iterator[Expected]]:
    previous: Definition | None = None
    for number, change in enumerate(case.changes):
        following = case.changes[number + 1] if number + 1 < len(case.changes) else None
        if change.in_force is not None:
            end = LAST if following is None else following.at
            yield _in_force(case, number, max(since - MILLISECOND, change.at), min(until - MILLISECOND, end))
            yield _late(change.in_force, number, previous, since, until)
        if following is None or following.passed_over(change):
            continue
        if change.in_force is not None:
            previous = change.in_force.definition
        elif change.reason == "deleted":
            previous = None


def _in_force(case: Case, number: int, after: datetime, until: datetime) -> Iterator[Expected]:
    """(after, until] of one definition."""
    in_force = case.changes[number].in_force
    assert in_force is not None
    nominal = in_force.trigger.next_after(max(after, _begin(case, in_force.definition.schedule)))
    while nominal is not None and nominal <= until:
        yield Expected(nominal, number)
        nominal = in_force.trigger.next_after(nominal)


def _late(
    in_force: InForce, number: int, previous: Definition | None, since: datetime, until: datetime
) -> Iterator[Expected]:
    """The one-shots that were past when the definition was put."""
    for nominal in late_one_shots(in_force.definition, in_force.trigger, previous=previous):
        if since <= nominal < until:
            yield Expected(nominal, number)


def _begin(case: Case, schedule: Schedule) -> datetime:
    """What was put before the first start owes nothing up to then, one-shots within their window excepted."""
    if isinstance(schedule.trigger, At) and case.started_at > EPOCH:
        return case.started_at - schedule.catch_up.window
    return case.started_at


def _with_extras(
    case: Case, expectations: Iterable[Expected], since: datetime, until: datetime
) -> Iterator[Expected | OnRecord]:
    """Also the records that nobody expects, in order."""
    records = (each for each in case.records if since <= each.nominal_at < until)
    record = next(records, None)
    for each in expectations:
        while record is not None and record.nominal_at < each.nominal_at:
            yield record
            record = next(records, None)
        if record is not None and record.nominal_at == each.nominal_at:
            record = next(records, None)
        yield each
    while record is not None:
        yield record
        record = next(records, None)


# --- what became of it


class _Counted(Struct):
    """A range, how many nominal times it has yet to explain, and up to when it can."""

    told: VerdictRange
    left: int
    until: datetime


class _Judge:
    """Judges in ascending order: what a range has explained already counts."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._records: Mapping[datetime, OnRecord] = {each.nominal_at: each for each in case.records}
        self._ranges = deque(sorted(case.ranges, key=lambda each: each.first))
        self._ends = {each.generation: following.at for each, following in pairwise(case.changes)}
        self._open: list[_Counted] = []
        self._last_fired = max((at for at, each in self._records.items() if each.verdict == FIRED), default=None)

    def of(self, each: Expected | OnRecord) -> Judged | None:
        """None: not expected, or not yet. Raises InvalidArgument for what nobody can know any more."""
        nominal = each.nominal_at
        if isinstance(each, OnRecord):
            in_force = self._in_force_at(nominal)
            return Judged(nominal, nominal, each.verdict, each.reason, each.execution_id, in_force)
        in_force = self._case.changes[each.number].in_force
        assert in_force is not None
        fire_at = fire_time(in_force.definition.schedule, in_force.trigger, nominal)
        record = self._records.get(nominal)
        if record is not None:
            return Judged(nominal, fire_at, record.verdict, record.reason, record.execution_id, in_force)
        if fire_at > self._case.now or self._is_over(in_force, nominal):
            return None
        if nominal < self._case.known_from:
            raise _forgotten(self._case.known_from)
        verdict, reason = self._explained(each, in_force, fire_at)
        return Judged(nominal, fire_at, verdict, reason, None, in_force)

    def _in_force_at(self, nominal: datetime) -> InForce | None:
        return next((each.in_force for each in reversed(self._case.changes) if each.at < nominal), None)

    def _is_over(self, in_force: InForce, nominal: datetime) -> bool:
        """Whether all fires that the schedule may have had come before."""
        most, row = in_force.definition.schedule.max_fires, self._case.on_its_way.row
        if most is None or row.fires < most:
            return False
        last = max((at for at in (self._last_fired, row.previous_at) if at is not None), default=EPOCH)
        return nominal > last

    def _explained(self, each: Expected, in_force: InForce, fire_at: datetime) -> tuple[str, str | None]:
        if in_force.definition.schedule.is_paused_at(each.nominal_at):
            return PAUSED, "paused"
        return (
            self._by_range(each.nominal_at, in_force.definition.generation)
            or self._by_edit(each, fire_at)
            or self._on_its_way(each)
            or (UNEXPLAINED, None)
        )

    def _by_range(self, nominal: datetime, generation: int) -> tuple[str, str | None] | None:
        while self._ranges and self._ranges[0].first <= nominal:
            insort(self._open, self._counted(self._ranges.popleft()), key=lambda each: each.until)
        self._open = [each for each in self._open if nominal <= each.until and each.left > 0]
        for each in self._open:
            is_later = each.told.generation >= generation or not each.told.generation
            if is_later and self._is_about(each.told, nominal):
                each.left -= 1
                return each.told.verdict, each.told.reason
        return None

    def _counted(self, told: VerdictRange) -> _Counted:
        """It says nothing of definitions after its own, so it can explain nothing behind the end of that."""
        left = told.count if told.is_counted else NOMINALS_MAX
        return _Counted(told, left, min(told.last, self._ends.get(told.generation, told.last)))

    def _is_about(self, told: VerdictRange, nominal: datetime) -> bool:
        """What a catch-up counts is what its definition yields: it has no verdict for those of the one before."""
        if told.verdict in (SUPERSEDED, PAUSED):
            return True
        decided_by = [each.in_force for each in self._case.changes if each.generation == told.generation]
        return not decided_by or any(each is not None and each.trigger.yields(nominal) for each in decided_by)

    def _by_edit(self, each: Expected, fire_at: datetime) -> tuple[str, str | None] | None:
        """Never armed, because an edit came before the leader did; or taken back before its fire time."""
        change, following = self._case.changes[each.number], self._case.changes[each.number + 1 :]
        if following and each.nominal_at > self._planned(change, following[0]):
            return _taken_back(following[0], each.nominal_at)
        for change in following:
            if change.at >= fire_at:
                break
            if not change.wants(each.nominal_at):
                return _taken_back(change, each.nominal_at)
        return None

    def _planned(self, change: Change, following: Change) -> datetime:
        """How far a change was planned: to where the next one says, or, not applied yet, to where planning stands. One
        that was told by a leader who died over it was not planned at all."""
        way = self._case.on_its_way
        if following.passed_over(change):
            return EPOCH
        if following.generation > way.applied:
            return way.planned_until if change.generation <= way.applied else EPOCH
        return following.planned_until or LAST

    def _on_its_way(self, each: Expected) -> tuple[str, str | None] | None:
        way, nominal = self._case.on_its_way, each.nominal_at
        if nominal in way.armed:
            return PENDING, "armed"
        if nominal in way.due:
            return PENDING, "due"
        if nominal > way.planned_until:
            return PENDING, "not_planned"
        late_from, decided = way.row.late_from, way.row.decided
        if late_from is not None and nominal >= late_from and (decided is None or nominal > decided):
            return PENDING, "catch_up"
        return None


def _taken_back(change: Change, nominal: datetime) -> tuple[str, str | None]:
    return (PAUSED, "paused") if change.pauses(nominal) else (SUPERSEDED, change.reason)


def _forgotten(known_from: datetime) -> InvalidArgument:
    at = known_from.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return InvalidArgument(f"since is before what is on record, which begins at {at}: ask from then on", field="since")
