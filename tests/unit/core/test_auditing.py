"""The audit's judgement: histories written by hand, each nominal time with the verdict that it must get."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core import auditing
from scheduler.core.auditing import (
    Case,
    Change,
    Judged,
    OnItsWay,
    OnRecord,
    Tally,
    VerdictRange,
    judged,
)
from scheduler.core.dispatching import InForce
from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import Definition
from scheduler.core.model.status import StatusRow
from scheduler.core.triggers import EPOCH, compile_trigger
from scheduler.wire.schedule import parse_document

EIGHT = datetime(2026, 11, 21, 8, tzinfo=UTC)
MINUTES = {"every": "1m"}
HOLE = ("unexplained", None)


def at(minute: float) -> datetime:
    """So many minutes after eight."""
    return EIGHT + timedelta(minutes=minute)


def put(generation: int, minute: float, planned: float | None = 60, **definition: Any) -> Change:
    """A valid definition, in force from that minute on; the one before it was planned up to minute `planned`."""
    schedule = parse_document("s", {"queue": "Q", "type": "t", **definition})
    known = Definition(schedule=schedule, generation=generation, effective_at=at(minute))
    in_force = InForce(known, compile_trigger(schedule))
    return Change(generation=generation, at=at(minute), in_force=in_force, planned_until=_optional(planned))


def gone(generation: int, minute: float, reason: str = "deleted", planned: float | None = 60) -> Change:
    return Change(generation=generation, at=at(minute), in_force=None, reason=reason, planned_until=_optional(planned))


def _optional(minute: float | None) -> datetime | None:
    return None if minute is None else at(minute)


def record(minute: float, verdict: str = "fired", reason: str | None = None) -> OnRecord:
    return OnRecord(at(minute), f"s.{minute}", verdict, reason)


def told(first: float, last: float, count: int, verdict: str = "missed", reason: str = "catch_up", gen: int = 9) -> Any:
    return VerdictRange(first=at(first), last=at(last), count=count, verdict=verdict, reason=reason, generation=gen)


def case(*changes: Change, fired: Any = (), records: Any = (), now: float = 60, **more: Any) -> Case:
    found = sorted([*records, *(record(minute) for minute in fired)], key=lambda each: each.nominal_at)
    return Case(changes=changes, records=tuple(found), now=at(now), **more)


def verdicts(of: Case, since: float = 0, until: float = 60) -> dict[float, tuple[str, str | None]]:
    """By minute."""
    found = list(judged(of, at(since), at(until)))
    assert [each.nominal_at for each in found] == sorted({each.nominal_at for each in found})
    return {(each.nominal_at - EIGHT) / timedelta(minutes=1): (each.verdict, each.reason) for each in found}


def test_all_fired() -> None:
    """Each nominal time of the window, its beginning included and its end not, with its record."""
    found = list(judged(case(put(1, -60, **MINUTES), fired=range(10)), at(0), at(3)))
    assert [(each.nominal_at, each.execution_id, each.verdict) for each in found] == [
        (at(minute), f"s.{minute}", "fired") for minute in range(3)
    ]


def test_a_hole_is_found() -> None:
    """What has no record and no reason is unexplained, whatever lies around it."""
    of = case(put(1, -60, **MINUTES), fired=[0, 1, 3], ranges=(told(4, 5, 2),))
    assert verdicts(of, 0, 7) == {
        0: ("fired", None), 1: ("fired", None), 2: HOLE, 3: ("fired", None), 4: ("missed", "catch_up"),
        5: ("missed", "catch_up"), 6: HOLE,
    }  # fmt: skip


def test_nothing_before_it_was_put() -> None:
    """Neither before the definition took effect, nor at that instant, nor before schedd ever ran."""
    assert list(verdicts(case(put(1, 5, **MINUTES), fired=range(5, 8)), 0, 8)) == [5, 6, 7]  # a record is one
    assert list(verdicts(case(put(1, 5, **MINUTES)), 0, 8)) == [6, 7]
    assert list(verdicts(case(put(1, -60, **MINUTES), started_at=at(5.5)), 0, 8)) == [6, 7]


def test_an_edit_in_the_window() -> None:
    """Up to the edit the old definition, from then on the new one; at its instant the old one still."""
    of = case(put(1, -60, **MINUTES), put(2, 3, every="2m"), fired=[0, 1, 2, 3, 4, 6])
    assert list(verdicts(of, 0, 9).items()) == [
        *((minute, ("fired", None)) for minute in (0, 1, 2, 3, 4, 6)), (8, HOLE)
    ]  # fmt: skip


def test_an_occurrence_is_taken_back_before_its_fire_time() -> None:
    """With a delay, an edit between nominal and fire time decides: superseded, paused, or it fires all the same."""
    first = put(1, -60, every="1m", start_delay="5m")
    for change, wanted in (
        (put(2, 3.5, every="7m"), ("superseded", "edited")),
        (gone(2, 3.5), ("superseded", "deleted")),
        (gone(2, 3.5, "invalid"), ("superseded", "invalid")),
        (put(2, 3.5, **MINUTES, paused=True), ("paused", "paused")),
        (put(2, 3.5, **MINUTES), HOLE),
        (put(2, 3.5, after="1m"), ("superseded", "edited")),
    ):
        assert verdicts(case(first, change), 3, 4) == {3: wanted}, change
        assert verdicts(case(first, change, fired=[3]), 3, 4) == {3: ("fired", None)}
    assert verdicts(case(first, put(2, 9, every="7m")), 3, 4) == {3: HOLE}, "it was to fire before the edit"


def test_a_pause() -> None:
    """Nominal times in a pause are paused, while it runs too; the end of it counts, not when it was taken back."""
    paused = put(2, 1.5, **MINUTES, paused=True)
    assert verdicts(case(put(1, -60, **MINUTES), paused, fired=[0, 1]), 0, 4) == {
        0: ("fired", None), 1: ("fired", None), 2: ("paused", "paused"), 3: ("paused", "paused")
    }  # fmt: skip
    of = case(put(1, -60, **MINUTES), paused, put(3, 3.5, **MINUTES), fired=[0, 1])
    assert verdicts(of, 3, 5) == {3: ("paused", "paused"), 4: HOLE}
    until = put(1, -60, **MINUTES, paused=True, paused_until="2026-11-21T08:02:00Z")
    assert verdicts(case(until), 1, 3) == {1: ("paused", "paused"), 2: HOLE}


def test_deleted_and_created_anew() -> None:
    """Between the two nothing is expected."""
    of = case(put(1, -60, **MINUTES), gone(2, 2.5), put(3, 5.5, **MINUTES), fired=[0, 1, 2, 6])
    assert list(verdicts(of, 0, 7)) == [0, 1, 2, 6]


def test_invalid_then_repaired() -> None:
    """While nobody can read it nothing is expected of it; repairing it is not retroactive."""
    of = case(put(1, -60, **MINUTES), gone(2, 2.5, "invalid"), put(3, 4.5, **MINUTES), fired=[0, 1, 2, 5])
    assert list(verdicts(of, 0, 6)) == [0, 1, 2, 5]


def test_another_zone() -> None:
    """The walls change, not the instants that were: nine in UTC, then nine in Berlin, which was an hour before."""
    of = case(put(1, -600, cron="30 8 * * *"), put(2, 20, cron="30 9 * * *", timezone="Europe/Berlin"), fired=[30])
    assert verdicts(of, 0, 60) == {30: ("fired", None)}
    assert verdicts(case(of.changes[0], put(2, 40, cron="30 9 * * *", timezone="Europe/Berlin")), 0, 60) == {30: HOLE}


def test_one_shots() -> None:
    """A one-shot that was past when it was put is late and owed, within its window, unless it was dealt with before."""
    put_late = put(1, 10, at=["2026-11-21T08:05:00Z", "2026-11-21T08:20:00Z"])
    assert verdicts(case(put_late, fired=[20])) == {5: HOLE, 20: ("fired", None)}
    again = put(2, 12, at=["2026-11-21T08:05:00Z", "2026-11-21T08:07:00Z"])
    assert verdicts(case(put_late, again, fired=[5])) == {5: ("fired", None), 7: HOLE}
    too_late = put(1, 10, at="2026-11-21T08:05:00Z", catch_up={"window": "1m"})
    assert verdicts(case(too_late)) == {}
    anew = put(3, 12, at="2026-11-21T08:05:00Z")
    assert verdicts(case(put_late, gone(2, 11), anew)) == {5: HOLE}, "created anew, it is owed again"
    assert verdicts(case(put(1, -60, at="2026-11-21T08:05:00Z"), started_at=at(30))) == {5: HOLE}


def test_others_are_left_alone() -> None:
    """A record that nobody expects is listed and hides no hole; there are none of manual runs among them."""
    of = case(put(1, -60, **MINUTES), records=[record(0.5, "superseded", "edited"), record(1)])
    assert verdicts(of, 0, 2) == {0: HOLE, 0.5: ("superseded", "edited"), 1: ("fired", None)}


def test_no_verdict_before_the_fire_time() -> None:
    """What fires later than now is not expected yet, though its nominal time is past."""
    of = case(put(1, -60, every="1m", start_delay="5m"), now=8)
    assert list(verdicts(of, 0, 8)) == [0, 1, 2, 3]


def test_jitter_across_the_edge() -> None:
    """A window is one of nominal times: each belongs to exactly one of two that follow each other."""
    of = case(put(1, -60, every="10m", jitter="9m"), now=40)
    both = list(verdicts(of, 0, 20)) + list(verdicts(of, 20, 40))
    assert both == list(verdicts(of, 0, 40))
    fires = [each.fire_at for each in judged(of, at(0), at(40))]
    assert all(fire <= at(40) for fire in fires)
    assert any(fire > nominal for fire, nominal in zip(fires, map(at, both), strict=True))


def test_windows_end_expectations() -> None:
    """Nothing outside of starts_at and ends_at."""
    window = {"starts_at": "2026-11-21T08:02:00Z", "ends_at": "2026-11-21T08:04:00Z"}
    assert list(verdicts(case(put(1, -60, every="1m", **window)), 0, 9)) == [2, 3]


def test_an_outage() -> None:
    """Ranges explain what they count: records win inside them, and one more than counted is a hole."""
    first = put(1, -60, **MINUTES)
    of = case(first, fired=[0, 5], ranges=(told(1, 4, 4),))
    assert Counter(verdicts(of, 0, 6).values()) == {("fired", None): 2, ("missed", "catch_up"): 4}
    lost = case(first, fired=[0, 5], ranges=(told(1, 4, 3),))
    assert verdicts(lost, 0, 6)[4] == HOLE
    inside = case(first, fired=[0, 2, 5], ranges=(told(1, 4, 3),))
    assert verdicts(inside, 0, 6)[2] == ("fired", None)
    assert HOLE not in verdicts(inside, 0, 6).values()
    overlapping = case(first, ranges=(told(0, 3, 2), told(1, 4, 3, "superseded", "edited")))
    assert Counter(v for v, _ in verdicts(overlapping, 0, 5).values()) == {"missed": 2, "superseded": 3}
    older = case(first, put(5, 2.5, **MINUTES), ranges=(told(3, 4, 2, gen=4),))
    assert verdicts(older, 3, 5) == {3: HOLE, 4: HOLE}, "a range of an older definition says nothing of a newer one"


def test_a_range_explains_only_what_its_definition_has() -> None:
    """The catch-up of late one-shots has no verdict for what the schedule they replaced owed in between."""
    one_shots = put(5, 4.5, at=["2026-11-21T08:03:00Z", "2026-11-21T08:05:00Z"])
    of = case(put(1, -60, every="2m"), one_shots, ranges=(told(3, 5, 2, gen=5),))
    assert verdicts(of, 3, 6) == {3: ("missed", "catch_up"), 4: HOLE, 5: ("missed", "catch_up")}


def test_ranges_that_lie_in_each_other() -> None:
    """What one edit takes back may lie between what the next one does: together they explain all that they count,
    whichever was told first (upheavals, seed 348)."""
    taken_back = told(1, 7, 3, "superseded", "edited", gen=2)  # 1, 3, 7: what every second minute leaves out
    paused = told(0, 10, 6, "paused", "paused", gen=3)
    changes = put(1, -60, **MINUTES), put(2, 8.5, every="2m"), put(3, 15, **MINUTES, paused=True)
    for ranges in ((taken_back, paused), (paused, taken_back)):
        found = verdicts(case(*changes, fired=[5], ranges=ranges), 0, 12)
        assert [minute for minute, each in found.items() if each == HOLE] == []
        assert [*found] == [*range(9), 10]


def test_a_range_ends_with_its_definition() -> None:
    """Of two that hold the same the one goes first that says nothing of later definitions, though it reaches further;
    and that is all that they explain."""
    changes = put(1, -60, **MINUTES), put(2, 3.5, planned=None, **MINUTES)
    of = case(*changes, fired=[1, 3, 4], ranges=(told(0, 6, 1, gen=2), told(0, 9, 1, gen=1)))
    missed = ("missed", "catch_up")
    assert verdicts(of, 2, 7) == {
        2: missed, 3: ("fired", None), 4: ("fired", None), 5: missed, 6: HOLE
    }  # fmt: skip


def test_an_edit_during_an_outage() -> None:
    """What the leader had not planned when the edit came is superseded by it; what it had planned is a hole."""
    first = put(1, -60, **MINUTES)
    of = case(first, put(2, 6.5, every="30m", planned=3), fired=[0, 1, 2])
    assert verdicts(of, 0, 7) == {
        0: ("fired", None), 1: ("fired", None), 2: ("fired", None), 3: HOLE,
        4: ("superseded", "edited"), 5: ("superseded", "edited"), 6: ("superseded", "edited"),
    }  # fmt: skip
    way = OnItsWay(planned_until=at(3), applied=1)
    assert verdicts(case(first, put(2, 6.5, every="30m"), on_its_way=way), 2, 5) == {
        2: HOLE, 3: HOLE, 4: ("superseded", "edited")
    }  # fmt: skip


def test_a_leader_died_over_an_edit() -> None:
    """It had told of the edit and planned nothing of it: the next edit says so."""
    after = put(7, 5.5, every="30m")
    after = Change(generation=7, at=after.at, in_force=after.in_force, planned_until=at(60), applied_until=1)
    of = case(put(1, -60, every="30m"), put(5, 2.5, **MINUTES), after, fired=[0])
    assert verdicts(of, 0, 7) == {0: ("fired", None), **dict.fromkeys((3, 4, 5), ("superseded", "edited"))}


def test_a_one_shot_of_an_edit_that_nobody_applied() -> None:
    """It was not dealt with by having been there before: the next definition that has it owes it."""
    shot = {"at": "2026-11-21T08:03:00Z"}
    after = put(7, 5, **shot)
    for applied_until, number in ((1, 7), (5, 5)):
        of = case(
            put(1, -60, every="30m"),
            put(5, 2, **shot),
            Change(
                generation=7, at=after.at, in_force=after.in_force, planned_until=at(60), applied_until=applied_until
            ),
            fired=[0],
        )
        (found,) = judged(of, at(1), at(30))
        assert found.in_force is not None
        assert (found.in_force.definition.generation, found.verdict) == (number, "unexplained")


def test_on_its_way() -> None:
    """What is armed, due, not planned yet or left to catch-up has no verdict yet, and that is no hole."""
    row = StatusRow(late_from=at(3), decided=at(1))
    way = OnItsWay(armed=frozenset([at(1)]), due=frozenset([at(2)]), planned_until=at(4), row=row)
    of = case(put(1, -60, **MINUTES), on_its_way=way)
    assert verdicts(of, 0, 6) == {
        0: HOLE, 1: ("pending", "armed"), 2: ("pending", "due"), 3: ("pending", "catch_up"),
        4: ("pending", "catch_up"), 5: ("pending", "not_planned"),
    }  # fmt: skip


def test_a_chain_expects_what_is_on_record() -> None:
    """Its nominal times come from the ends of its runs; nobody can expect others."""
    of = case(put(1, -60, after="1m"), fired=[0.2, 1.7, 3.1])
    assert list(verdicts(of, 0, 9)) == pytest.approx([0.2, 1.7, 3.1])


def test_what_is_forgotten_is_refused() -> None:
    """Before what is kept on record nothing is called unexplained: the audit says from when on it knows."""
    of = case(put(1, -60, **MINUTES), fired=range(5, 10), known_from=at(5))
    assert set(verdicts(of, 5, 10).values()) == {("fired", None)}
    with pytest.raises(InvalidArgument, match=r"begins at 2026-11-21T08:05:00.000Z"):
        verdicts(of, 4, 10)
    assert list(verdicts(case(put(1, 7, **MINUTES), known_from=at(5)), 0, 10)) == [8, 9], "nothing was to happen then"


def test_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one answer can hold is an error that says what to do, not a part of them."""
    monkeypatch.setattr(auditing, "NOMINALS_MAX", 10)
    of = case(put(1, -60, **MINUTES), fired=range(20))
    assert len(verdicts(of, 0, 10)) == 10
    with pytest.raises(InvalidArgument, match="shorter"):
        verdicts(of, 0, 11)


