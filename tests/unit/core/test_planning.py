"""Planning: half-open windows that add up, nothing retroactive, pauses counted, limits that resume exactly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.model.schedule import At, CatchUp, Cron, Definition, Every, Manual, Schedule, Trigger
from scheduler.core.planning import (
    Plan,
    PlanLimits,
    late_one_shots,
    next_nominal,
    owes_until,
    plan_edit,
    plan_window,
    still_yields,
)
from scheduler.core.triggers import LAST, compile_trigger

NOON = datetime(2027, 3, 28, 12, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
MS = timedelta(milliseconds=1)


def seconds(count: float) -> timedelta:
    return timedelta(milliseconds=round(count * 1000))


def definition(trigger: Trigger, *, effective_at: datetime = LONG_AGO, **fields: object) -> Definition:
    schedule = Schedule(id="s", queue="q", type="t", trigger=trigger, **fields)  # type: ignore[arg-type]  # test data
    return Definition(schedule=schedule, generation=7, effective_at=effective_at)


def window(subject: Definition, after: datetime, until: datetime, *, limit: int = 100_000) -> Plan:
    trigger = compile_trigger(subject.schedule)
    return plan_window(subject, trigger, after=after, until=until, limits=PlanLimits(nominals_max=limit))


def nominals(plan: Plan) -> list[datetime]:
    return [occurrence.nominal_at for occurrence in plan.occurrences]


rules: st.SearchStrategy[Trigger] = st.one_of(
    st.one_of(st.integers(2_000, 60_000), st.integers(1_000, 4_000_000)).map(
        lambda ms: Every(timedelta(milliseconds=ms))
    ),
    st.sampled_from(["* * * * *", "*/7 * * * * *", "0,30 * * * *", "15 2 * * *", "*/5 1-3 * * *"]).map(
        lambda text: Cron((text,))
    ),
    st.lists(st.integers(-7200, 7200), min_size=1, max_size=6, unique=True).map(
        lambda offsets: At(tuple(sorted(NOON + seconds(offset) for offset in offsets)))
    ),
    st.just(Manual()),
)
moments = st.integers(-7_200_000, 7_200_000).map(lambda ms: NOON + timedelta(milliseconds=ms))
definitions = st.builds(
    lambda rule, effective, delay, paused, until, zone: definition(
        rule,
        effective_at=effective,
        start_delay=seconds(delay),
        paused=paused,
        paused_until=until,
        timezone=zone,
    ),
    rules,
    st.one_of(st.just(LONG_AGO), moments),
    st.sampled_from([0, 1, 300]),
    st.booleans(),
    st.one_of(st.none(), moments),
    st.sampled_from(["UTC", "Europe/Berlin"]),
)


@settings(deadline=None, max_examples=200)
@given(subject=definitions, cuts=st.lists(moments, min_size=3, max_size=3).map(sorted))
def test_windows_add_up(subject: Definition, cuts: list[datetime]) -> None:
    """plan(a, c) is plan(a, b) followed by plan(b, c), counts included; and the same input gives the same output."""
    a, b, c = cuts
    whole, one, two = window(subject, a, c), window(subject, a, b), window(subject, b, c)
    assert whole.occurrences == one.occurrences + two.occurrences
    assert whole.paused == one.paused + two.paused
    assert whole.next_nominal == two.next_nominal
    assert (whole.dealt_until, whole.truncated) == (c, False)
    assert window(subject, a, c) == whole


@settings(deadline=None, max_examples=200)
@given(subject=definitions, cuts=st.lists(moments, min_size=2, max_size=2).map(sorted))
def test_nothing_outside_the_window(subject: Definition, cuts: list[datetime]) -> None:
    """Every occurrence lies in (after, until], after the definition took effect, outside a pause, in order, once."""
    after, until = cuts
    plan = window(subject, after, until)
    found = nominals(plan)
    assert found == sorted(set(found))
    for occurrence in plan.occurrences:
        assert max(after, subject.effective_at) < occurrence.nominal_at <= until
        assert occurrence.fire_at == occurrence.nominal_at + subject.schedule.start_delay
        assert not subject.schedule.is_paused_at(occurrence.nominal_at)
        assert (occurrence.schedule_id, occurrence.generation) == ("s", 7)
        assert still_yields(subject, compile_trigger(subject.schedule), occurrence.nominal_at)
    assert plan.next_nominal is None or plan.next_nominal > max(until, subject.effective_at)


@settings(deadline=None, max_examples=200)
@given(subject=definitions, cuts=st.lists(moments, min_size=2, max_size=2).map(sorted), limit=st.integers(1, 50))
def test_truncation_resumes_exactly(subject: Definition, cuts: list[datetime], limit: int) -> None:
    """A plan cut off by its limit says where it stopped, and going on from there gives all the rest and no more."""
    after, until = cuts
    until = min(until, after + timedelta(minutes=10))
    whole = window(subject, after, until)
    found: list[datetime] = []
    paused, cursor = 0, after
    while True:
        plan = window(subject, cursor, until, limit=limit)
        assert len(plan.occurrences) + plan.paused <= limit
        found += nominals(plan)
        paused += plan.paused
        if not plan.truncated:
            break
        assert plan.dealt_until > cursor
        assert plan.next_nominal is not None
        assert plan.dealt_until < plan.next_nominal <= until
        cursor = plan.dealt_until
    assert found == nominals(whole)
    assert paused == whole.paused
    assert plan.dealt_until == until


def test_the_window_is_half_open() -> None:
    """The start of a window is not in it, the end is."""
    plan = window(definition(Every(seconds(10))), NOON, NOON + seconds(30))
    assert nominals(plan) == [NOON + seconds(10), NOON + seconds(20), NOON + seconds(30)]
    assert plan.next_nominal == NOON + seconds(40)


def test_an_edit_is_not_retroactive() -> None:
    """Nothing is planned at or before the instant from which the definition holds."""
    subject = definition(Every(seconds(10)), effective_at=NOON + seconds(20))
    assert nominals(window(subject, NOON, NOON + seconds(40))) == [NOON + seconds(30), NOON + seconds(40)]


def test_a_definition_of_the_future_has_an_empty_plan() -> None:
    """A window before the definition takes effect is empty; its next nominal comes after that instant."""
    subject = definition(Every(seconds(10)), effective_at=NOON + seconds(65))
    plan = window(subject, NOON, NOON + seconds(30))
    assert plan.occurrences == ()
    assert plan.next_nominal == NOON + seconds(70)
    assert next_nominal(subject, compile_trigger(subject.schedule), NOON) == NOON + seconds(70)


def test_a_pause_is_counted_not_planned() -> None:
    """Nominals in a pause are counted; those from its end on are planned, the end itself included."""
    subject = definition(Every(seconds(10)), paused=True, paused_until=NOON + seconds(30))
    plan = window(subject, NOON, NOON + seconds(50))
    assert plan.paused == 2
    assert nominals(plan) == [NOON + seconds(30), NOON + seconds(40), NOON + seconds(50)]


def test_a_pause_without_end() -> None:
    """A schedule paused for good plans nothing, but knows its next nominal, so that it is looked at again."""
    plan = window(definition(Every(seconds(10)), paused=True), NOON, NOON + seconds(50))
    assert (plan.occurrences, plan.paused, plan.next_nominal) == ((), 5, NOON + seconds(60))


def test_manual_plans_nothing() -> None:
    """A manual schedule has no occurrences and no next nominal."""
    plan = window(definition(Manual()), NOON, NOON + timedelta(days=365))
    assert (plan.occurrences, plan.next_nominal, plan.truncated) == ((), None, False)


def test_an_exhausted_schedule_says_so() -> None:
    """After its last instant a schedule has no next nominal."""
    subject = definition(At((NOON,)))
    assert window(subject, NOON - seconds(1), NOON).next_nominal is None
    assert nominals(window(subject, NOON - seconds(1), NOON)) == [NOON]
    assert window(subject, NOON - seconds(2), NOON - seconds(1)).next_nominal == NOON


# --- edits
def edit(subject: Definition, until: datetime, previous: Definition | None = None) -> Plan:
    return plan_edit(subject, compile_trigger(subject.schedule), until=until, previous=previous)


def test_a_new_one_shot_already_past_is_late_not_lost() -> None:
    """`at` a minute before it was put fires; and the ones to come are planned as ever."""
    past, coming = NOON - seconds(60), NOON + seconds(60)
    plan = edit(definition(At((past, coming)), effective_at=NOON), NOON + seconds(120))
    assert nominals(plan) == [past, coming]


def test_a_one_shot_at_the_very_instant_of_the_put_is_late() -> None:
    """The instant from which the definition holds counts as past: it is not lost between the two rules."""
    plan = edit(definition(At((NOON,)), effective_at=NOON), NOON + seconds(120))
    assert nominals(plan) == [NOON]


@pytest.mark.parametrize(("age", "expected"), [(59.999, 1), (60, 1), (60.001, 0)])
def test_a_one_shot_past_its_window_is_not_fired(age: float, expected: int) -> None:
    """Late one-shots go back to the catch-up window, and no further."""
    subject = definition(At((NOON - seconds(age),)), effective_at=NOON, catch_up=CatchUp(window=seconds(60)))
    assert len(edit(subject, NOON + seconds(10)).occurrences) == expected
    assert len(late_one_shots(subject, compile_trigger(subject.schedule))) == expected


def test_an_edit_does_not_fire_a_one_shot_again() -> None:
    """Instants that the previous definition had were dealt with when they were due, paused ones too."""
    old = definition(At((NOON - seconds(60),)), effective_at=NOON - seconds(600), paused=True)
    new = definition(At((NOON - seconds(60), NOON - seconds(30))), effective_at=NOON)
    assert nominals(edit(new, NOON + seconds(10), previous=old)) == [NOON - seconds(30)]


def test_a_one_shot_that_is_left_out_is_not_late() -> None:
    """Put after its time, and behind the end of its own schedule: nobody owes it."""
    ended = definition(At((NOON - seconds(60), NOON - seconds(30))), effective_at=NOON, ends_at=NOON - seconds(45))
    assert nominals(edit(ended, NOON + seconds(10))) == [NOON - seconds(60)]


def test_a_paused_one_shot_that_is_late_is_counted() -> None:
    """A late one-shot in a pause is paused, not fired."""
    plan = edit(definition(At((NOON - seconds(5),)), effective_at=NOON, paused=True), NOON + seconds(10))
    assert (plan.occurrences, plan.paused) == ((), 1)


def test_an_edit_of_a_repeating_schedule_has_nothing_late() -> None:
    """Only one-shots can be late; a cron put at noon does not fire for the morning."""
    plan = edit(definition(Every(seconds(10)), effective_at=NOON), NOON + seconds(20))
    assert nominals(plan) == [NOON + seconds(10), NOON + seconds(20)]


@settings(deadline=None, max_examples=200)
@given(subject=definitions, horizon=st.integers(0, 3_600_000))
def test_an_edit_is_its_window_and_what_is_late(subject: Definition, horizon: int) -> None:
    """plan_edit is plan_window from the effective instant, with late one-shots in front."""
    until = subject.effective_at + timedelta(milliseconds=horizon)
    plan = edit(subject, until)
    expected = window(subject, subject.effective_at, until)
    late = [
        at for at in late_one_shots(subject, compile_trigger(subject.schedule)) if not subject.schedule.is_paused_at(at)
    ]
    assert nominals(plan) == late + nominals(expected)
    assert nominals(plan) == sorted(set(nominals(plan)))
    assert plan.next_nominal == expected.next_nominal


def test_still_yields_ignores_pause_and_effect() -> None:
    """The dispatcher's question is about the rule alone: when it took effect and a pause are asked elsewhere."""
    subject = definition(Every(seconds(10)), effective_at=NOON + timedelta(days=1), paused=True)
    trigger = compile_trigger(subject.schedule)
    assert still_yields(subject, trigger, NOON)
    assert not still_yields(subject, trigger, NOON + MS)


def test_what_a_definition_owes_up_to_an_instant() -> None:
    """A nominal time since it took effect, that instant included, or a one-shot that was past; paused or not."""
    every, shot = Every(seconds(60)), At((NOON - seconds(5),))
    for trigger, since, until, owes in (
        (every, NOON, NOON + seconds(59), False), (every, NOON, NOON + seconds(60), True),
        (shot, NOON, NOON, True), (shot, NOON - seconds(9), NOON - seconds(6), False),
        (shot, NOON + timedelta(days=9), LAST, False), (Manual(), LONG_AGO, LAST, False),
    ):  # fmt: skip
        subject = definition(trigger, effective_at=since, paused=True)
        assert owes_until(subject, compile_trigger(subject.schedule), until) is owes, (trigger, since, until)
