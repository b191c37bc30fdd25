"""Kinds of schedules, neighbours and sizes, from outside."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta

import pytest

from tests.acceptance.evidence import Expected, id_of, on_grid
from tests.acceptance.harness import Site, eventually, utc_now

SECOND = timedelta(seconds=1)
TICK = {"every": "1s", "queue": "default", "type": "tick", "overlap": "allow"}


async def test_an_id_that_begins_with_another_is_left_alone(site: Site) -> None:
    """`a`, `a.b` and `a.b.c` are three schedules: deleting or editing one touches none of the others."""
    await site.replicas("a")
    worker = site.worker("default")
    puts = {id_: await site.put(id_, TICK) for id_ in ("a", "a.b", "a.b.c", "ab")}
    await asyncio.sleep(2)
    gone = await site.delete("a")
    await site.put("a.b.c", {**TICK, "every": "2s"})
    await asyncio.sleep(4)
    late = {each.id for each in worker.deliveries() if each.nominal_at > gone.at + SECOND}
    assert not [id_ for id_ in late if id_.startswith("a.2")]
    for id_ in ("a.b", "ab"):
        expected = on_grid(id_, SECOND, puts[id_].at, utc_now() - SECOND)
        assert expected.must.keys() <= {each.id for each in worker.deliveries()}


async def test_cron_with_seconds_and_one_shots_fire_on_the_second(site: Site) -> None:
    """Cron with seconds, a list of crons, `at` and `@every` yield what they say."""
    await site.replicas("a")
    worker = site.worker("default")
    at = utc_now().replace(microsecond=0) + 3 * SECOND
    base = {"queue": "default", "type": "tick", "overlap": "allow"}
    cron = await site.put("cron", {**base, "cron": "*/2 * * * * *", "timezone": "Asia/Kathmandu"})
    both = await site.put("both", {**base, "cron": ["*/4 * * * * *", "1-59/4 * * * * *"]})
    await site.put("once", {**base, "at": [at.isoformat(), (at + SECOND).astimezone().isoformat()]})
    shortcut = await site.put("shortcut", {**base, "cron": "@every 2s"})
    await asyncio.sleep(9)
    now = utc_now()
    expected = on_grid("cron", 2 * SECOND, cron.at, now, may_until=now + 60 * SECOND)
    expected |= on_grid("shortcut", 2 * SECOND, shortcut.at, now, may_until=now + 60 * SECOND)
    expected |= Expected({id_of("once", when): when for when in (at, at + SECOND)})
    seconds = on_grid("both", SECOND, both.at, now, may_until=now + 60 * SECOND)
    expected |= Expected(*({id_: when for id_, when in part.items() if when.second % 4 < 2} for part in
                           (seconds.must, seconds.may)))  # fmt: skip
    await site.verify(expected, [worker], late_max_s=1.5)
    status = await site.status("once")
    assert status["last_outcome"] == "succeeded"


async def test_a_one_shot_already_past_fires_once(site: Site) -> None:
    """An `at` that lies a minute back when it is first put is late, not forgotten; put again it does not fire again."""
    await site.replicas("a", "b")
    worker = site.worker("default")
    at = utc_now().replace(microsecond=0) - 60 * SECOND
    value = {"at": at.isoformat(), "queue": "default", "type": "late"}
    await site.put("late", value)
    await asyncio.sleep(2)
    await site.put("late", {**value, "payload": 2})
    await asyncio.sleep(3)
    await site.verify(Expected({id_of("late", at): at}), [worker], late_max_s=65)


@pytest.mark.slow
async def test_start_delay_moves_the_fire_and_not_the_name(site: Site) -> None:
    """Ids are nominal; the fire is `start_delay` later; deleting in between takes back what has not fired."""
    await site.replicas("a")
    worker = site.worker("default")
    put = await site.put("slow", {**TICK, "every": "2s", "start_delay": "3s"})
    await asyncio.sleep(9)
    fired = worker.deliveries()
    assert len(fired) >= 2
    for each in fired:
        assert each.headers["Schedd-Fire-At"] > each.headers["Schedd-Nominal-At"]
        assert 3 <= (each.at - each.nominal_at).total_seconds() < 4
        assert each.nominal_at > put.at
    gone = await site.delete("slow")
    await asyncio.sleep(5)
    assert max(each.at for each in worker.deliveries()) < gone.at + SECOND


async def test_large_payloads_due_together(site: Site) -> None:
    """Sixty payloads of the largest size, every two seconds at the same instant: each arrives whole and on time."""
    await site.replicas("a", "b")
    worker = site.worker("default")
    payload = "x" * (65_536 - 2)
    value = {**TICK, "every": "2s", "payload": payload}
    puts = {f"big-{n}": await site.put(f"big-{n}", value) for n in range(60)}
    await asyncio.sleep(7)
    now = utc_now()
    expected = Expected({})
    for id_, put in puts.items():
        expected |= on_grid(id_, 2 * SECOND, put.at, now, may_until=now + 300 * SECOND)
    await site.verify(expected, [worker], late_max_s=4)
    assert {len(each.body) for each in worker.deliveries()} == {65_536}
    assert site.complaints() == []


@pytest.mark.slow
async def test_many_due_at_one_instant(site: Site) -> None:
    """1500 one-shots at one second are dispatched within a few."""
    await site.replicas("a", "b")
    worker = site.worker("default")
    at = utc_now().replace(microsecond=0) + 8 * SECOND
    value = {"at": at.isoformat(), "queue": "default", "type": "herd"}
    for first in range(0, 1500, 250):
        await asyncio.gather(*(site.put(f"herd-{n}", value) for n in range(first, first + 250)))
    expected = Expected({id_of(f"herd-{n}", at): at for n in range(1500)})
    assert utc_now() < at, "all of them were put in time"
    await asyncio.sleep((at - utc_now()).total_seconds())
    await site.verify(expected, [worker], late_max_s=5)


async def test_two_namespaces_on_one_server_do_not_meet(site: Site) -> None:
    """A second namespace has streams, leader and API of its own."""
    await site.replicas("a")
    other = site.replica("b", SCHEDD_NAMESPACE="team-1")
    await other.ready()
    value = json.dumps({**TICK, "queue": "q"}).encode()
    await site.js.publish("$KV.team-1-schedules.mine", value)
    got: list[str] = []
    subscription = await site.js.pull_subscribe_bind("q", stream="TEAM_1_TASKS")

    async def fired() -> bool:
        for message in await subscription.fetch(1, timeout=3):
            got.append(message.subject)
            await message.ack()
        return len(got) >= 2

    async def there() -> bool:
        return bool(await site.api("CONSUMER.INFO.TEAM_1_TASKS.q"))

    await asyncio.sleep(1)
    await eventually(there, what="the queue's consumer")
    await eventually(fired, what="two fires")
    assert all(subject.startswith("team-1.task.q.mine.") for subject in got)
    assert await site.keys("schedd-status") == []
    assert (await site.request("status.get"))["leader"]["replica"] == "a"


async def test_a_trigger_runs_once_per_nonce(site: Site) -> None:
    """The same nonce, asked many times at once, is one execution; without a nonce each request is its own."""
    await site.replicas("a", "b")
    worker = site.worker("default")
    await site.put("hand", {"manual": True, "queue": "default", "type": "by-hand", "overlap": "allow"})
    await asyncio.sleep(1)
    request = {"id": "hand", "nonce": "once", "payload": {"x": 1}}
    replies = await asyncio.gather(*(site.request("schedule.trigger", request) for _ in range(8)))
    assert len({reply["execution_id"] for reply in replies}) == 1, replies
    more = await asyncio.gather(*(site.request("schedule.trigger", {"id": "hand"}) for _ in range(3)))
    assert len({reply["execution_id"] for reply in more}) == 3, more
    wanted = {reply["execution_id"] for reply in (*replies, *more)}

    async def done() -> bool:
        records = await site.records()
        return {id_ for id_, record in records.items() if record["state"] == "succeeded"} == wanted

    await eventually(done, what="four executions to succeed")
    assert sorted(each.id for each in worker.deliveries()) == sorted(wanted)
    [first] = [each for each in worker.deliveries() if each.id == replies[0]["execution_id"]]
    assert json.loads(first.body) == {"x": 1}
    assert first.headers["Schedd-Kind"] == "manual"


async def test_a_pause_with_an_end_ends_by_itself(site: Site) -> None:
    """`paused_until` in the raw value: quiet until then, on the grid after, without anybody's help."""
    await site.replicas("a", "b")
    worker = site.worker("default")
    put = await site.put("tick", TICK)
    await asyncio.sleep(2)
    until = utc_now().replace(microsecond=0) + 4 * SECOND
    paused = await site.put("tick", {**TICK, "paused": True, "paused_until": until.isoformat()})
    await asyncio.sleep(8)
    nominals = sorted(each.nominal_at for each in worker.deliveries())
    quiet = [at for at in nominals if paused.at + SECOND < at < until]
    assert not quiet
    assert until in nominals, "half-open: the end of the pause is not in it"
    after = [at for at in nominals if at >= until]
    assert after == [until + number * SECOND for number in range(len(after))]
    assert len(after) >= 3
    assert datetime.fromisoformat(put.at.isoformat()) < nominals[0]