minutes = st.integers(0, 30)
definitions = st.sampled_from(
    [
        MINUTES, {"every": "2m"}, {"every": "1m", "start_delay": "90s"}, {"cron": "*/3 * * * *"}, {"manual": True},
        {"every": "1m", "paused": True}, {"every": "1m", "jitter": "40s"}, {"after": "1m"},
        {"at": ["2026-11-21T08:03:00Z", "2026-11-21T08:11:00Z"]}, {"every": "1m", "ends_at": "2026-11-21T08:09:00Z"},
        None,
    ]
)  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> Case:
    instants = sorted(draw(st.sets(st.floats(-20, 30), min_size=1, max_size=5)))
    changes = []
    for number, minute in enumerate(instants, start=1):
        definition = draw(definitions)
        planned = draw(st.none() | minutes)
        changes.append(
            gone(number, minute, planned=planned) if definition is None else put(number, minute, planned, **definition)
        )
    kinds = st.sampled_from(["fired", "skipped", "superseded", "waiting", "lost"])
    records = [record(minute, draw(kinds)) for minute in draw(st.sets(minutes))]
    spans = draw(st.lists(st.tuples(minutes, minutes, st.integers(1, 20)), max_size=4))
    ranges = tuple(told(min(a, b), max(a, b), count) for a, b, count in spans)
    way = OnItsWay(
        armed=frozenset(map(at, draw(st.sets(minutes)))), due=frozenset(map(at, draw(st.sets(minutes)))),
        planned_until=at(draw(minutes)), applied=draw(st.integers(0, 6)),
    )  # fmt: skip
    return case(*changes, records=records, ranges=ranges, now=draw(minutes), on_its_way=way)


