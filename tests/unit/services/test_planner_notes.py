"""What the planner tells: status rows and events, at least once, and in time."""

from __future__ import annotations

import asyncio
from datetime import datetime

from scheduler.core.errors import Unavailable
from scheduler.core.model.status import ScheduleState, StatusRow
from scheduler.memory.clock import START
from scheduler.wire.instants import parse_instant
from scheduler.wire.status import encode_status
from tests.unit.services.planning_world import (
    HALF,
    SECOND,
    PlanningReplica,
    World,
    instant,
)


async def test_an_invalid_key_is_announced_once_per_write() -> None:
    """Event `invalid` about `_`, with the key and its revision; whatever else has to be repeated."""
    world = World()
    keys = ["-x", "y-", "z..z", "k" * 200]
    for key in keys:
        world.schedules.put_raw(key, b"{}")
    world.put("s", every="1s")
    async with PlanningReplica(world) as leader:
        fault_once(leader, "change", "put_many")
        await leader.plans()
        again = world.schedules.put_raw("-x", b"again")
        await leader.plans()
        world.schedules.put_raw("-x", b"", {"KV-Operation": "DEL"})
        await leader.plans()
    found = [event.data for event in world.events.of("invalid")]
    assert sorted(each["key"] for each in found) == sorted([*keys, "-x"])
    assert {"key": "-x", "revision": again} in found
    assert all(event.schedule_id is None for event in world.events.of("invalid"))
    assert leader.schedules.invalid_keys == frozenset(keys[1:])


def fault_once(leader: PlanningReplica, *names: str) -> None:
    def on_call(name: str) -> None:
        if name in names:
            leader.process.on_call = lambda _: None
            raise Unavailable("for once")

    leader.process.on_call = on_call


async def test_the_row_tells_when_the_last_occurrence_has_passed() -> None:
    """`exhausted` and nothing next, within a few seconds; a schedule that goes on stays active."""
    world = World()
    await world.clock.advance(HALF)
    world.put("once", at=[instant(3), instant(30)])
    world.put("soon", at=instant(8))
    world.put("past", at=instant(-3))
    world.put("last", cron="0 0 8 21 11 * 2026")
    world.put("year", cron="30 0 8 21 11 * 2026")
    world.put("every", every="1s")
    async with PlanningReplica(world) as leader:
        await leader.plans()
        assert await states(world) == {
            "once": "active", "soon": "active", "past": "exhausted", "last": "exhausted", "year": "active",
            "every": "active",
        }  # fmt: skip
        row = await world.row("once")
        assert row is not None
        assert row.next_nominal == START + 3 * SECOND
        await world.clock.advance(10)
        assert (await states(world))["soon"] == "exhausted"
        await world.clock.advance(25)
        found = await states(world)
        assert found.pop("every") == "active"
        assert set(found.values()) == {"exhausted"}
        row = await world.row("once")
        assert row is not None
        assert row.next_nominal is None


async def test_the_row_tells_when_a_pause_ran_out() -> None:
    """Active again, with an event, and exhausted after that; a leader change around the instant changes nothing."""
    world = World()
    await world.clock.advance(HALF)
    world.put("s", at=instant(20), paused=True, paused_until=instant(10))
    world.put("t", every="1s", paused=True, paused_until=instant(10))
    world.put("u", every="1s", paused=True)
    async with PlanningReplica(world) as leader:
        await leader.plans()
        await world.clock.advance(9)
        assert await states(world) == {"s": "paused", "t": "paused", "u": "paused"}
    await world.clock.advance(6)
    async with PlanningReplica(world) as leader:
        await world.clock.advance(3)
        assert await states(world) == {"s": "active", "t": "active", "u": "paused"}
        await world.clock.advance(6)
        assert (await states(world))["s"] == "exhausted"
        assert len(world.events.of("resumed", "s")) == len(world.events.of("resumed", "t")) == 1
        assert world.events.of("resumed", "u") == []
        calls: list[str] = []
        leader.process.on_call = calls.append
        await world.clock.advance(20)
        assert "commit" in calls
        assert "get_many" not in calls, "a state that turned is not looked at again"
        assert world.owed() == world.expected((await world.mark()).until)


