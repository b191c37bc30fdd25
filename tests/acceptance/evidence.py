"""The checker: what had to happen against what workers saw and what is on record. Pure, and independent of schedd.

It computes execution ids by itself and compares ids, never counts. Evidence are the files that workers write before
they acknowledge, outside NATS and outside the daemon. What it finds:

    lost        had to be delivered and never was
    doubled     one id as two tasks, or one task delivered twice as if for the first time
    phantom     delivered or recorded though nothing asked for it
    early, late delivered before its nominal time, or later after it than allowed
    unrecorded  had to have a record and has none
    unsettled   recorded in another state than the one every execution had to reach
    unexplained allowed to be skipped, not delivered, and without a verdict on record
    redelivered the same task again, marked as such by the server: legal after an outage, reported all the same

and, as a second opinion that believes no id, by intervals: each instant of a schedule opens a window, each task that
was started is one start.

    unmatched   instants without a start of their own in their window
    surplus     starts without an instant of their own
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from msgspec import Struct, field

START = datetime(1970, 1, 1, tzinfo=UTC)
SHOWN = 8
BY_ID = ("lost", "doubled", "phantom", "early", "late", "unrecorded", "unsettled", "unexplained")
BY_INTERVAL = ("unmatched", "surplus")
KINDS = (*BY_ID, *BY_INTERVAL)
SKIPPED = {"skipped", "missed", "paused", "superseded", "expired", "cancelled"}
"""States that say why something was not run."""


class Delivery(Struct, frozen=True, kw_only=True):
    """One message as a worker got it. `seq` is the task's sequence in its stream, `delivered` counts from 1."""

    id: str
    seq: int
    delivered: int
    at: datetime
    nominal_at: datetime
    headers: Mapping[str, str] = {}
    body: str = ""


class Expected(Struct, frozen=True):
    """Ids with their nominal times: those that had to be delivered (`must`), those that were allowed to be (`may`), and
    those that had to be either delivered or skipped with a verdict on record (`either`)."""

    must: Mapping[str, datetime]
    may: Mapping[str, datetime] = {}
    either: Mapping[str, datetime] = {}

    @property
    def known(self) -> dict[str, datetime]:
        """Everything that may have been delivered."""
        return {**self.may, **self.either, **self.must}

    def __or__(self, other: Expected) -> Expected:
        """Both at once: the stronger of what the two say about an id."""
        must = {**self.must, **other.must}
        either = {id_: at for id_, at in {**self.either, **other.either}.items() if id_ not in must}
        may = {**self.may, **other.may}
        return Expected(must, {id_: at for id_, at in may.items() if id_ not in must and id_ not in either}, either)


class Findings(Struct, frozen=True, kw_only=True):
    """What the checker found; `clean` when nothing of it is a fault."""

    expected: int = 0
    delivered: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    phantom: list[str] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    unrecorded: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)
    redelivered: list[str] = field(default_factory=list)
    worst_late_s: float = 0.0

    @property
    def faults(self) -> dict[str, list[str]]:
        return {kind: found for kind in KINDS if (found := getattr(self, kind))}

    @property
    def clean(self) -> bool:
        return not self.faults

    def __str__(self) -> str:
        told = [f"{kind} {len(found)}: {', '.join(found[:SHOWN])}" for kind, found in self.faults.items()]
        head = f"{self.expected} expected, {self.delivered} delivered, {len(self.redelivered)} redelivered"
        return "; ".join([f"{head}, worst {self.worst_late_s:.3f} s late", *told])


def id_of(schedule: str, nominal_at: datetime) -> str:
    """The execution id as the contract writes it (part 2); not the code under test."""
    at = nominal_at.astimezone(UTC)
    return f"{schedule}.{at:%Y%m%dT%H%M%S}{at.microsecond // 1000:03d}Z"


