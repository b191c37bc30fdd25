"""A clean history of twenty seconds by hand, and what may be wrong with it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from tests.acceptance.evidence import Delivery
from tests.faults.storm.figures import Audit, History, Kill, Plan, Term
from tests.faults.storm.load import Load, load_of

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
PLAN = Plan(nodes=1, rate=20, length_s=20, kill_every_s=5, seed=7)
LOAD: Load = load_of(PLAN.rate, NOON, PLAN.length_s)


def after(seconds: float) -> datetime:
    return LOAD.began + timedelta(seconds=seconds)


def deliveries(late_s: float = 0.010) -> list[Delivery]:
    """Everything that is owed, once, so much after its fire time."""
    owed = sorted(LOAD.owed().must.items(), key=lambda item: item[1])
    return [
        Delivery(id=id_, seq=seq, delivered=1, at=at + timedelta(seconds=late_s), nominal_at=at)
        for seq, (id_, at) in enumerate(owed, start=1)
    ]


def clean() -> History:
    """Three kills, four epochs, nothing wrong."""
    owed = {id_: len(LOAD.owed_by(id_)) for id_ in LOAD.definitions}
    names = ("a", "b", "c", "a")
    return History(
        began=LOAD.began,
        ended=LOAD.ended,
        expected=LOAD.owed(),
        deliveries=deliveries(),
        records={id_: {"state": "succeeded"} for id_ in LOAD.owed().must},
        audits=[Audit(id_, count, count, {"fired": count}, 0) for id_, count in owed.items()],
        kills=[Kill(after(5 * number), name) for number, name in enumerate(names[:3], start=1)],
        terms=[
            Term(10 * number, name, after(5 * number - 4), after(5 * number))
            for number, name in enumerate(names, start=1)
        ],
    )


def without(history: History, place: int) -> History:
    """One delivery nobody got."""
    kept = list(history.deliveries)
    del kept[place]
    return replace(history, deliveries=kept)


def moved(history: History, place: int, by_s: float) -> History:
    """One delivery at another time."""
    changed = list(history.deliveries)
    changed[place] = replace(changed[place], at=changed[place].at + timedelta(seconds=by_s))
    return replace(history, deliveries=changed)


def added(history: History, **changes: object) -> History:
    """One delivery more: the hundredth again, with changes."""
    return replace(history, deliveries=[*history.deliveries, replace(history.deliveries[100], **changes)])