async def states(world: World) -> dict[str, str]:
    found = {}
    for key in await world.status.keys():
        row = await world.row(key)
        if row is not None:
            found[key] = row.state.value
    return found


async def test_a_deleted_schedule_keeps_its_row_while_runs_hold_slots() -> None:
    """Without runs the row goes with the schedule; with runs it stays as it is."""
    world = World()
    world.put("free", every="10s")
    world.put("busy", every="10s")
    async with PlanningReplica(world) as leader:
        await leader.plans()
        busy = StatusRow(active=("busy.1",))
        await world.status.put("busy", encode_status(busy))
        world.delete("free")
        world.delete("busy")
        await leader.plans()
        assert await world.row("free") is None
        assert await world.row("busy") == busy


async def test_a_row_that_changes_while_it_is_removed_ends_no_term() -> None:
    """A dispatcher writes it between the read and the delete: read again, decide again."""
    world = World()
    world.put("s", every="10s")
    async with PlanningReplica(world) as leader:
        await leader.plans()
        row = await world.row("s")
        assert row is not None

        def on_call(name: str) -> None:
            if name == "delete":
                leader.process.on_call = lambda _: None
                world.status.put_raw("s", encode_status(StatusRow(fires=7)))

        leader.process.on_call = on_call
        world.delete("s")
        await leader.plans()
        assert await world.row("s") is None
        assert leader.task is not None
        assert not leader.task.done()


async def test_a_pause_is_announced_though_the_first_leader_died_between_row_and_event() -> None:
    """Killed anywhere: `paused` and `resumed` come at least once each, in their order."""
    for number in range(1, 25):
        world = World()
        world.put("s", every="1s")
        async with PlanningReplica(world) as leader:
            await leader.plans()
        world.put("s", every="1s", paused=True)
        async with PlanningReplica(world, kill_at=number, late=True) as doomed:
            await doomed.plans()
        async with PlanningReplica(world) as successor:
            await successor.plans()
            world.put("s", every="1s")
            await successor.plans()
        assert world.events.of("paused", "s"), number
        assert world.events.of("resumed", "s"), number
        row = await world.row("s")
        assert row is not None
        assert row.state is ScheduleState.ACTIVE


async def test_evidence_is_stored_before_it_counts() -> None:
    """What the watermark calls applied was told before, with the definition as it was; a huge payload is left out."""
    world = World()
    await world.clock.advance(HALF)
    world.put("s", every="1s", timezone="Europe/Berlin")
    world.put("big", every="2s", payload_base64="x" * 4, description="d" * 4000, payload=None)
    huge = b'{"queue":"Q","type":"t","every":"3s","payload":"' + b"x" * 60_000 + b'"' + b" " * 80_000 + b"}"
    world.put_raw("huge", huge)
    async with PlanningReplica(world) as leader:
        told: list[tuple[int, int]] = []

        async def look() -> None:
            told.append((leader.mark.applied, len(world.events.of("applied"))))

        leader.after_commit = look
        await leader.plans()
    assert told[0][1] == 2, "all valid ones are told before the first batch that calls them applied"
    (event,) = world.events.of("applied", "s")
    assert event.data["definition"] == {"queue": "Q", "type": "t", "every": "1s", "timezone": "Europe/Berlin"}
    assert event.data["planned_until"] == instant(HALF)
    assert event.id == f"applied-s-{event.data['generation']}"
    (huge_event,) = world.events.of("applied", "huge")
    assert huge_event.data["definition"] == {"queue": "Q", "type": "t", "every": "3s"}
    (invalid,) = world.events.of("invalid", "big")
    assert "payload" in invalid.data["error"]


