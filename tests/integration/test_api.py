"""The API on a real server: the micro service, the client, and a leader that applies what they write."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client as NatsClient
from nats.micro.service import ServiceInfo, ServicePing, ServiceStats

from scheduler.client import Client
from scheduler.core.errors import Conflict, InvalidArgument, NotFound, Unavailable
from scheduler.wire import api
from tests.integration.api_stage import Replica, replica, user
from tests.nats_servers import Server

HELLO = {"every": "10s", "queue": "default", "type": "hello", "payload": {"n": 1}}


@pytest.fixture
async def daemon(nats_server: Server) -> AsyncIterator[Replica]:
    async with replica(nats_server.url) as found:
        yield found


@pytest.fixture
async def client(daemon: Replica) -> AsyncIterator[Client]:
    async with user(daemon.url) as (found, _):
        yield found


async def raw(connection: NatsClient, endpoint: str, body: bytes) -> tuple[dict[str, str], Any]:
    reply = await connection.request(f"schedd.api.v1.{endpoint}", body, timeout=8)
    return dict(reply.headers or {}), json.loads(reply.data)


async def test_a_schedule_lives_through_the_client(client: Client, daemon: Replica) -> None:
    """Put, get, pause, resume, list and delete do what they say, and each write is applied when it is answered."""
    put = await client.schedules.put("hello", HELLO)
    mark = await daemon.adapters.timeline.watermark()
    assert mark is not None
    assert mark.watermark is not None
    assert mark.watermark.applied >= put.revision
    assert put.generation == put.revision
    assert len(put.next) == 5
    assert put.next == sorted(put.next)
    assert all(at.endswith("0.000Z") for at in put.next), "on the grid of 10 s"

    same = await client.schedules.put("hello", {**HELLO})
    assert same.revision == put.revision, "an equal definition is not written again"

    paused = await client.schedules.pause("hello", note="holiday")
    kept = await client.schedules.put("hello", {**HELLO, "type": "other"})
    item = await client.schedules.get("hello")
    assert kept.revision > paused.revision
    assert kept.next == []
    assert item.definition == {**HELLO, "type": "other", "paused": True, "pause_note": "holiday"}
    assert item.status.state == "paused"
    assert item.status.next_at is None

    await client.schedules.resume("hello")
    assert (await client.schedules.get("hello")).status.state == "active"
    assert [each.id async for each in client.schedules.list()] == ["hello"]
    await client.schedules.delete("hello")
    with pytest.raises(NotFound):
        await client.schedules.get("hello")
    again = await client.schedules.put("hello", HELLO, expected_revision=0)
    assert again.revision > put.revision, "a delete marker is no obstacle"


async def test_expectations_hold(client: Client) -> None:
    """`expected_revision` 0 creates only, n replaces only n."""
    first = await client.schedules.put("a", HELLO, expected_revision=0)
    with pytest.raises(Conflict, match="exists already"):
        await client.schedules.put("a", {**HELLO, "type": "b"}, expected_revision=0)
    second = await client.schedules.put("a", {**HELLO, "type": "b"}, expected_revision=first.revision)
    with pytest.raises(Conflict, match=f"at revision {second.revision}, not {first.revision}"):
        await client.schedules.put("a", HELLO, expected_revision=first.revision)
    with pytest.raises(Conflict, match="does not exist"):
        await client.schedules.put("b", HELLO, expected_revision=7)


async def test_errors_carry_their_headers(daemon: Replica, client: Client) -> None:
    """An error reply has the number, the code word and a body that names the field."""
    headers, body = await raw(client.connection, "schedule.put", b'{"id":"x","schedule":{"evry":"1s"}}')
    assert headers["Nats-Service-Error-Code"] == "400"
    assert headers["Nats-Service-Error"] == "invalid_argument"
    assert body["code"] == "invalid_argument"
    assert body["field"] == "evry"
    assert "every" in body["message"]
    headers, body = await raw(client.connection, "schedule.put", b"\xff garbage")
    assert (headers["Nats-Service-Error-Code"], body["code"]) == ("400", "invalid_argument")
    headers, body = await raw(client.connection, "execution.get", b'{"id":"x.20261121T080000000Z"}')
    assert (headers["Nats-Service-Error-Code"], body["code"], body["field"]) == ("404", "not_found", "id")
    assert daemon.telemetry.count("api_request", endpoint="schedule.put", code="invalid_argument") == 2


async def test_a_value_that_is_no_json_is_shown(daemon: Replica, client: Client) -> None:
    """Whatever bytes somebody puts into the bucket: get shows them and says what is wrong, other schedules go on."""
    await daemon.adapters.schedules.put("broken", b"\x00\xff not json")
    await daemon.adapters.schedules.put("typo", b'{"evry":"1s","queue":"q","type":"t"}')
    broken, typo = await client.schedules.get("broken"), await client.schedules.get("typo")
    assert bytes(broken.schedule) == b"null"
    assert base64.b64decode(broken.raw_base64 or "") == b"\x00\xff not json"
    assert broken.status.state == "invalid"
    assert broken.status.error
    assert typo.definition == {"evry": "1s", "queue": "q", "type": "t"}
    assert typo.status.error is not None
    assert "evry" in typo.status.error
    with pytest.raises(InvalidArgument, match="put a valid schedule first"):
        await client.schedules.pause("broken")
    assert (await client.schedules.put("hello", HELLO)).next
    assert [item.id async for item in client.schedules.list(state="invalid")] == ["broken", "typo"]
    assert (await client.status()).schedules == api.ScheduleCounts(active=1, paused=0, invalid=2)


async def test_a_trigger_becomes_a_task_once(daemon: Replica, client: Client) -> None:
    """A manual run is queued although the schedule is paused; its nonce, repeated, answers with the same execution."""
    await client.schedules.put("hello", {**HELLO, "paused": True, "every": "1h"})
    first = await client.schedules.trigger("hello", nonce="n1", payload={"n": 2})
    again = await client.schedules.trigger("hello", nonce="n1", payload={"n": 3})
    assert first.state == "queued"
    assert first.execution_id.endswith("Z-mn1")
    assert again == first
    record = await client.executions.get(first.execution_id)
    assert (record.kind, record.state, record.payload) == ("manual", "queued", msgspec.Raw(b'{"n":2}'))

    js = client.connection.jetstream()
    worker = await js.pull_subscribe_bind("default", "SCHEDD_TASKS")
    (task,) = await worker.fetch(10, timeout=1)
    assert task.data == b'{"n":2}'
    assert task.headers is not None
    assert task.headers["Schedd-Execution-Id"] == first.execution_id
    assert task.headers["Schedd-Kind"] == "manual"

    skipped = await client.schedules.trigger("hello")
    allowed = await client.schedules.trigger("hello", overlap="allow")
    assert (skipped.state, allowed.state) == ("skipped", "queued"), "the first one holds the slot"
    found = [record.id async for record in client.executions.list(schedule="hello")]
    assert sorted(found) == sorted([first.execution_id, skipped.execution_id, allowed.execution_id])
    assert [record.id async for record in client.executions.list()] == found
    assert [record.id async for record in client.executions.list(state="skipped")] == [skipped.execution_id]


async def test_preview_of_stored_and_given(client: Client) -> None:
    """Preview tells the next fires of a stored schedule and of a definition nobody stored."""
    await client.schedules.put("hello", HELLO)
    stored = await client.schedules.preview("hello", after="2027-01-01T00:00:00Z", count=2)
    assert [fire.nominal_at for fire in stored] == ["2027-01-01T00:00:10.000Z", "2027-01-01T00:00:20.000Z"]
    berlin = {"cron": "0 9 * * *", "timezone": "Europe/Berlin", "queue": "q", "type": "t"}
    given = await client.schedules.preview(schedule=berlin, after="2027-01-01T00:00:00Z", count=120)
    assert len(given) == 120
    assert given[0].local.startswith("2027-01-01T09:00:00")
    with pytest.raises(NotFound):
        await client.schedules.preview("nobody")


async def test_status_names_leader_and_replicas(daemon: Replica, client: Client) -> None:
    """Status names the leader with its epoch, every replica that answers, the watermark, the versions."""
    async with replica(daemon.url, "b", leads=False):
        status = await client.status()
    assert status.leader is not None
    assert status.leader.replica == "a"
    assert status.leader.epoch > 0
    assert [each.replica for each in status.replicas] == ["a", "b"]
    assert {each.version for each in status.replicas} == {"0.1.0"}
    assert status.planned_until is not None
    assert status.server.startswith("2.")
    assert status.tzdata.startswith("20")


async def test_without_a_leader_the_answer_is_honest(nats_server: Server) -> None:
    """Nobody applies the edit: it is stored, and the answer says so and that it is not applied."""
    async with replica(nats_server.url, leads=False, apply_wait_s=0.3) as daemon, user(daemon.url) as (client, _):
        with pytest.raises(Unavailable, match="stored as revision 1, not yet applied"):
            await client.calls.call(
                "schedule.put", api.PutSchedule(id="a", schedule=msgspec.Raw(json.dumps(HELLO).encode())), api.PutReply
            )
        assert (await client.schedules.get("a")).revision == 1
        assert (await client.status()).leader is None


async def test_other_tools_know_the_service(daemon: Replica, client: Client) -> None:
    """PING, INFO and STATS read as the NATS libraries read them, endpoints and counts included."""
    await client.schedules.put("hello", HELLO)
    with pytest.raises(NotFound):
        await client.schedules.get("nobody")
    replies = {
        verb: json.loads((await client.connection.request(f"$SRV.{verb}.schedd", timeout=2)).data)
        for verb in ("PING", "INFO", "STATS")
    }
    ping, info = ServicePing.from_dict(replies["PING"]), ServiceInfo.from_dict(replies["INFO"])
    stats = ServiceStats.from_dict(
        replies["STATS"] | {"endpoints": [each | {"data": None} for each in replies["STATS"]["endpoints"]]}
    )
    assert ping.name == info.name == stats.name == "schedd"
    assert ping.metadata["replica"] == "a"
    assert {each.subject for each in info.endpoints} == {daemon.names.api(each) for each in daemon.api.endpoints}
    by_name = {each.name: each for each in stats.endpoints}
    assert by_name["schedule-put"].num_requests == 1
    assert by_name["schedule-put"].num_errors == 0
    assert by_name["schedule-get"].num_errors == 1
    assert by_name["schedule-get"].processing_time > 0


async def test_slow_requests_hold_up_nobody(nats_server: Server) -> None:
    """While a hundred puts wait to be applied, a get is answered at once."""
    async with replica(nats_server.url, leads=False, apply_wait_s=2.0) as daemon, user(daemon.url) as (client, _):
        body = json.dumps({"id": "a", "schedule": HELLO}).encode()
        waiting = [asyncio.create_task(raw(client.connection, "schedule.put", body)) for _ in range(100)]
        while await daemon.adapters.schedules.last_revision() == 0:
            await asyncio.sleep(0.05)
        assert not any(each.done() for each in waiting)
        async with asyncio.timeout(1.0):
            assert (await client.schedules.get("a")).id == "a"
        answers = await asyncio.gather(*waiting)
        assert {body["code"] for _, body in answers} == {"unavailable"}
        assert (await daemon.adapters.schedules.last_revision()) == 1, "equal definitions were written once"


async def test_beyond_its_limit_a_replica_says_so(nats_server: Server) -> None:
    """Of five requests at once a replica with room for two refuses three, at once, and each refusal is counted."""
    async with (
        replica(nats_server.url, leads=False, apply_wait_s=1.0, concurrent_max=2) as daemon,
        user(daemon.url) as (client, _),
    ):
        body = json.dumps({"id": "a", "schedule": HELLO}).encode()
        answers = await asyncio.gather(*(raw(client.connection, "schedule.put", body) for _ in range(5)))
        messages = sorted(answer["message"] for _, answer in answers)
        assert sum("not yet applied" in message for message in messages) == 2
        assert sum("answering 2 requests already" in message for message in messages) == 3
        assert daemon.telemetry.count("api_request", endpoint="schedule.put", code="unavailable") == 5
        assert (await client.schedules.get("a")).id == "a", "then there is room again"


async def test_an_answer_that_no_server_carries_is_an_error(nats_server: Server) -> None:
    """With a small max_payload a large answer becomes an error that says so, instead of silence."""
    await nats_server.stop()
    nats_server.configure("max_payload: 65536")
    await nats_server.start()
    async with replica(nats_server.url) as daemon, user(daemon.url) as (client, _):
        for number in range(3):
            big = {"manual": True, "queue": "q", "type": "t", "payload": "x" * 40_000}
            await daemon.adapters.schedules.put(f"a{number}", json.dumps(big).encode())
        headers, body = await raw(client.connection, "schedule.list", b"{}")
        assert (headers["Nats-Service-Error-Code"], body["code"]) == ("413", "payload_too_large")
        _, page = await raw(client.connection, "schedule.list", b'{"limit":1}')
        assert len(page["items"]) == 1


async def test_a_stopping_service_answers_what_it_has(nats_server: Server) -> None:
    """Requests that wait when a replica stops are answered, not dropped; then nobody serves."""
    async with replica(nats_server.url, leads=False, apply_wait_s=60.0) as daemon, user(daemon.url) as (client, _):
        body = json.dumps({"id": "a", "schedule": HELLO}).encode()
        waiting = [asyncio.create_task(raw(client.connection, "schedule.put", body)) for _ in range(10)]
        await asyncio.sleep(0.2)
        await daemon.service.stop(0.1)
        answers = await asyncio.gather(*waiting)
        assert {body["code"] for _, body in answers} == {"unavailable"}
        assert {headers["Nats-Service-Error-Code"] for headers, _ in answers} == {"503"}


async def test_no_request_is_lost_when_a_replica_leaves(daemon: Replica, client: Client) -> None:
    """Of two replicas one leaves under load: every request is answered."""
    await client.schedules.put("hello", HELLO)
    async with replica(daemon.url, "b", leads=False) as other:
        waiting = []
        for number in range(400):
            waiting.append(asyncio.create_task(raw(client.connection, "schedule.get", b'{"id":"hello"}')))
            if number == 200:
                stopping = asyncio.create_task(other.service.stop())
            await asyncio.sleep(0.0005)
        answers = await asyncio.gather(*waiting)
        await stopping
    assert {body.get("id") for _, body in answers} == {"hello"}
    assert other.telemetry.count("api_request", code="ok") > 0, "it had a share of them"


async def test_it_serves_again_after_the_server_came_back(nats_server: Server) -> None:
    """The server is killed and comes back: the service answers again by itself, and so does discovery."""
    async with replica(nats_server.url) as daemon, user(daemon.url) as (client, _):
        await client.schedules.put("hello", HELLO)
        await nats_server.kill()
        await nats_server.start()
        async with asyncio.timeout(15):
            while True:
                try:
                    assert (await client.schedules.get("hello")).id == "hello"
                    break
                except Unavailable:
                    await asyncio.sleep(0.1)
        assert [each.replica for each in (await client.status()).replicas] == ["a"]


async def test_pages_end_before_an_answer_is_too_large(daemon: Replica, client: Client) -> None:
    """Thirty definitions of 60 KB come in several pages, each of which the server can carry."""
    big = {**HELLO, "payload": "x" * 60_000, "manual": True}
    del big["every"]
    for number in range(30):
        await daemon.adapters.schedules.put(f"big-{number:02d}", json.dumps(big).encode())
    assert [item.id async for item in client.schedules.list()] == [f"big-{number:02d}" for number in range(30)]
    _, page = await raw(client.connection, "schedule.list", b'{"limit":1000}')
    assert 10 < len(page["items"]) < 30
    assert page["cursor"] == page["items"][-1]["id"]
