"""The Python client, against a real NATS server and a stand-in for the daemon's API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from nats.aio.client import Client as NatsClient

from scheduler.client import Client, calls, first, nouns
from scheduler.client.requests import is_stored
from scheduler.core.errors import Conflict, InvalidArgument, NotFound, ScheddError, Unavailable, Unsure
from scheduler.wire.schedule_json import encode_document
from tests.integration.fake_daemon import FakeDaemon, connected, execution, nats_server

HELLO = {"every": "10s", "queue": "default", "type": "hello"}


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[NatsClient]:
    async with nats_server(tmp_path) as url, connected(url) as client:
        yield client


@pytest.fixture
async def daemon(connection: NatsClient) -> FakeDaemon:
    daemon = FakeDaemon()
    await daemon.serve(connection)
    return daemon


@pytest.fixture
def client(connection: NatsClient, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client with little patience: what takes seconds in production takes a moment here."""
    monkeypatch.setattr(calls, "PAUSES_S", (0.01,))
    monkeypatch.setattr(calls, "NOBODY_S", 0.05)
    return Client(connection, timeout_s=3.0)


def silence() -> None:
    """A fault: the request is carried out and never answered."""


def away() -> ScheddError:
    """A fault: carried out, but the answer is `unavailable`, as in "stored, not yet applied"."""
    return Unavailable("not yet applied")


async def test_every_verb(client: Client, daemon: FakeDaemon) -> None:
    """Each method asks its endpoint and returns its body."""
    put = await client.schedules.put("a", HELLO)
    assert put.revision == 1
    item = await client.schedules.get("a")
    assert item.definition == HELLO
    assert item.status.state == "active"
    assert (await client.schedules.pause("a", note="n")).revision == 2
    assert (await client.schedules.resume("a")).revision == 3
    assert (await client.schedules.trigger("a", nonce="n1")).execution_id.endswith("-mn1")
    assert len(await client.schedules.preview("a", count=4)) == 4
    daemon.executions = [execution()]
    assert (await client.executions.get(daemon.executions[0]["id"])).duration_s == 0.25
    status = await client.status()
    assert status.leader is not None
    assert status.leader.epoch == 7
    assert (await client.schedules.delete("a")).id == "a"


async def test_lists_go_through_all_pages(client: Client, daemon: FakeDaemon) -> None:
    """A list is one iteration, however many pages it is."""
    for number in range(5):
        daemon.put(f"s{number}", HELLO)
    assert [item.id async for item in client.schedules.list()] == [f"s{number}" for number in range(5)]
    daemon.executions = [execution(number=number) for number in range(3)]
    assert [record.id async for record in client.executions.list(schedule="hello")] == [
        record["id"] for record in daemon.executions
    ]


async def test_first_asks_for_no_more_pages_than_it_needs(client: Client, daemon: FakeDaemon) -> None:
    """Two of five items, at two a page, are one request."""
    for number in range(5):
        daemon.put(f"s{number}", HELLO)
    assert len([item async for item in first(client.schedules.list(), 2)]) == 2
    assert len(daemon.requests) == 1


async def test_errors_are_classes(client: Client, daemon: FakeDaemon) -> None:
    """An error reply is raised as its class, with message and field, and is not repeated."""
    with pytest.raises(NotFound) as caught:
        await client.schedules.get("a")
    assert caught.value.field == "id"
    with pytest.raises(InvalidArgument, match="never"):
        await client.schedules.put("a", {"cron": "never"})
    await client.schedules.put("a", HELLO, expected_revision=0)
    with pytest.raises(Conflict):
        await client.schedules.put("a", {**HELLO, "every": "1s"}, expected_revision=0)
    assert len(daemon.requests) == 4


@pytest.mark.parametrize("fault", [silence, away])
async def test_reads_are_repeated(
    client: Client, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], ScheddError | None]
) -> None:
    """A read survives a daemon that is silent or electing, and only costs time."""
    monkeypatch.setattr(calls, "READ", calls.Patience(0.1, 2.0))
    daemon.put("a", HELLO)
    daemon.faults = [fault, fault]
    assert (await client.schedules.get("a")).id == "a"
    assert len(daemon.requests) == 3


@pytest.mark.parametrize("expected", [None, 0])
@pytest.mark.parametrize("fault", [silence, away])
async def test_a_put_without_an_answer_lands_once(
    client: Client, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], ScheddError | None],
    expected: int | None,
) -> None:  # fmt: skip
    """A put whose answer was lost is repeated; what it stored the first time is recognised."""
    patient(monkeypatch)
    daemon.faults = [fault]
    assert (await client.schedules.put("a", HELLO, expected_revision=expected)).revision == 1
    assert daemon.schedules == {"a": (1, HELLO)}


