"""What a history of operations owes, computed from what clients know, not from what schedd says. Pure.

Left alone or only edited, a schedule owes its grid. Turned on and off, it owes what lies clear of every operation:

    after an answer   what is due more than a second later is as it says (guarantee 5); up to then, either way
    before an "off"   what was due and not yet dispatched may be decided by the new definition: run, or with a verdict
    unknown           nothing can be said until the next operation that is answered

A trigger that was answered is one execution; one that was not is at most one, by its nonce.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from tests.acceptance.evidence import Delivery, Expected, grid, id_of, on_grid, schedule_of
from tests.faults.soak import load
from tests.faults.soak.history import Operation, Outcome, Soak, Window

SECOND = timedelta(seconds=1)
HOLDS_AFTER = SECOND
BACKLOG = timedelta(seconds=30)
"""Longer than any outage here: so old can be what is not dispatched yet."""


class Owed(Struct, frozen=True):
    """`punctual` has to be on time; `parked` waits for the worker that comes at the end."""

    punctual: Expected
    parked: Expected
    twice: tuple[str, ...] = ()
    """Nonces that came to more than one execution."""


def owed(history: Soak, deliveries: Iterable[Delivery]) -> Owed:
    """`deliveries` are only asked which of the executions that nobody told a client about came to be."""
    operations, window = history.operations, history.soak
    expected = Expected({})
    for id_, definition in load.standing(history.plan.rate, window).items():
        if id_ in load.moody():
            expected |= by_turns(id_, window, [each for each in operations if each.schedule == id_])
        elif "every" in definition:
            grown = on_grid(id_, SECOND, window.began, window.ended)
            expected |= Expected({}, {}, grown.must) if definition["overlap"] == "skip" else grown
    expected |= one_shots(operations)
    seen = {each.id for each in deliveries}
    triggers = [each for each in operations if each.kind == "schedule.trigger"]
    by_hand = triggered([each for each in triggers if each.schedule == "by-hand"], seen)
    parked = triggered([each for each in triggers if each.schedule == "parked"], seen)
    return Owed(expected | by_hand, without_cancelled(parked, operations), tuple(sorted(twice(triggers, seen))))


def by_turns(id_: str, window: Window, turns: Sequence[Operation]) -> Expected:
    """What one that fires every second owes, turned on and off; it is on when the window begins."""
    must, may, either = {}, {}, {}
    turns = sorted((each for each in turns if each.fires is not None), key=lambda each: each.sent)
    for at in grid(SECOND, window.began, window.ended):
        past = [each for each in turns if each.sent <= at]
        last = past[-1] if past else None
        id_at = id_of(id_, at)
        if last is not None and (last.outcome is not Outcome.DONE or at <= last.answered + HOLDS_AFTER):
            may[id_at] = at
        elif last is None or last.fires:
            ends_soon = any(not each.fires and at < each.sent <= at + BACKLOG for each in turns)
            (either if ends_soon else must)[id_at] = at
    return Expected(must, may, either)


def one_shots(operations: Iterable[Operation]) -> Expected:
    must, may = {}, {}
    for each in operations:
        if each.kind == "once" and each.due is not None:
            (must if each.outcome is Outcome.DONE else may)[id_of(each.schedule, each.due)] = each.due
    return Expected(must, may)


def triggered(triggers: Iterable[Operation], seen: Iterable[str]) -> Expected:
    """By nonce: an execution that a client was told of has to come; of the others, what came may."""
    told: dict[str, set[str]] = defaultdict(set)
    for each in triggers:
        told[f"{each.schedule}|{each.nonce}"] |= {each.execution} if each.execution else set()
    must = {id_: nominal_of(id_) for ids in told.values() for id_ in ids}
    unknown = {key for key, ids in told.items() if not ids}
    return Expected(must, {id_: nominal_of(id_) for id_ in seen if _nonce_key(id_) in unknown})


def without_cancelled(parked: Expected, operations: Iterable[Operation]) -> Expected:
    """What was cancelled for certain is not to come; what may have been cancelled may."""
    cancels = {each.execution: each.outcome for each in operations if each.kind == "execution.cancel"}
    must = {id_: at for id_, at in parked.must.items() if id_ not in cancels}
    open_ = {id_: at for id_, at in parked.must.items() if cancels.get(id_, Outcome.DONE) is not Outcome.DONE}
    return Expected(must, {**parked.may, **open_})


def twice(triggers: Iterable[Operation], seen: Iterable[str]) -> set[str]:
    """Nonces for which there is more than one execution, told or seen."""
    ids: dict[str, set[str]] = defaultdict(set)
    for id_ in {*seen, *(each.execution for each in triggers if each.execution)}:
        if key := _nonce_key(id_):
            ids[key].add(id_)
    return {key for key, found in ids.items() if len(found) > 1}


def _nonce_key(id_: str) -> str:
    """Schedule and nonce of a manual execution's id (contract, part 2); empty for the others."""
    _, found, nonce = id_.rpartition(".")[2].partition("-m")
    return f"{schedule_of(id_)}|{nonce}" if found else ""


def nominal_of(id_: str) -> datetime:
    """The nominal time in an execution id."""
    text = id_.rpartition(".")[2].partition("-")[0].removesuffix("Z")
    return datetime.strptime(text + "000", "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC)
