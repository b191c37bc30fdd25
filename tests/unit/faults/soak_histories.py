"""A clean soak of a minute by hand, and what may be wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.acceptance.evidence import Delivery, id_of
from tests.faults.soak.history import Audited, Operation, Outcome, Plan, Rest, Sample, Soak, Strike, Window
from tests.faults.soak.owed import owed
from tests.faults.storm.figures import Term

BEGAN = datetime(2026, 11, 21, 12, 0, 0, 900_000, tzinfo=UTC)
WINDOW = Window(BEGAN, BEGAN + timedelta(seconds=60))
PLAN = Plan(nodes=1, rate=20, length_s=60, seed=7, late_max_s=10)
LEVELS = {"rss_mb": 50.0, "files": 8.0}
SERVER = {
    "rss_mb": 60.0,
    "files": 20.0,
    "consumers": 19.0,
    "connections": 7.0,
    "subscriptions": 300.0,
    "bytes.KV_schedd-executions": 1000.0,
}


def at(seconds: float) -> datetime:
    """So long after the last full second before the soak began: its first instant is at(1)."""
    return BEGAN.replace(microsecond=0) + timedelta(seconds=seconds)


def operation(kind: str, schedule: str, sent_s: float, **told: Any) -> Operation:
    """Answered after 0.2 s, and done, if nothing else is told."""
    return Operation(
        **{
            "kind": kind, "schedule": schedule, "sent": at(sent_s), "answered": at(sent_s + 0.2),
            "outcome": Outcome.DONE, **told,
        }
    )  # fmt: skip


def trigger(schedule: str, nonce: str, sent_s: float, **told: Any) -> Operation:
    execution = id_of(schedule, at(sent_s + 0.1)) + f"-m{nonce}"
    told = {"execution": execution, "nonce": nonce, **told}
    return operation("schedule.trigger", schedule, sent_s, **told)


def operations() -> list[Operation]:
    """One of each kind."""
    return [
        operation("edit", "edited-0", 5),
        operation("schedule.pause", "moody-0", 20.5, fires=False),
        operation("schedule.resume", "moody-0", 25.5, fires=True),
        operation("once", "once-00001", 10, due=at(14)),
        trigger("by-hand", "n1", 12),
        trigger("parked", "p1", 13),
        trigger("parked", "p2", 14),
        operation("execution.cancel", "parked", 15, execution=id_of("parked", at(13.1)) + "-mp1"),
    ]


def samples() -> list[Sample]:
    """Every five seconds, of one replica and one server, the same all the time."""
    found = []
    for step in range(-60, 181, 5):
        found += [Sample(at(step), "far", 1, LEVELS), Sample(at(step), "n1", 2, SERVER)]
    return found


def history(**changes: Any) -> Soak:
    """Clean, with these changes."""
    told: dict[str, Any] = {
        "plan": PLAN, "warm": Window(at(-200), at(-100)), "soak": WINDOW,
        "rests": [Rest(at(-40), at(-10)), Rest(at(150), at(180))],
        "operations": operations(), "samples": samples(),
        "strikes": [Strike("kill_nats", at(30), at(32), happened=True), Strike("quiet", at(40), at(44), happened=True)],
        "audits": [Audited("tick-000", at(1), at(20), 20, {"fired": 20}, 0)],
        "terms": [Term(1, "a", at(-100), at(31)), Term(5, "far", at(33), at(180))],
    }  # fmt: skip
    clean = Soak(**{**told, **changes})
    records = {each.id: {"state": "succeeded"} for each in deliveries(clean)}
    clean.records = changes.get("records", records)
    return clean


def deliveries(of: Soak | None = None) -> list[Delivery]:
    """Everything that is owed or may come, once, 10 ms late; what was parked comes at the end."""
    due = owed(history() if of is None else of, [])
    instants = sorted(due.punctual.known.items(), key=lambda item: (item[1], item[0]))
    coming = [(id_, nominal, nominal + timedelta(milliseconds=10)) for id_, nominal in instants]
    coming += [(id_, nominal, at(110)) for id_, nominal in due.parked.must.items()]
    return [
        Delivery(id=id_, seq=seq, delivered=1, at=came, nominal_at=nominal)
        for seq, (id_, nominal, came) in enumerate(coming, start=1)
    ]


def without(found: Iterable[Delivery], id_: str) -> list[Delivery]:
    return [each for each in found if each.id != id_]
