"""What a run comes to: figures of the whole, of windows of time, and which guarantees are broken. Pure.

Everything follows from what was owed, from the evidence of the workers, from kills that we did ourselves and from terms
that replicas have logged; records and audits are schedd's own word, and have to agree.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from msgspec import Struct, field

from tests.acceptance.evidence import BY_ID, Delivery, Expected, Findings, check

WINDOWS_MAX = 120
NEVER_FEWER = 0.5
"""Of the kills that were planned, at least that share has to have happened."""


class Plan(Struct, frozen=True, kw_only=True):
    """What was asked for. `kill_every_s` 0: undisturbed."""

    nodes: int
    rate: int
    length_s: float
    kill_every_s: float
    seed: int
    lease_s: float = 3.0
    horizon_s: float = 15.0
    late_max_s: float = 10.0

    @property
    def undisturbed(self) -> bool:
        return not self.kill_every_s


class Kill(Struct, frozen=True):
    """A kill -9 of the replica that led."""

    at: datetime
    replica: str


class Term(Struct, frozen=True):
    """One time in office, by the log of the replica that took it."""

    epoch: int
    replica: str
    began: datetime
    ended: datetime


class Audit(Struct, frozen=True):
    """What `schedule.audit` said of one schedule, and what it owed."""

    schedule: str
    owed: int
    expected: int
    verdicts: Mapping[str, int]
    unexplained: int

    @property
    def is_whole(self) -> bool:
        """100 %: everything that was owed is known, fired, and nothing else is."""
        return not self.unexplained and self.expected == self.owed == self.verdicts.get("fired", 0)


class Lateness(Struct, frozen=True):
    """Seconds from the fire time until a worker had it; 0 everywhere where nothing was delivered."""

    p50_s: float = 0.0
    p99_s: float = 0.0
    max_s: float = 0.0


class Window(Struct, frozen=True):
    """What was due in [began, ended), and how many faults are among it."""

    began: datetime
    ended: datetime
    owed: int
    faults: int
    lateness: Lateness


class Figures(Struct, frozen=True, kw_only=True):
    """All of a run. `broken`: the guarantees that do not hold, and what makes the run worth nothing."""

    plan: Plan
    began: datetime
    ended: datetime
    findings: Findings
    lateness: Lateness
    windows: Sequence[Window]
    kills: Sequence[Kill]
    terms: Sequence[Term]
    audits: int
    audited: int
    torn_audits: Sequence[str]
    broken: Sequence[str]
    gave_up: Sequence[str] = field(default_factory=list)

    @property
    def take_overs(self) -> int:
        return max(0, len({term.epoch for term in self.terms}) - 1)


class History(Struct, frozen=True, kw_only=True):
    """What was seen of a run from outside, and what schedd says of it."""

    began: datetime
    ended: datetime
    expected: Expected
    deliveries: Sequence[Delivery]
    records: Mapping[str, Mapping[str, object]]
    audits: Sequence[Audit]
    kills: Sequence[Kill] = ()
    terms: Sequence[Term] = ()
    gave_up: Sequence[str] = field(default_factory=list)
    """Replicas that ended by themselves, with their exit codes."""


def figures_of(plan: Plan, history: History) -> Figures:
    """Judge a run."""
    findings = check(history.expected, history.deliveries, history.records, late_max_s=plan.late_max_s)
    late = lateness_of(history.expected, history.deliveries)
    torn = [f"{each.schedule}: {_told(each)}" for each in history.audits if not each.is_whole]
    return Figures(
        plan=plan,
        began=history.began,
        ended=history.ended,
        findings=findings,
        lateness=percentiles(late.values()),
        windows=windows_of(history, findings, late),
        kills=history.kills,
        terms=history.terms,
        gave_up=history.gave_up,
        audits=len(history.audits),
        audited=sum(each.expected for each in history.audits),
        torn_audits=torn,
        broken=[*_broken_guarantees(findings, history, torn), *_worthless(plan, history)],
    )


def lateness_of(expected: Expected, deliveries: Iterable[Delivery]) -> dict[str, float]:
    """Seconds from fire time to first delivery, by id, of what was owed and came."""
    first: dict[str, datetime] = {}
    for each in deliveries:
        if each.id in expected.must and (each.id not in first or each.at < first[each.id]):
            first[each.id] = each.at
    return {id_: (at - expected.must[id_]).total_seconds() for id_, at in first.items()}


def percentiles(seconds: Iterable[float]) -> Lateness:
    """By nearest rank: a figure that really occurred."""
    found = sorted(seconds)
    if not found:
        return Lateness()
    return Lateness(_ranked(found, 0.50), _ranked(found, 0.99), found[-1])


def _ranked(found: Sequence[float], share: float) -> float:
    return found[max(0, math.ceil(share * len(found)) - 1)]


def windows_of(history: History, findings: Findings, late: Mapping[str, float]) -> list[Window]:
    """Equal windows over the run, whole seconds each, at most `WINDOWS_MAX`."""
    length = history.ended - history.began
    step = timedelta(seconds=max(1, math.ceil(length.total_seconds() / WINDOWS_MAX)))
    count = max(1, math.ceil(length / step))

    def place(at: datetime) -> int:
        return min(count - 1, max(0, (at - history.began) // step))

    owed: dict[int, int] = defaultdict(int)
    seconds: dict[int, list[float]] = defaultdict(list)
    faults: dict[int, int] = defaultdict(int)
    for id_, at in history.expected.must.items():
        owed[place(at)] += 1
        if id_ in late:
            seconds[place(at)].append(late[id_])
    for at in fault_instants(history, findings):
        faults[place(at)] += 1
    return [
        Window(history.began + n * step, history.began + (n + 1) * step, owed[n], faults[n], percentiles(seconds[n]))
        for n in range(count)
    ]


def fault_instants(history: History, findings: Findings) -> list[datetime]:
    """When what is at fault was due; a phantom counts where it was delivered, or, only recorded, at the end.

    What is lost leaves an instant unmatched, but maybe another one of its schedule, since the next delivery steps in:
    what only the intervals tell is shown where no id tells more.
    """
    seen = {each.id: each.at for each in reversed(history.deliveries)}
    found: dict[str, datetime] = {}
    known = history.expected.known
    for kind, texts in findings.faults.items():
        for id_ in (text.partition(" ")[0] for text in texts if kind in BY_ID):
            found.setdefault(id_, known.get(id_) or seen.get(id_) or history.ended)
    told = {id_.rpartition(".")[0] for id_ in found}
    matches = (text.partition(" at ") for text in (*findings.unmatched, *findings.surplus))
    bare = [datetime.fromisoformat(at) for schedule, _, at in matches if schedule not in told]
    return [*found.values(), *bare]


def _told(audit: Audit) -> str:
    verdicts = ", ".join(f"{name} {count}" for name, count in sorted(audit.verdicts.items()))
    return f"{audit.owed} owed, {audit.expected} expected, {verdicts or 'no verdict'}, unexplained {audit.unexplained}"


def _broken_guarantees(findings: Findings, history: History, torn: Sequence[str]) -> list[str]:
    found = [f"{kind}: {len(texts)}" for kind, texts in findings.faults.items()]
    if torn:
        found.append(f"audit below 100 %: {len(torn)} of {len(history.audits)} schedules")
    epochs = [term.epoch for term in sorted(history.terms, key=lambda term: term.began)]
    if any(later <= earlier for earlier, later in pairwise(epochs)):
        found.append(f"epochs do not increase: {epochs}")
    return found


def _worthless(plan: Plan, history: History) -> list[str]:
    """What would make a clean result mean nothing."""
    found = []
    if not history.expected.must:
        found.append("the run proves nothing: nothing was owed")
    if not history.audits:
        found.append("the run proves nothing: nothing was audited")
    if plan.undisturbed:
        return found
    wanted = max(1, math.floor(plan.length_s / plan.kill_every_s * NEVER_FEWER))
    if len(history.kills) < wanted:
        found.append(f"the run proves nothing: {len(history.kills)} kills, at least {wanted} were wanted")
    epochs = len({term.epoch for term in history.terms})
    if epochs < len(history.kills):  # each victim held an epoch of its own
        found.append(
            f"the run proves nothing: {len(history.kills)} leaders killed, but only {epochs} epochs were taken"
        )
    return found