async def test_what_an_edit_takes_back_is_told() -> None:
    """Nominal times that had come when an edit disarms them get their verdict with it, before they are disarmed."""
    world = World()
    await world.clock.advance(HALF)
    for name in ("edited", "gone", "broken", "resting"):
        world.put(name, every="1s", start_delay="4s")
    async with PlanningReplica(world) as leader:
        await leader.plans()
        await world.clock.advance(3)
        world.put("edited", every="1h")
        world.delete("gone")
        world.put_raw("broken", b"{")
        world.put("resting", every="1s", start_delay="4s", paused=True)
        await leader.plans()
    told = {name: world.events.of("verdicts", name) for name in ("edited", "gone", "broken", "resting")}
    assert {name: [(e.data["verdict"], e.data["reason"]) for e in events] for name, events in told.items()} == {
        "edited": [("superseded", "edited")], "gone": [("superseded", "deleted")],
        "broken": [("superseded", "invalid")], "resting": [("paused", "paused")],
    }  # fmt: skip
    (event,) = told["gone"]
    assert (event.data["from"], event.data["to"], event.data["count"]) == (instant(1), instant(3), 3)


async def test_what_a_write_that_was_never_applied_kept_from_being_planned_is_told() -> None:
    """A slice passes over a schedule whose edit is known, and the next write replaces that before it is applied: what
    the one that was applied still owed is superseded, though evidence never hears of the edit between."""
    world = World()
    await world.clock.advance(HALF)
    world.put("s", every="1s")
    async with PlanningReplica(world, horizon=2 * SECOND) as leader:
        await leader.plans(until=START + 2 * SECOND)
        replaced_at = await overtaken(world, leader)
        await leader.plans(until=replaced_at + SECOND)
    assert [event.data["generation"] for event in world.events.of("applied", "s")] == [1, 3]
    assert not world.events.of("invalid", "s")
    told = world.events.of("verdicts", "s")
    assert {(each.data["verdict"], each.data["reason"]) for each in told} == {("superseded", "invalid")}
    assert {each.data["generation"] for each in told} == {1}
    planned_until = parse_instant(world.events.of("applied", "s")[-1].data["planned_until"])
    first = parse_instant(told[0].data["from"])
    assert first == world.owed()["s"][-1] + SECOND
    assert parse_instant(told[-1].data["to"]) + SECOND > planned_until


async def overtaken(world: World, leader: PlanningReplica) -> datetime:
    """A broken value comes right before a slice with an occurrence, a good one while that slice is on its way."""
    fresh, replaced_at = leader.schedules.fresh, START

    async def broken_after(*, calendars: bool = False) -> int:
        newest = await fresh(calendars=calendars)
        end, until = world.clock.now() + 2 * SECOND, leader.mark.until
        if end.replace(microsecond=0) > until and end - until >= SECOND / 4 and world.schedules.stream.last_seq == 1:
            world.put_raw("s", b"{")
            await eventually_known(leader)
            leader.slow_commit_s = 5.0
        return newest

    async def replaced() -> None:
        nonlocal replaced_at
        if leader.slow_commit_s:
            leader.slow_commit_s, replaced_at = 0.0, world.clock.now()
            world.put("s", every="1h")

    leader.schedules.fresh, leader.after_commit = broken_after, replaced  # type: ignore[method-assign]  # interleaved

    async def happened() -> bool:
        return replaced_at > START

    await leader.until(happened)
    return replaced_at


async def eventually_known(leader: PlanningReplica) -> None:
    for _ in range(100):
        known = leader.schedules.get("s")
        if known is not None and known.revision == 2:
            return
        await asyncio.sleep(0)
    raise AssertionError("the watch stands still")


async def test_a_new_leader_knows_what_was_before() -> None:
    """A one-shot that is put late over a paused or finished schedule is owed, whoever leads; one that was there before
    is not fired again."""
    for before in ({"every": "1s", "paused": True}, {"at": instant(1)}):
        world = World()
        await world.clock.advance(HALF)
        world.put("s", **before)
        async with PlanningReplica(world) as first:
            await first.plans()
            await world.clock.advance(6)
        world.put("s", at=[instant(1), instant(5)])
        async with PlanningReplica(world) as second:
            await second.plans()
            await world.clock.advance(2)
        wanted = {instant(5)} if "at" in before else {instant(1), instant(5)}
        assert {instant((at - START).total_seconds()) for at in world.due()["s"] if at > START} >= wanted
        assert len([at for at in world.due()["s"] if at == START + SECOND]) == 1
