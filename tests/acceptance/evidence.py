"""The checker: what had to happen against what workers saw and what is on record. Pure, and independent of schedd.

It computes execution ids by itself and compares ids, never counts. Evidence are the files that workers write before
they acknowledge, outside NATS and outside the daemon. What it finds:

    lost        had to be delivered and never was
    doubled     one id as two tasks, or one task delivered twice as if for the first time
    phantom     delivered or recorded though nothing asked for it
    early, late delivered before its nominal time, or later after it than allowed
    unrecorded  had to have a record and has none
    unsettled   recorded in another state than the one every execution had to reach
    redelivered the same task again, marked as such by the server: legal after an outage, reported all the same
    unmatched   nominal times without a delivery of their own in their window, whatever the ids say (a second opinion)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from msgspec import Struct, field

START = datetime(1970, 1, 1, tzinfo=UTC)
SHOWN = 8


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
    """Ids that had to be delivered (`must`, with their nominal times), and those that were allowed to be (`may`)."""

    must: Mapping[str, datetime]
    may: Mapping[str, datetime] = {}

    def __or__(self, other: Expected) -> Expected:
        must = {**self.must, **other.must}
        may = {**self.may, **other.may}
        return Expected(must, {id_: at for id_, at in may.items() if id_ not in must})


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
    unmatched: list[str] = field(default_factory=list)
    redelivered: list[str] = field(default_factory=list)
    worst_late_s: float = 0.0

    @property
    def faults(self) -> dict[str, list[str]]:
        kinds = ("lost", "doubled", "phantom", "early", "late", "unrecorded", "unsettled", "unmatched")
        return {kind: found for kind in kinds if (found := getattr(self, kind))}

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
    known = {**expected.may, **expected.must}
    first = {id_: min(each.at for each in found) for id_, found in seen.items()}
    lateness = {id_: (first[id_] - known[id_]).total_seconds() for id_ in first.keys() & known.keys()}
    stored = {} if records is None else records
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
        unmatched=_unmatched(expected.must, deliveries=seen, early_max_s=early_max_s, late_max_s=late_max_s),
        redelivered=sorted(id_ for id_, found in seen.items() if any(each.delivered > 1 for each in found)),
        worst_late_s=max(lateness.values(), default=0.0),
    )


def _is_doubled(found: list[Delivery]) -> bool:
    return len({each.seq for each in found}) > 1 or sum(each.delivered == 1 for each in found) > 1


def _unsettled(must: Iterable[str], records: Mapping[str, Mapping[str, object]], state: str) -> list[str]:
    wrong = ((id_, records[id_]) for id_ in must if id_ in records and records[id_].get("state") != state)
    return [f"{id_} {record.get('state')}/{record.get('reason')}" for id_, record in wrong]


def _unmatched(
    must: Mapping[str, datetime], *, deliveries: Mapping[str, list[Delivery]], early_max_s: float, late_max_s: float
) -> list[str]:
    """Per schedule, give each nominal time the earliest unused delivery in its window.

    All windows have one length, so going by nominal time is optimal: if anything can match them all, this does.
    """
    instants: dict[str, list[datetime]] = defaultdict(list)
    for id_, found in deliveries.items():
        instants[id_.rpartition(".")[0]].append(min(each.at for each in found))
    targets: dict[str, list[datetime]] = defaultdict(list)
    for id_, nominal_at in must.items():
        targets[id_.rpartition(".")[0]].append(nominal_at)
    missing: list[str] = []
    for schedule, nominals in targets.items():
        left = sorted(instants[schedule])
        for nominal_at in sorted(nominals):
            low, high = nominal_at - timedelta(seconds=early_max_s), nominal_at + timedelta(seconds=late_max_s)
            while left and left[0] < low:
                left.pop(0)
            if left and left[0] <= high:
                left.pop(0)
            else:
                missing.append(f"{schedule} at {nominal_at.isoformat()}")
    return missing
