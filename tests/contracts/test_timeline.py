"""The timeline: what is fenced, what fires, and what comes out of it."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from scheduler.core.errors import Fenced, InvalidArgument, Unsure
from scheduler.ports.timeline import Due, Office, Poison, Watermark
from tests.contracts.stages import Stage, collected, nothing_more, occurrence


def later(stage: Stage, seconds: float) -> datetime:
    return stage.now() + timedelta(seconds=seconds)


async def office_of(stage: Stage, holder: str = "a") -> Office:
    """Whoever asks takes office after whoever held it."""
    epoch, watermark = await stage.timeline.epoch(), await stage.timeline.watermark()
    stored = watermark.watermark if watermark else None
    return await stage.timeline.take_office(
        holder=holder,
        lease_rev=7,
        at=stage.now(),
        expect_epoch=epoch.seq if epoch else 0,
        watermark=stored or Watermark(stage.now(), 3, 1),
        expect_watermark=watermark.seq if watermark else 0,
    )


async def test_nobody_in_office(stage: Stage) -> None:
    """A new timeline has neither epoch nor watermark, nothing armed, and its fence holds already."""
    assert await stage.timeline.epoch() is None
    assert await stage.timeline.watermark() is None
    assert await stage.timeline.all_armed() == {}
    await stage.timeline.prove_fence()


async def test_taking_office(stage: Stage) -> None:
    """The epoch is the sequence of its message, the watermark stands behind it, and both read back as written."""
    office = await office_of(stage, "me")
    epoch, watermark = await stage.timeline.epoch(), await stage.timeline.watermark()
    assert epoch is not None
    assert watermark is not None
    assert (epoch.seq, epoch.epoch_holder, epoch.lease_rev) == (office.epoch, "me", 7)
    assert watermark.seq == office.watermark_seq == office.epoch + 1
    assert watermark.watermark == office.watermark
    await stage.timeline.prove_fence()
    assert await stage.timeline.all_armed() == {}


async def test_office_is_taken_once(stage: Stage) -> None:
    """Of two that saw the same epoch one takes office; the other is fenced and changes nothing."""
    first = await office_of(stage, "first")
    expected = {"at": stage.now(), "lease_rev": 8, "watermark": first.watermark}
    second = await stage.timeline.take_office(
        holder="second", expect_epoch=first.epoch, expect_watermark=first.watermark_seq, **expected
    )
    with pytest.raises(Fenced):
        await stage.timeline.take_office(
            holder="third", expect_epoch=first.epoch, expect_watermark=first.watermark_seq, **expected
        )
    epoch = await stage.timeline.epoch()
    assert epoch is not None
    assert (epoch.seq, epoch.epoch_holder) == (second.epoch, "second")
    assert second.epoch > first.epoch


@pytest.mark.parametrize("stale", ["epoch", "watermark"])
async def test_office_is_taken_from_what_stands(stage: Stage, stale: str) -> None:
    """Either of the two that it replaces was read before somebody else took office: refused, each by itself."""
    first = await office_of(stage, "first")
    second = await office_of(stage, "second")
    seen = {"epoch": second.epoch, "watermark": second.watermark_seq}
    seen[stale] = {"epoch": first.epoch, "watermark": first.watermark_seq}[stale]
    with pytest.raises(Fenced):
        await stage.timeline.take_office(
            holder="third",
            lease_rev=9,
            at=stage.now(),
            expect_epoch=seen["epoch"],
            watermark=second.watermark,
            expect_watermark=seen["watermark"],
        )
    epoch, watermark = await stage.timeline.epoch(), await stage.timeline.watermark()
    assert epoch is not None
    assert watermark is not None
    assert (epoch.seq, watermark.seq) == (second.epoch, second.watermark_seq)


@pytest.mark.parametrize("arming", [True, False], ids=["with arms", "empty"])
async def test_stale_epoch(stage: Stage, arming: bool) -> None:
    """A batch of an ex-leader is refused whole, even when it arms nothing."""
    old = await office_of(stage, "old")
    new = await office_of(stage, "new")
    arms = [occurrence("x", later(stage, 60))] if arming else []
    with pytest.raises(Fenced):
        await stage.timeline.commit(old, arms=arms, disarms=[], watermark=Watermark(later(stage, 60)))
    watermark = await stage.timeline.watermark()
    assert watermark is not None
    assert watermark.seq == new.watermark_seq
    assert await stage.timeline.all_armed() == {}


async def test_old_epoch_with_the_new_watermark(stage: Stage) -> None:
    """The epoch alone is reason enough to refuse a batch that arms or disarms."""
    old = await office_of(stage, "old")
    new = await office_of(stage, "new")
    mixed = Office(old.epoch, new.watermark_seq, new.watermark)
    with pytest.raises(Fenced):
        await stage.timeline.commit(
            mixed, arms=[occurrence("x", later(stage, 60))], disarms=[], watermark=new.watermark
        )
    with pytest.raises(Fenced):
        await stage.timeline.commit(mixed, arms=[], disarms=[("x", later(stage, 60))], watermark=new.watermark)
    assert await stage.timeline.all_armed() == {}


async def test_stale_watermark(stage: Stage) -> None:
    """A batch closed on a watermark that was replaced is refused whole, although its epoch is in force."""
    office = await office_of(stage)
    newer = await stage.timeline.commit(office, arms=[], disarms=[], watermark=Watermark(later(stage, 5), 9, 2))
    arms = [occurrence("x", later(stage, 60))]
    with pytest.raises(Fenced):
        await stage.timeline.commit(office, arms=arms, disarms=[], watermark=Watermark(later(stage, 60)))
    stored = await stage.timeline.watermark()
    assert stored is not None
    assert (stored.seq, stored.watermark) == (newer.watermark_seq, newer.watermark)
    assert await stage.timeline.all_armed() == {}


async def test_fires(stage: Stage) -> None:
    """An armed occurrence comes out at its fire time, with what was armed, once."""
    office = await office_of(stage)
    nominal_at = later(stage, 0.2)
    arm = occurrence("a.b", nominal_at, delay_s=0.5, generation=42)
    await stage.timeline.commit(office, arms=[arm], disarms=[], watermark=Watermark(nominal_at))
    assert await stage.timeline.all_armed() == {"a.b": [nominal_at]}
    (due,) = await collected(stage, stage.timeline.pull_due, 1)
    assert isinstance(due, Due)
    assert (due.schedule_id, due.nominal_at, due.fire_at) == ("a.b", nominal_at, arm.fire_at)
    assert (due.generation, due.epoch, due.delivered) == (42, office.epoch, 1)
    assert timedelta(0) <= due.at - arm.fire_at < timedelta(seconds=1)
    assert await stage.timeline.all_armed() == {}
    await stage.timeline.ack([due.ack])
    assert await nothing_more(stage, stage.timeline.pull_due, 0.5)


async def test_past(stage: Stage) -> None:
    """What is armed for an instant that has passed comes out at once."""
    office = await office_of(stage)
    arm = occurrence("late", later(stage, -3600))
    await stage.timeline.commit(office, arms=[arm], disarms=[], watermark=office.watermark)
    (due,) = await collected(stage, stage.timeline.pull_due, 1)
    assert isinstance(due, Due)
    assert due.nominal_at == arm.nominal_at


async def test_arming_again_replaces(stage: Stage) -> None:
    """Of one occurrence armed twice only the newer comes out: its time, its generation."""
    office = await office_of(stage)
    nominal_at = later(stage, 0.5)
    office = await stage.timeline.commit(
        office, arms=[occurrence("x", nominal_at, generation=1)], disarms=[], watermark=office.watermark
    )
    newer = occurrence("x", nominal_at, delay_s=0.5, generation=2)
    await stage.timeline.commit(office, arms=[newer], disarms=[], watermark=office.watermark)
    found = await collected(stage, stage.timeline.pull_due, 2)
    assert [(due.generation, due.fire_at) for due in found if isinstance(due, Due)] == [(2, newer.fire_at)]
    assert len(found) == 1


async def test_disarmed(stage: Stage) -> None:
    """A disarmed occurrence never comes out, is soon not listed any more, and its neighbours are untouched."""
    office = await office_of(stage)
    nominal_at, other = later(stage, 0.6), later(stage, 0.7)
    arms = [occurrence("x", nominal_at), occurrence("x", other), occurrence("x.y", nominal_at)]
    office = await stage.timeline.commit(office, arms=arms, disarms=[], watermark=office.watermark)
    await stage.timeline.commit(office, arms=[], disarms=[("x", nominal_at)], watermark=office.watermark)
    found = await collected(stage, stage.timeline.pull_due, 3)
    keys = {(due.schedule_id, due.nominal_at) for due in found if isinstance(due, Due)}
    assert keys == {("x", other), ("x.y", nominal_at)}
    assert len(found) == 2
    await stage.sleep(1.0)
    assert await stage.timeline.all_armed() == {}


async def test_armed_again_after_a_disarm(stage: Stage) -> None:
    """An occurrence that was disarmed and armed again fires; in one batch the arm wins."""
    office = await office_of(stage)
    first, second = later(stage, 0.5), later(stage, 0.6)
    office = await stage.timeline.commit(office, arms=[], disarms=[("x", first)], watermark=office.watermark)
    office = await stage.timeline.commit(
        office,
        arms=[occurrence("x", first), occurrence("x", second), occurrence("x", second, generation=5)],
        disarms=[("x", second)],
        watermark=office.watermark,
    )
    found = await collected(stage, stage.timeline.pull_due, 2)
    fired = [(due.nominal_at, due.generation) for due in found if isinstance(due, Due)]
    assert fired == [(first, 1), (second, 5)]


async def test_ids_with_dots(stage: Stage) -> None:
    """`a` and `a.b` are two schedules: what is armed for one is not listed for the other."""
    office = await office_of(stage)
    one, two = later(stage, 60), later(stage, 120)
    arms = [occurrence("a", one), occurrence("a.b", two), occurrence("a", two)]
    await stage.timeline.commit(office, arms=arms, disarms=[], watermark=office.watermark)
    assert await stage.timeline.armed("a") == [one, two]
    assert await stage.timeline.armed("a.b") == [two]
    assert await stage.timeline.armed("b") == []
    assert await stage.timeline.all_armed() == {"a": [one, two], "a.b": [two]}


async def test_a_full_batch(stage: Stage) -> None:
    """500 occurrences of one instant are armed by one batch and each comes out once; 501 are refused unsent."""
    office = await office_of(stage)
    nominal_at = later(stage, 1.0)
    arms = [occurrence(f"s{number}", nominal_at) for number in range(501)]
    with pytest.raises(InvalidArgument):
        await stage.timeline.commit(office, arms=arms, disarms=[], watermark=office.watermark)
    after = await stage.timeline.commit(office, arms=arms[:500], disarms=[], watermark=office.watermark)
    assert after.watermark_seq == office.watermark_seq + 501
    found = await collected(stage, stage.timeline.pull_due, 500)
    assert sorted(due.schedule_id for due in found if isinstance(due, Due)) == sorted(f"s{n}" for n in range(500))
    await stage.timeline.ack([due.ack for due in found])
    assert await nothing_more(stage, stage.timeline.pull_due, 0.3)


async def test_redelivery(stage: Stage) -> None:
    """What is not acknowledged comes again after the ack wait, what is being worked on does not, nor what is acked."""
    await stage.set_limits(None, ack_wait_s=1.0)
    office = await office_of(stage)
    arms = [occurrence(name, later(stage, -1)) for name in ("silent", "working", "done")]
    await stage.timeline.commit(office, arms=arms, disarms=[], watermark=office.watermark)
    found = await collected(stage, stage.timeline.pull_due, 3)
    tokens = {due.schedule_id: due.ack for due in found if isinstance(due, Due)}
    await stage.timeline.ack([tokens["done"]])
    await stage.sleep(0.7)
    await stage.timeline.working([tokens["working"]])
    (again,) = await collected(stage, stage.timeline.pull_due, 1)
    assert isinstance(again, Due)
    assert (again.schedule_id, again.delivered) == ("silent", 2)
    await stage.timeline.ack([again.ack])
    (last,) = await collected(stage, stage.timeline.pull_due, 1)
    assert isinstance(last, Due)
    assert (last.schedule_id, last.delivered) == ("working", 2)


async def test_later(stage: Stage) -> None:
    """What is handed back comes again after the delay, not before it."""
    office = await office_of(stage)
    await stage.timeline.commit(
        office, arms=[occurrence("x", later(stage, -1))], disarms=[], watermark=office.watermark
    )
    (due,) = await collected(stage, stage.timeline.pull_due, 1)
    await stage.timeline.later([due.ack], 0.8)
    assert await nothing_more(stage, stage.timeline.pull_due, 0.4)
    (again,) = await collected(stage, stage.timeline.pull_due, 1)
    assert isinstance(again, Due)
    assert again.delivered == 2


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("x.20261121T080000000Z", b"\xff not json"),
        ("x.20261121T080000000Z", b""),
        ("x.20261121T080000000Z", b'{"v":2,"generation":1,"fire_at":"2026-11-21T08:00:00.000Z","epoch":1}'),
        ("x.20261121T080000000Z", b'{"v":1,"generation":-1,"fire_at":"2026-11-21T08:00:00.000Z","epoch":1}'),
        ("x.yesterday", b'{"v":1,"generation":1,"fire_at":"2026-11-21T08:00:00.000Z","epoch":1}'),
        ("_x.20261121T080000000Z", b'{"v":1,"generation":1,"fire_at":"2026-11-21T08:00:00.000Z","epoch":1}'),
    ],
)
async def test_poison(stage: Stage, key: str, body: bytes) -> None:
    """A due message that cannot be read comes out as poison between the others, and can be acknowledged."""
    subject = f"{stage.names.namespace}.due.{key}"
    await stage.put(subject, body)
    await stage.put(
        stage.names.due("good", stage.now()),
        b'{"v":1,"generation":1,"fire_at":"2026-11-21T08:00:00.000Z","epoch":1,"more":true}',
    )
    poison, good = await collected(stage, stage.timeline.pull_due, 2)
    assert isinstance(poison, Poison)
    assert poison.subject == subject
    assert poison.problem
    assert isinstance(good, Due)
    await stage.timeline.ack([poison.ack, good.ack])
    assert await nothing_more(stage, stage.timeline.pull_due, 0.2)


async def test_lost_acknowledgement(stage: Stage) -> None:
    """A batch whose answer is lost raises Unsure although it stands; the stored watermark tells."""
    office = await office_of(stage)
    nominal_at, until = later(stage, 60), later(stage, 120)
    stage.lose_ack_next()
    with pytest.raises(Unsure):
        await stage.timeline.commit(
            office, arms=[occurrence("x", nominal_at)], disarms=[], watermark=Watermark(until, 4, 1)
        )
    stored = await stage.timeline.watermark()
    assert stored is not None
    assert stored.watermark == Watermark(until, 4, 1)
    assert await stage.timeline.armed("x") == [nominal_at]


async def test_late_landing_of_an_ex_leader(stage: Stage) -> None:
    """A batch that was under way when another took office is refused when it arrives at last."""
    old = await office_of(stage, "old")
    stage.land_late()
    with pytest.raises(Unsure):
        await stage.timeline.commit(
            old, arms=[occurrence("x", later(stage, 60))], disarms=[], watermark=Watermark(later(stage, 60))
        )
    new = await office_of(stage, "new")
    await stage.land()
    stored = await stage.timeline.watermark()
    assert stored is not None
    assert stored.seq == new.watermark_seq
    assert await stage.timeline.all_armed() == {}


async def test_undispatched(stage: Stage) -> None:
    """What has fired is listed, pulled or not, until it is acknowledged; `a` is not `a.b`."""
    office = await office_of(stage)
    one, two = later(stage, -2), later(stage, -1)
    arms = [occurrence("a", one), occurrence("a", two), occurrence("a.b", two)]
    assert await stage.timeline.undispatched("a") == []
    await stage.timeline.commit(office, arms=arms, disarms=[], watermark=office.watermark)
    found = await collected(stage, stage.timeline.pull_due, 3)
    assert await stage.timeline.undispatched("a") == [one, two]
    assert await stage.timeline.undispatched("a.b") == [two]
    tokens = [due.ack for due in found if isinstance(due, Due) and (due.schedule_id, due.nominal_at) == ("a", one)]
    await stage.timeline.ack(tokens)
    for _ in range(40):
        if await stage.timeline.undispatched("a") == [two]:
            break
        await stage.sleep(0.05)
    assert await stage.timeline.undispatched("a") == [two]


async def test_what_was_passed_over_is_delivered_again(stage: Stage) -> None:
    """A consumer that takes a message for done delivers it no more, until it is sent back: also to whoever waits."""
    office = await office_of(stage)
    assert await stage.timeline.oldest_due() is None
    arms = [occurrence("a", later(stage, -2)), occurrence("b", later(stage, -1))]
    await stage.timeline.commit(office, arms=arms, disarms=[], watermark=office.watermark)
    found = await collected(stage, stage.timeline.pull_due, 2)
    oldest = await stage.timeline.oldest_due()
    assert oldest is not None
    assert await stage.timeline.due_floor() < oldest
    await stage.timeline.deliver_from(oldest + 2)
    assert await stage.timeline.due_floor() == oldest + 1
    assert await stage.timeline.oldest_due() == oldest
    assert await nothing_more(stage, stage.timeline.pull_due, 0.3)
    waiting = asyncio.create_task(collected(stage, stage.timeline.pull_due, 2))
    await stage.sleep(0.1)
    await stage.timeline.deliver_from(oldest)
    again = await waiting
    assert [(due.schedule_id, due.delivered) for due in again if isinstance(due, Due)] == [("a", 1), ("b", 1)]
    await stage.timeline.ack([due.ack for due in again])
    for _ in range(40):
        if await stage.timeline.oldest_due() is None:
            break
        await stage.sleep(0.05)
    assert await stage.timeline.oldest_due() is None
    assert await stage.timeline.due_floor() >= oldest + 1
    assert len(found) == 2


async def test_the_fire_time_of_an_arm(stage: Stage) -> None:
    """What stands in an arm is read back, to the millisecond; there is none where nothing is armed any more."""
    office = await office_of(stage)
    arm = occurrence("a.b", later(stage, 60), delay_s=0.5)
    office = await stage.timeline.commit(office, arms=[arm], disarms=[], watermark=Watermark(arm.nominal_at))
    assert await stage.timeline.armed_for("a.b", arm.nominal_at) == arm.fire_at
    assert await stage.timeline.armed_for("a", arm.nominal_at) is None
    gone = [("a.b", arm.nominal_at)]
    await stage.timeline.commit(office, arms=[], disarms=gone, watermark=Watermark(arm.nominal_at))
    assert await stage.timeline.armed_for("a.b", arm.nominal_at) is None
