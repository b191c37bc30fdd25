"""The verdict on a soak: what was owed against what workers wrote down, audits, faults that happened, levels. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from msgspec import Struct
from msgspec.structs import replace

from tests.acceptance import harness
from tests.acceptance.evidence import SKIPPED, Delivery, Findings, check, schedule_of
from tests.faults.soak import load
from tests.faults.soak.history import Operation, Outcome, Plan, Soak, Strike
from tests.faults.soak.levels import Level, levels_of, unseen
from tests.faults.soak.owed import Owed, nominal_of, owed
from tests.faults.storm.figures import History, Lateness, Term, Window, lateness_of, percentiles, windows_of

NATS_FAULTS = {"kill_nats", "restart_nats", "kill_most_of_nats"}
SURE_AFTER_S = 300.0
"""In so long every fault has its turn, and something was redelivered."""
FOREVER_S = 1e9
KINDS_OF_FAULTS = 12
EXECUTIONS = f"KV_{harness.EXECUTIONS}"
ORPHAN = {"state": "superseded", "reason": "deleted"}
RECORD_BYTES = 1024.0
ALWAYS = {"schedd.epoch", "schedd.watermark"}
"""Subjects of the timeline that hold one message each, for ever."""
CLIENT_KINDS = (
    "edit", "once", "schedule.pause", "schedule.resume", "schedule.delete", "schedule.put", "schedule.trigger",
    "execution.cancel",
)  # fmt: skip


class Verdict(Struct, frozen=True, kw_only=True):
    """All of it. `broken`: guarantees that do not hold, levels that are not back, and what makes it worth nothing."""

    plan: Plan
    began: datetime
    ended: datetime
    findings: Findings
    parked: Findings
    lateness: Lateness
    windows: Sequence[Window]
    strikes: Sequence[Strike]
    terms: Sequence[Term]
    operations: Mapping[str, Mapping[str, int]]
    """By kind, how many were done, refused, unknown."""
    audits: int
    audited: int
    verdicts: Mapping[str, int]
    torn_audits: Sequence[str]
    levels: Sequence[Level]
    broken: Sequence[str]

    @property
    def take_overs(self) -> int:
        return max(0, len({term.epoch for term in self.terms}) - 1)

    @property
    def quiet_share(self) -> float:
        """Of the time of the nemesis, what no fault was in."""
        struck_s = sum((each.ended - each.began).total_seconds() for each in self.strikes if each.name != "quiet")
        return 1 - struck_s / max(1.0, (self.ended - self.began).total_seconds())


def judge(history: Soak, deliveries: Sequence[Delivery]) -> Verdict:
    """The verdict on a whole run."""
    window, plan = history.soak, history.plan
    mine = excused([each for each in deliveries if nominal_of(each.id) > window.began], history.strikes)
    due = owed(history, mine)
    findings = check(due.punctual, _of(mine, due, parked=False), _records(history, due), late_max_s=plan.late_max_s)
    findings = replace(findings, unexplained=[each for each in findings.unexplained if not _explained(history, each)])
    parked = check(due.parked, _of(mine, due, parked=True), late_max_s=FOREVER_S)
    late = lateness_of(due.punctual, mine)
    seen = History(
        began=window.began, ended=window.ended, expected=due.punctual, deliveries=mine, records={}, audits=[]
    )  # fmt: skip
    kept, left = left_behind(history)
    levels = levels_of(history.samples, history.rests, {f"bytes.{EXECUTIONS}": RECORD_BYTES * len(kept)})
    torn = [f"{each.schedule}: {_told(each)}" for each in history.audits if each.unexplained or each.problem]
    verdicts: Counter[str] = Counter()
    for each in history.audits:
        verdicts.update(each.verdicts)
    return Verdict(
        plan=plan,
        began=window.began,
        ended=window.ended,
        findings=findings,
        parked=parked,
        lateness=percentiles(late.values()),
        windows=windows_of(seen, findings, late),
        strikes=history.strikes,
        terms=history.terms,
        operations=_counted(history.operations),
        audits=len(history.audits),
        audited=sum(each.expected for each in history.audits),
        verdicts=dict(verdicts),
        torn_audits=torn,
        levels=levels,
        broken=[
            *(f"{kind}: {len(texts)}" for kind, texts in findings.faults.items()),
            *(f"parked, {kind}: {len(texts)}" for kind, texts in parked.faults.items()),
            *(f"nonce {each} came to two executions" for each in due.twice),
            *([f"audits with something unexplained: {len(torn)}"] if torn else []),
            *_epochs(history.terms),
            *(f"{each.who} {each.name}: {each.base:.1f} before, {each.end:.1f} after" for each in _lasting(levels)),
            *(f"left in {stream}: {len(names)}, {names[0]} for one" for stream, names in left.items() if names),
            *_worthless(history, findings),
        ],
    )


def left_behind(history: Soak) -> tuple[list[str], dict[str, list[str]]]:
    """Records that are kept for good reason, and what else is left that should be gone, by stream.

    What came due for a schedule that was deleted meanwhile is superseded, and kept for the default of seven days: how
    long its schedule would have kept it, nobody knows any more.
    """
    kept: list[str] = []
    left: dict[str, list[str]] = {}
    always = ALWAYS | {f"$KV.schedd-schedules.{id_}" for id_ in load.standing(history.plan.rate, history.soak)}
    for stream, subjects in history.leftovers.items():
        names = [each.removeprefix(f"$KV.{harness.EXECUTIONS}.") for each in subjects if each not in always]
        orphans = [each for each in names if history.records.get(each, {}) == ORPHAN]
        kept += orphans
        left[stream] = [each for each in names if each not in orphans]
    return kept, left


def excused(deliveries: Sequence[Delivery], strikes: Sequence[Strike]) -> list[Delivery]:
    """A NATS that was killed may have forgotten that it had delivered a task, and delivers the same one again as if for
    the first time: for a plain worker that is a redelivery like any other (at least once)."""
    kills = [(each.began, each.ended) for each in strikes if each.name in NATS_FAULTS]
    first: dict[tuple[str, int], datetime] = {}
    found = []
    for each in sorted(deliveries, key=lambda each: each.at):
        before = first.setdefault((each.id, each.seq), each.at)
        again = each.delivered == 1 and before < each.at
        forgot = again and any(began - timedelta(seconds=5) <= each.at and before <= ended for began, ended in kills)
        found.append(replace(each, delivered=2) if forgot else each)
    return found


def _of(deliveries: Sequence[Delivery], due: Owed, *, parked: bool) -> list[Delivery]:
    return [each for each in deliveries if each.id.startswith("parked.") == parked]


def _explained(history: Soak, id_: str) -> bool:
    """A pause, and what an edit takes away, is told as a range, not as a record of each instant: then the audit of that
    time has to add up."""
    at = nominal_of(id_)
    return any(
        each.since <= at < each.until
        and not each.unexplained
        and not each.problem
        and (each.verdicts.get("paused") or each.verdicts.get("superseded"))
        for each in history.audits
        if each.schedule == schedule_of(id_)
    )


def _records(history: Soak, due: Owed) -> dict[str, dict[str, object]]:
    """Those of the run. A verdict that something did not run is no phantom, whoever asked for it."""
    known = due.punctual.known
    return {
        id_: record
        for id_, record in history.records.items()
        if id_ in known
        or (nominal_of(id_) > history.soak.began and record["state"] not in SKIPPED and not id_.startswith("parked."))
    }


def _counted(operations: Sequence[Operation]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for each in operations:
        counts = found.setdefault(each.kind, dict.fromkeys(map(str, Outcome), 0))
        counts[str(each.outcome)] += 1
    return found


def _lasting(levels: Sequence[Level]) -> list[Level]:
    return [each for each in levels if not each.is_back]


def _epochs(terms: Sequence[Term]) -> list[str]:
    epochs = [term.epoch for term in sorted(terms, key=lambda term: term.began)]
    grows = all(earlier < later for earlier, later in pairwise(epochs))
    return [] if grows else [f"epochs do not increase: {epochs}"]


def _told(audit: object) -> str:
    return str(audit)


def _worthless(history: Soak, findings: Findings) -> list[str]:
    """What would make a clean result mean nothing."""
    found = [] if findings.expected else ["nothing was owed"]
    found += [] if history.audits else ["nothing was audited"]
    found += [f"{who} has no samples in a rest" for who in unseen(history.samples, history.rests)]
    found += [f"the survivor ended with {each}" for each in history.survivor_exits]
    done = Counter(each.kind for each in history.operations if each.outcome is Outcome.DONE)
    if history.plan.length_s >= SURE_AFTER_S:
        found += [f"no {kind} was ever done" for kind in CLIENT_KINDS if not done[kind]]
        found += [] if history.plan.calm else _undisturbed(history, findings)
    return [f"the run proves nothing: {each}" for each in found]


def _undisturbed(history: Soak, findings: Findings) -> list[str]:
    planned = {each.name for each in history.strikes}
    happened = {each.name for each in history.strikes if each.happened}
    found = [f"{name} never happened" for name in sorted(planned - happened)]
    found += [] if len(planned) >= KINDS_OF_FAULTS else [f"only {len(planned)} kinds of faults had their turn"]
    found += [] if findings.redelivered else ["nothing was ever redelivered"]
    return found