def tally_of(found: list[Judged]) -> Tally:
    tally = Tally()
    for each in found:
        tally.add(each)
    return tally


@given(cases(), minutes, minutes, minutes)
def test_it_adds_up(of: Case, one: int, two: int, three: int) -> None:
    """Whatever happened: the sum is what was expected, each nominal time comes once, every record of the window is
    there with its verdict, and two windows that meet say what one over both says of what needs no counting."""
    since, middle, until = sorted((one, two, three))
    found = list(judged(of, at(since), at(until)))
    tally = tally_of(found)
    assert tally.expected == len(found) == sum(tally.verdicts.values()) + tally.unexplained
    assert [each.nominal_at for each in found] == sorted({each.nominal_at for each in found})
    assert all(at(since) <= each.nominal_at < at(until) for each in found)
    by_record = {each.nominal_at: each.verdict for each in found if each.execution_id}
    assert by_record == {
        each.nominal_at: each.verdict for each in of.records if at(since) <= each.nominal_at < at(until)
    }
    parts = [*judged(of, at(since), at(middle)), *judged(of, at(middle), at(until))]
    assert [each.nominal_at for each in parts] == [each.nominal_at for each in found]


@given(cases(), minutes)
def test_a_record_taken_away_never_helps(of: Case, minute: int) -> None:
    """Without one of its records an audit finds at least as many holes, and no other verdict of a record changes."""
    fewer = Case(
        changes=of.changes, records=tuple(each for each in of.records if each.nominal_at != at(minute)),
        ranges=of.ranges, on_its_way=of.on_its_way, started_at=EPOCH, known_from=EPOCH, now=of.now,
    )  # fmt: skip
    before, after = (list(judged(each, at(0), at(30))) for each in (of, fewer))
    assert tally_of(after).unexplained >= tally_of(before).unexplained
    kept = {each.nominal_at: each.verdict for each in after if each.execution_id}
    assert kept == {
        each.nominal_at: each.verdict for each in before if each.execution_id and each.nominal_at != at(minute)
    }