def grid(every: timedelta, after: datetime, until: datetime) -> list[datetime]:
    """The instants of the grid anchored at 1970 in (after, until]."""
    at = START + ((after - START) // every + 1) * every
    found = []
    while at <= until:
        found.append(at)
        at += every
    return found


def on_grid(
    schedule: str, every: timedelta, after: datetime, until: datetime, *, may_until: datetime | None = None
) -> Expected:
    """What `every` owes in (after, until]; what lies in (until, may_until] is allowed."""
    must = {id_of(schedule, at): at for at in grid(every, after, until)}
    may = {id_of(schedule, at): at for at in grid(every, until, max(until, may_until or until))}
    return Expected(must, may)


def check(
    expected: Expected,
    deliveries: Iterable[Delivery],
    records: Mapping[str, Mapping[str, object]] | None = None,
    *,
    late_max_s: float,
    early_max_s: float = 0.0,
    state: str = "succeeded",
) -> Findings:
    """Compare. `records` None: records are not looked at."""
    seen: dict[str, list[Delivery]] = defaultdict(list)
    for each in deliveries:
        seen[each.id].append(each)
    known = expected.known
    first = {id_: min(each.at for each in found) for id_, found in seen.items()}
    lateness = {id_: (first[id_] - known[id_]).total_seconds() for id_ in first.keys() & known.keys()}
    stored = {} if records is None else records
    starts = starts_of(found for each in seen.values() for found in each)
    return Findings(
        expected=len(expected.must),
        delivered=len(seen),
        lost=sorted(expected.must.keys() - seen.keys()),
        doubled=sorted(id_ for id_, found in seen.items() if _is_doubled(found)),
        phantom=sorted((seen.keys() | stored.keys()) - known.keys()),
        early=sorted(f"{id_} by {-by:.3f} s" for id_, by in lateness.items() if by < -early_max_s),
        late=sorted(f"{id_} by {by:.3f} s" for id_, by in lateness.items() if by > late_max_s),
        unrecorded=[] if records is None else sorted(expected.must.keys() - stored.keys()),
        unsettled=sorted(_unsettled(expected.must, stored, state)),
        unexplained=[] if records is None else sorted(_unexplained(expected.either.keys() - seen.keys(), stored)),
        unmatched=unmatched(expected.must, starts, early_max_s=early_max_s, late_max_s=late_max_s),
        surplus=surplus(known, starts, early_max_s=early_max_s, late_max_s=late_max_s),
        redelivered=sorted(id_ for id_, found in seen.items() if any(each.delivered > 1 for each in found)),
        worst_late_s=max(lateness.values(), default=0.0),
    )


def _is_doubled(found: list[Delivery]) -> bool:
    return len({each.seq for each in found}) > 1 or sum(each.delivered == 1 for each in found) > 1


def _unsettled(must: Iterable[str], records: Mapping[str, Mapping[str, object]], state: str) -> list[str]:
    wrong = ((id_, records[id_]) for id_ in must if id_ in records and records[id_].get("state") != state)
    return [f"{id_} {record.get('state')}/{record.get('reason')}" for id_, record in wrong]


def _unexplained(missing: Iterable[str], records: Mapping[str, Mapping[str, object]]) -> list[str]:
    return [id_ for id_ in missing if records.get(id_, {}).get("state") not in SKIPPED]


def starts_of(deliveries: Iterable[Delivery]) -> dict[str, list[datetime]]:
    """When each task was first had by a worker, by schedule, in order. Tasks are told apart by where they are stored:
    two of them are two starts, whatever ids they bear."""
    first: dict[tuple[str, int], datetime] = {}
    for each in deliveries:
        key = (schedule_of(each.id), each.seq)
        first[key] = min(each.at, first.get(key, each.at))
    starts: dict[str, list[datetime]] = defaultdict(list)
    for (schedule, _), at in first.items():
        starts[schedule].append(at)
    return {schedule: sorted(found) for schedule, found in starts.items()}


def schedule_of(id_: str) -> str:
    """The schedule in an execution id (contract, part 2)."""
    return id_.rpartition(".")[0]


def _instants_of(expected: Mapping[str, datetime]) -> dict[str, list[datetime]]:
    found: dict[str, list[datetime]] = defaultdict(list)
    for id_, at in expected.items():
        found[schedule_of(id_)].append(at)
    return {schedule: sorted(instants) for schedule, instants in found.items()}


def unmatched(
    must: Mapping[str, datetime], starts: Mapping[str, list[datetime]], *, early_max_s: float, late_max_s: float
) -> list[str]:
    """Per schedule, give each instant the earliest unused start in its window; the instants that get none.

    All windows have one length, so going by instant is optimal: if anything can match them all, this does.
    """
    early, late = timedelta(seconds=early_max_s), timedelta(seconds=late_max_s)
    missing: list[str] = []
    for schedule, instants in _instants_of(must).items():
        left = deque(starts.get(schedule, []))
        for instant in instants:
            while left and left[0] < instant - early:
                left.popleft()
            if left and left[0] <= instant + late:
                left.popleft()
            else:
                missing.append(f"{schedule} at {instant.isoformat()}")
    return missing


def surplus(
    known: Mapping[str, datetime], starts: Mapping[str, list[datetime]], *, early_max_s: float, late_max_s: float
) -> list[str]:
    """The other way round: per schedule, give each start the earliest unused instant whose window it is in; the starts
    that get none. With `unmatched` empty as well, one matching serves both sides (Mendelsohn and Dulmage, 1958)."""
    early, late = timedelta(seconds=early_max_s), timedelta(seconds=late_max_s)
    instants = _instants_of(known)
    over: list[str] = []
    for schedule, found in starts.items():
        left = deque(instants.get(schedule, []))
        for start in found:
            while left and left[0] + late < start:
                left.popleft()
            if left and left[0] - early <= start:
                left.popleft()
            else:
                over.append(f"{schedule} at {start.isoformat()}")
    return over
