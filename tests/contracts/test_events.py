"""Events: CloudEvents out, in order, never in the way of who publishes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from scheduler.core.errors import InvalidArgument, Unavailable
from scheduler.ports.queues import Fact
from scheduler.wire.events import Event, decode_event
from scheduler.wire.instants import EPOCH
from tests.contracts.memory_stage import MemoryStage
from tests.contracts.nats_stage import NatsStage
from tests.contracts.stages import Stage


async def stored(stage: Stage, subject: str, count: int) -> list[Event]:
    for _ in range(40):
        bodies = await stage.stored(subject)
        if len(bodies) >= count:
            break
        await stage.sleep(0.05)
    return [decode_event(body) for body in bodies]


async def test_published(stage: Stage) -> None:
    """An event is stored under its kind and schedule, with an id of its own, and reads back as it was told."""
    at = datetime(2026, 11, 21, 8, 0, 0, 5000, tzinfo=UTC)
    for number in range(3):
        await stage.events.publish("applied", "a.b", {"generation": number, "effective_from": at})
    events = await stored(stage, stage.names.event("applied", "a.b"), 3)
    assert [event.data for event in events] == [
        {"generation": number, "effective_from": "2026-11-21T08:00:00.005Z"} for number in range(3)
    ]
    assert len({event.id for event in events}) == 3
    assert {(event.kind, event.schedule_id) for event in events} == {("applied", "a.b")}
    assert stage.dropped == []


async def test_of_no_schedule(stage: Stage) -> None:
    """An event about no schedule stands under `_`."""
    await stage.events.publish("leader", None, {"epoch": 3})
    (event,) = await stored(stage, f"{stage.names.namespace}.event.leader._", 1)
    assert event.schedule_id is None


async def test_what_is_no_json(stage: Stage) -> None:
    """Data that cannot be told is dropped and counted; nothing is raised."""
    await stage.events.publish("admin", None, {"thing": object()})
    assert stage.dropped == ["not_json"]


async def test_evidence(stage: Stage) -> None:
    """What is evidence is stored when the call returns, under the id it was given; otherwise the call raises."""
    facts = [Fact(f"verdicts-x-{number}", "verdicts", "x", {"count": number}) for number in range(300)]
    await stage.events.store(facts)
    found = [decode_event(body) for body in await stage.stored(stage.names.event("verdicts", "x"))]
    assert [(event.id, event.data) for event in found] == [(each.id, each.data) for each in facts]
    with pytest.raises(InvalidArgument):
        await stage.events.store([facts[0], Fact("bad", "verdicts", "x", {"thing": object()})])
    await stage.cut_off()
    with pytest.raises(Unavailable):
        await stage.events.store(facts)


async def test_without_a_server(stage: Stage) -> None:
    """Publishing neither waits nor raises when the server is gone."""
    await stage.cut_off()
    for _ in range(10):
        await stage.events.publish("paused", "x", {})


async def test_recorded(stage: Stage) -> None:
    """What was told about one schedule reads back in order, of several kinds, and of exactly that schedule."""
    told = [
        Fact(f"{kind}-{number}", kind, "a", {"n": number}) for number in range(3) for kind in ("applied", "verdicts")
    ]
    for fact in told:
        await stage.events.store([fact])
    await stage.events.store(
        [Fact("x", "applied", "a.b", {}), Fact("y", "paused", "a", {}), Fact("z", "applied", "b", {})]
    )
    found = await stage.events.recorded("a", ("applied", "verdicts", "deleted"), most=100)
    assert [(each.id, each.kind, each.data) for each in found] == [(each.id, each.kind, each.data) for each in told]
    assert [each.seq for each in found] == sorted({each.seq for each in found})
    assert [each.id for each in await stage.events.recorded("a.b", ("applied",), most=1)] == ["x"]
    assert await stage.events.recorded("c", ("applied",), most=1) == []


async def test_many_are_recorded(stage: Stage) -> None:
    """However many there are, none is missing; more than one is ready to look at is an error, not a part of them."""
    facts = [Fact(f"verdicts-{number}", "verdicts", "busy", {"n": number}) for number in range(1300)]
    await stage.events.store([*facts[:700], Fact("one", "applied", "busy", {}), *facts[700:]])
    found = await stage.events.recorded("busy", ("verdicts", "applied"), most=2000)
    assert [each.id for each in found] == [*(f.id for f in facts[:700]), "one", *(f.id for f in facts[700:])]
    with pytest.raises(InvalidArgument, match="1301 events"):
        await stage.events.recorded("busy", ("verdicts", "applied"), most=1300)


async def test_what_is_no_event_is_left_out(stage: Stage) -> None:
    """Anybody who may publish there can write anything: it is neither read nor in the way."""
    await stage.events.store([Fact("good", "applied", "x", {})])
    await stage.put(stage.names.event("applied", "x"), b"\xff{")
    assert [each.id for each in await stage.events.recorded("x", ("applied",), most=10)] == ["good"]
    await stage.cut_off()
    with pytest.raises(Unavailable):
        await stage.events.recorded("x", ("applied",), most=10)


async def test_since_when_nothing_is_missing(stage: Stage) -> None:
    """For ever while nothing was removed; then from the oldest that is left on; of none left, from now on."""
    assert await stage.events.complete_since() == EPOCH
    await stage.events.store([Fact("one", "applied", "x", {})])
    await stage.sleep(0.05)
    between = stage.now()
    await stage.events.store([Fact("two", "applied", "x", {})])
    assert await stage.events.complete_since() == EPOCH
    await forget(stage, 1)
    assert between - timedelta(seconds=0.04) <= await stage.events.complete_since() <= stage.now()
    await stage.sleep(0.05)
    await forget(stage, 2)
    assert await stage.events.complete_since() >= between + timedelta(seconds=0.04)
    await stage.cut_off()
    with pytest.raises(Unavailable):
        await stage.events.complete_since()


async def forget(stage: Stage, seq: int) -> None:
    """As its age, or somebody, removes an event."""
    if isinstance(stage, NatsStage):
        await stage.requests.api(f"STREAM.MSG.DELETE.{stage.names.events}", {"seq": seq})
    elif isinstance(stage, MemoryStage):
        stage.server.events.delete(seq)
