"""Webhooks in virtual time: sick endpoints, giving up, changes of leader."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from scheduler.core.delivering import Answer
from scheduler.core.errors import Unavailable
from scheduler.core.leadership import Term
from scheduler.memory.buckets import MemoryBucket
from scheduler.memory.clock import VirtualClock
from scheduler.memory.event_feed import MemoryEventFeed
from scheduler.memory.events import MemoryEvents
from scheduler.memory.messages import Write
from scheduler.memory.posting import MemoryPoster
from scheduler.memory.server import MemoryServer
from scheduler.memory.telemetry import RecordingTelemetry
from scheduler.ports.queues import Fact
from scheduler.ports.timeline import Office, Watermark
from scheduler.services.leader import Deposed, Tenure
from scheduler.services.schedules import ScheduleCache
from scheduler.services.webhooks import Webhooks
from scheduler.wire.events import decode_event, encode_event
from scheduler.wire.schedule import ScheduleLimits
from scheduler.wire.signing import ID
from scheduler.wire.webhooks import read_webhooks

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def hook(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "url": f"https://{name}/", "secret": {"env": "S"}, **more}


class World:
    """One server, and leaders that come and go."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.server = MemoryServer(self.clock)
        self.control = MemoryBucket(self.server, "schedd-control")
        self.schedules = MemoryBucket(self.server, "schedd-schedules")
        self.events = MemoryEvents(self.server)
        self.poster = MemoryPoster(self.clock)
        self.telemetry = RecordingTelemetry()
        self.terms = 0
        self._tasks: list[asyncio.Task[None]] = []

    def lead(self, *hooks: dict[str, Any], term_s: float = 1e9) -> asyncio.Task[None]:
        """Begin a term."""
        settings = read_webhooks(list(hooks), lambda how, where: SECRET)
        duty = Webhooks(
            webhooks=settings.webhooks,
            feeds=lambda: MemoryEventFeed(self.server),
            poster=self.poster,
            events=self.events,
            control=self.control.replica(),
            schedules=ScheduleCache(self.schedules, self.clock, ScheduleLimits()),
            names=self.server.names,
            clock=self.clock,
            telemetry=self.telemetry,
            agent="schedd/test",
            dice=lambda: 0.5,
        )
        self.terms += 1
        term = Term(self.terms, self.clock.boottime_s() + term_s)
        tenure = Tenure(self.clock, term, Office(self.terms, 1, Watermark(self.clock.now())))
        task = asyncio.create_task(duty.run(tenure))
        self._tasks.append(task)
        return task

    async def end(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        for task in self._tasks:
            await self.end(task)

    async def tell(self, *ids: str, kind: str = "failed", schedule: str = "daily", **data: object) -> None:
        await self.events.store([Fact(each, kind, schedule, {"labels": {}, **data}) for each in ids])

    async def tell_old(self, event_id: str, age: timedelta) -> None:
        """As if it had waited in the stream for that long, on a lane of its own."""
        names, at = self.server.names, self.clock.now() - age
        body = encode_event(names, event_id=event_id, kind="failed", schedule_id=event_id, at=at, data={})
        self.server.events.store([Write(names.event("failed", event_id), body)])

    def got(self, host: str) -> list[str]:
        """Ids of the events that were posted to a host, in order, repeats included."""
        return [decode_event(each.post.body).id for each in self.poster.posted[host]]

    def told(self, kind: str) -> list[Any]:
        stored = self.server.events.messages.values()
        return [event for each in stored if (event := decode_event(each.data)).kind == kind]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()


async def test_delivered(world: World) -> None:
    """What is asked for arrives as it is stored, signed, in order; nothing older than the webhook, nothing else."""
    await world.tell("old")
    world.lead(hook("ops", schedules=["daily"]))
    await world.clock.advance(1)
    await world.tell("one", "two")
    await world.tell("other", schedule="weekly")
    await world.tell("leader", kind="leader")
    await world.clock.advance(5)
    assert world.got("ops") == ["one", "two"]
    post = world.poster.posted["ops"][0].post
    assert post.headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"
    assert post.headers["webhook-signature"].startswith("v1,")
    assert world.telemetry.count("webhook", webhook="ops", outcome="delivered") == 2


async def test_a_sick_endpoint_gets_it_later(world: World) -> None:
    """Tried again after 2, 6, 18 s under the same id; those behind it of the same schedule wait, others go."""
    world.poster.answers["ops"].extend([Answer(status=500), Answer(problem="timeout"), Answer(status=302)])
    world.lead(hook("ops"))
    await world.clock.advance(1)
    await world.tell("one", "two")
    await world.clock.advance(20)
    await world.tell("b", schedule="other")
    await world.clock.advance(60)
    assert world.got("ops") == ["one", "one", "one", "b", "one", "two"]
    times = [each.at_s for each in world.poster.posted["ops"] if decode_event(each.post.body).id == "one"]
    assert [round(after - before) for before, after in itertools.pairwise(times)] == [2, 6, 18]
    assert len({each.post.headers[ID] for each in world.poster.posted["ops"]}) == 3


async def test_a_dead_endpoint_holds_up_nobody(world: World) -> None:
    """One that never answers has a few requests under way; the other one gets everything at once."""
    world.poster.hangs.add("dead")
    world.lead(hook("dead", timeout="10s"), hook("ops"))
    await world.clock.advance(1)
    for number in range(300):
        await world.tell(f"e{number}", schedule=f"s{number}")
    await world.clock.advance(30)
    assert sorted(world.got("ops")) == sorted(f"e{number}" for number in range(300))
    assert len(world.got("dead")) <= 4 * 4
    assert world.telemetry.of("webhook_pending", webhook="dead")[-1]["count"] == 300


async def test_given_up_is_told(world: World) -> None:
    """After the last try, or at once for what is gone: counted, told as an event with labels, and the next one goes."""
    world.poster.always["ops"] = Answer(status=500)
    world.poster.always["gone"] = Answer(status=410)
    world.lead(hook("ops", max_tries=2), hook("gone"), hook("watcher", events=["undelivered"], labels="team=crm"))
    await world.clock.advance(1)
    await world.tell("one", labels={"team": "crm"})
    await world.tell("two")
    await world.clock.advance(60)
    assert world.got("ops") == ["one", "one", "two", "two"]
    assert world.got("gone") == ["one", "two"]
    data = [event.data for event in world.told("undelivered") if event.data["event_id"] == "one"]
    assert {(each["webhook"], each["reason"], each["tries"], each["kind"]) for each in data} == {
        ("ops", "status_500", 2, "failed"), ("gone", "status_410", 1, "failed"),
    }  # fmt: skip
    assert sorted(world.got("watcher")) == ["undelivered-gone-one", "undelivered-ops-one"]
    assert world.telemetry.count("webhook", webhook="ops", outcome="given_up") == 2


async def test_giving_up_on_what_tells_of_giving_up_ends(world: World) -> None:
    """A webhook that asks for everything and gets nothing does not feed itself."""
    world.poster.always["all"] = Answer(status=410)
    world.lead(hook("all", events=["*"]))
    await world.clock.advance(1)
    await world.tell("one")
    await world.clock.advance(600)
    assert world.got("all") == ["one", "undelivered-all-one"]


async def test_a_day_is_enough(world: World) -> None:
    """What is older than 24 h is tried once and given up, however many tries it may have; until then it goes on."""
    world.poster.always["ops"] = Answer(problem="unreachable")
    world.lead(hook("ops", max_tries=100))
    await world.clock.advance(1)
    await world.tell_old("old", timedelta(hours=24))
    await world.tell_old("young", timedelta(hours=23, minutes=55))
    await world.clock.advance(60)
    assert [event.data["event_id"] for event in world.told("undelivered")] == ["old"]
    assert (world.got("ops").count("old"), world.got("ops").count("young")) == (1, 4)
    await world.clock.advance(750)
    assert [event.data["event_id"] for event in world.told("undelivered")] == ["old", "young"]


async def test_the_next_leader_goes_on(world: World) -> None:
    """Nothing is lost over a change in the middle; what comes twice has the same id."""
    world.poster.hangs.add("ops")
    first = world.lead(hook("ops"))
    await world.clock.advance(1)
    for number in range(100):
        await world.tell(f"e{number}", schedule=f"s{number % 7}")
    await world.clock.advance(3)
    world.poster.hangs.clear()
    await world.clock.advance(9)
    await world.end(first)
    world.lead(hook("ops"))
    await world.clock.advance(60)
    posted = world.poster.posted["ops"]
    ids = {decode_event(each.post.body).id: each.post.headers[ID] for each in posted}
    assert set(ids) == {f"e{number}" for number in range(100)}
    assert len({(decode_event(each.post.body).id, each.post.headers[ID]) for each in posted}) == 100
    for lane in range(7):
        firsts = list(dict.fromkeys(each for each in world.got("ops") if int(each[1:]) % 7 == lane))
        assert firsts == sorted(firsts, key=lambda each: int(each[1:]))


async def test_two_leaders_at_once_lose_nothing(world: World) -> None:
    """Whoever still believes to lead may deliver twice; the place only goes where both have been."""
    world.lead(hook("ops"))
    world.lead(hook("ops"))
    await world.clock.advance(1)
    for number in range(50):
        await world.tell(f"e{number}")
        await world.clock.advance(0.2)
    await world.clock.advance(60)
    assert set(world.got("ops")) == {f"e{number}" for number in range(50)}


async def test_the_end_of_a_term_ends_it(world: World) -> None:
    """It stops by itself when the term does."""
    task = world.lead(hook("ops"), term_s=5)
    await world.clock.advance(10)
    with pytest.raises(Deposed):
        task.result()


@pytest.mark.parametrize(
    "fault",
    [
        lambda world: setattr(world.server, "down", True),
        lambda world: world.control.fail_next(Unavailable("electing")),
        lambda world: world.server.lose_ack_next(1),
    ],
)
async def test_nats_away(world: World, fault: Callable[[World], None]) -> None:
    """Whatever NATS does, everything arrives in the end."""
    world.lead(hook("ops"))
    await world.clock.advance(1)
    await world.tell("one")
    fault(world)
    await world.clock.advance(10)
    world.server.down = False
    await world.clock.advance(10)
    await world.tell("two")
    await world.clock.advance(20)
    assert list(dict.fromkeys(world.got("ops"))) == ["one", "two"]


async def test_what_is_no_event_is_in_nobodys_way(world: World) -> None:
    """Anybody may write there; and what the same leader has delivered it does not deliver again."""
    world.lead(hook("ops"))
    await world.clock.advance(1)
    world.server.events.store([Write(world.server.names.event("failed", "x"), b"\xff{")])
    await world.tell("one")
    await world.clock.advance(2)
    await world.tell("one")
    await world.clock.advance(2)
    assert world.got("ops") == ["one"]
    assert world.telemetry.count("dropped", what="webhook", reason="unreadable") == 1
    assert world.telemetry.count("dropped", what="webhook", reason="repeated") == 1
