"""Previews tell what will happen, with the local time and whatever a reader would stumble over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from scheduler.core.durations import format_duration
from scheduler.core.model.schedule import At, Cron, Definition, Every, Manual, Schedule, Trigger
from scheduler.core.planning import plan_window
from scheduler.core.previewing import PreviewedFire, preview
from scheduler.core.triggers import compile_trigger

START = datetime(2027, 3, 27, 12, tzinfo=UTC)


def schedule(trigger: Trigger, **fields: object) -> Schedule:
    return Schedule(id="s", queue="q", type="t", trigger=trigger, **fields)  # type: ignore[arg-type]  # test data


def previewed(subject: Schedule, after: datetime = START, count: int = 10) -> list[PreviewedFire]:
    return preview(subject, compile_trigger(subject), after=after, count=count)


def test_local_time_and_shift() -> None:
    """The fire in the gap shows its real local time and says which wall time is missing."""
    fires = previewed(schedule(Cron(("30 2 * * *",)), timezone="Europe/Berlin"), count=2)
    assert fires[0].nominal_at == datetime(2027, 3, 28, 1, tzinfo=UTC)
    assert fires[0].local == "2027-03-28T03:00:00+02:00"
    assert fires[0].notes == ("2027-03-28 02:30 does not exist in Europe/Berlin; fires at 03:00",)
    assert fires[1] == PreviewedFire(
        datetime(2027, 3, 29, 0, 30, tzinfo=UTC),
        datetime(2027, 3, 29, 0, 30, tzinfo=UTC),
        "2027-03-29T02:30:00+02:00",
        (),
    )


def test_start_delay_moves_the_fire_time_only() -> None:
    """With start_delay the nominal time stays and the fire time moves; a note says by how much."""
    (fire,) = previewed(schedule(Every(timedelta(hours=1)), start_delay=timedelta(minutes=5)), count=1)
    assert fire.nominal_at == START + timedelta(hours=1)
    assert fire.fire_at == fire.nominal_at + timedelta(minutes=5)
    assert fire.notes == ("start_delay 5m",)


def test_jitter_is_noted() -> None:
    """The fire time has it, the nominal and local times do not, and the note says by how much."""
    subject = schedule(Every(timedelta(hours=1)), start_delay=timedelta(minutes=5), jitter=timedelta(minutes=30))
    for fire in previewed(subject, count=5):
        held_back = fire.fire_at - fire.nominal_at - timedelta(minutes=5)
        assert timedelta(0) < held_back < timedelta(minutes=30)
        assert fire.notes == ("start_delay 5m", f"jitter {format_duration(held_back)}")
        assert fire.local == fire.nominal_at.isoformat()


def test_pause_is_noted() -> None:
    """Fires in a pause are listed and marked; those after it are not marked."""
    subject = schedule(Every(timedelta(hours=1)), paused=True, paused_until=START + timedelta(hours=2))
    assert [fire.notes for fire in previewed(subject, count=3)] == [("paused",), (), ()]


def test_after_is_exclusive_and_may_be_past() -> None:
    """`after` itself is not listed, and a preview of the past works."""
    subject = schedule(At((START, START + timedelta(milliseconds=250))))
    assert [fire.nominal_at for fire in previewed(subject, START)] == [START + timedelta(milliseconds=250)]
    assert len(previewed(subject, datetime(1970, 1, 1, tzinfo=UTC))) == 2
    assert previewed(subject, START)[0].local == "2027-03-27T12:00:00.250+00:00"


def test_count_is_limited() -> None:
    """No preview is longer than a thousand fires, and none comes out for a count of zero."""
    subject = schedule(Every(timedelta(seconds=1)))
    assert len(previewed(subject, count=5000)) == 1000
    assert previewed(subject, count=0) == []


def test_manual_has_no_fires() -> None:
    """A manual schedule previews nothing."""
    assert previewed(schedule(Manual())) == []


def test_preview_agrees_with_the_planner() -> None:
    """What is previewed is what is planned: one trigger, no second opinion."""
    subject = schedule(
        Cron(("*/20 1-3 * * *", "30 2 * * *")), timezone="Europe/Berlin", start_delay=timedelta(seconds=3)
    )
    definition = Definition(schedule=subject, generation=1, effective_at=START)
    fires = preview(definition, compile_trigger(subject), after=START, count=20)
    plan = plan_window(definition, compile_trigger(subject), after=START, until=fires[-1].nominal_at)
    assert [(fire.nominal_at, fire.fire_at) for fire in fires] == [
        (occurrence.nominal_at, occurrence.fire_at) for occurrence in plan.occurrences
    ]


def test_local_time_is_that_of_the_expression() -> None:
    """An expression that names its zone is shown on its clocks, whatever the schedule's; notes name it, too."""
    crons = ("CRON_TZ=America/New_York 30 2 * * *", "0 9 * * *", "@every 24h")
    subject = Schedule(id="s", queue="q", type="t", trigger=Cron(crons), timezone="Europe/Berlin")
    fires = preview(subject, compile_trigger(subject), after=datetime(2027, 3, 13, 23, tzinfo=UTC), count=3)
    assert [fire.local for fire in fires] == [
        "2027-03-14T01:00:00+01:00",
        "2027-03-14T03:00:00-04:00",
        "2027-03-14T09:00:00+01:00",
    ]
    assert fires[1].notes == ("2027-03-14 02:30 does not exist in America/New_York; fires at 03:00",)