async def test_a_put_that_lost_against_another_is_a_conflict(
    client: Client, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a lost answer a foreign definition under the id is not taken for ours."""
    patient(monkeypatch)

    def overtaken() -> None:
        daemon.put("a", {**HELLO, "every": "1h"})

    daemon.faults = [overtaken]
    with pytest.raises(Conflict):
        await client.schedules.put("a", HELLO, expected_revision=0)
    assert daemon.schedules["a"][1]["every"] == "1h"


@pytest.mark.parametrize(("kept", "same"), [({"paused": True, "pause_note": "x"}, True), ({"name": "x"}, False)])
async def test_a_kept_pause_is_still_the_same_definition(kept: dict[str, object], same: bool) -> None:
    """A put without state fields keeps the stored pause: that alone makes no foreign definition."""
    sent, stored = encode_document(HELLO), encode_document({**HELLO, **kept})
    assert is_stored(sent, stored) is same


async def test_a_delete_without_an_answer_is_unsure(
    client: Client, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be repeated safely is sent once, and the error says that nobody knows."""
    monkeypatch.setattr(nouns, "ONCE", calls.Patience(0.1, 0.0))
    daemon.put("a", HELLO)
    daemon.faults = [silence, silence]
    with pytest.raises(Unsure):
        await client.schedules.delete("a")
    assert len(daemon.requests) == 1


async def test_a_trigger_is_repeated_with_its_nonce(
    client: Client, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repeats of a trigger carry one nonce, so that the daemon answers with one execution."""
    patient(monkeypatch)
    daemon.put("a", HELLO)
    daemon.faults = [silence, away]
    await client.schedules.trigger("a")
    nonces = {body["nonce"] for _, body in daemon.requests}
    assert len(daemon.requests) == 3
    assert len(nonces) == 1


async def test_nobody_is_told_with_the_namespace(connection: NatsClient, client: Client) -> None:
    """No responders: Unavailable that names namespace and server, for reads and writes alike."""
    with pytest.raises(Unavailable, match=r"namespace 'schedd' at 127\.0\.0\.1:\d+"):
        await client.status()
    with pytest.raises(Unavailable, match="schedd run"):
        await client.schedules.put("a", HELLO, expected_revision=0)


async def test_a_replica_that_comes_back_is_waited_for(
    connection: NatsClient, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nobody has the request, even a write is repeated for a moment."""
    monkeypatch.setattr(calls, "NOBODY_S", 2.0)
    daemon = FakeDaemon()
    daemon.put("a", HELLO)
    deleting = asyncio.create_task(client.schedules.delete("a"))
    await asyncio.sleep(0.1)
    await daemon.serve(connection)
    assert (await deleting).id == "a"


async def test_a_call_is_bounded_whatever_happens(client: Client, daemon: FakeDaemon, connection: NatsClient) -> None:
    """A daemon that never answers costs `timeout_s`, for a put with all its repeats too."""
    daemon.faults = [silence] * 100
    impatient = Client(connection, timeout_s=0.3)
    begin = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable):
        await impatient.schedules.put("a", HELLO, expected_revision=0)
    assert asyncio.get_running_loop().time() - begin < 1.5


async def test_a_lost_connection_is_unavailable(client: Client, connection: NatsClient) -> None:
    """A closed connection is told as such, not as an exception of the library."""
    await connection.close()
    with pytest.raises(Unavailable):
        await client.status()


async def test_instants_and_inputs_are_checked_here(client: Client, daemon: FakeDaemon) -> None:
    """Bad input is refused before anything is sent; a datetime of any zone is sent in UTC."""
    berlin = datetime(2026, 11, 21, 9, tzinfo=timezone(timedelta(hours=1)))
    await client.schedules.preview("a", after=berlin)
    assert daemon.requests[-1][1]["after"] == "2026-11-21T08:00:00.000Z"
    sent = len(daemon.requests)
    for call in (
        client.schedules.get("a..b"),
        client.schedules.put("a", {"payload": float("nan")}),
        client.schedules.put("a", {"payload": datetime.now(UTC)}),
        client.schedules.preview("a", after=datetime(2026, 11, 21)),  # noqa: DTZ001 (naive on purpose)
        client.schedules.preview(),
        client.schedules.trigger("a", nonce="a b"),
        client.schedules.pause("a", until="tomorrow"),
    ):
        with pytest.raises(InvalidArgument):
            await call
    assert len(daemon.requests) == sent


async def test_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Client.connect` takes the environment, and closes what it opened."""
    async with nats_server(tmp_path) as url, connected(url) as other:
        daemon = FakeDaemon()
        await daemon.serve(other, "team1")
        monkeypatch.setenv("NATS_URL", url)
        monkeypatch.setenv("SCHEDD_NAMESPACE", "team1")
        async with Client.connect() as client:
            assert (await client.status()).server == "2.15.1"
        assert client.connection.is_closed


def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short tries, repeated."""
    monkeypatch.setattr(nouns, "ONCE", calls.Patience(0.1, 0.0))
    monkeypatch.setattr(nouns, "REPEATED", calls.Patience(0.1, 2.0))


@pytest.mark.parametrize("fault", [silence, away])
async def test_a_retry_without_an_answer_is_one_retry(
    client: Client, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], ScheddError | None]
) -> None:
    """Asked again for the drive that was seen, it is answered with the one that the first request opened."""
    monkeypatch.setattr(nouns, "REPEATED", calls.Patience(0.1, 2.0))
    daemon.executions = [execution(state="failed")]
    name = daemon.executions[0]["id"]
    daemon.faults = [fault]
    assert (await client.executions.retry(name, payload={"n": 2}, expected_drive=0)).drive == 1
    asked = [body for endpoint, body in daemon.requests if endpoint == "execution.retry"]
    assert asked == [{"id": name, "payload": {"n": 2}, "expected_drive": 0}] * 2
    daemon.executions[0]["state"] = "failed"
    assert (await client.executions.retry(name)).drive == 2, "it looks which drive has ended, if nobody says so"
