"""What provisioning refuses, with one sentence and an exit code: foreign streams, servers that cannot or do not."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from nats.aio.client import Client

from scheduler.core.errors import InvalidArgument, Unavailable
from scheduler.jetstream.provisioning import check_server, provision
from scheduler.jetstream.requests import Requests
from scheduler.wire.names import Names
from tests.integration.provisioned import EVERYTHING, NAMES, config_of
from tests.nats_servers import Server, connected


async def test_a_foreign_stream_in_our_place(requests: Requests) -> None:
    """A stream of that name with another retention is neither used nor touched: one sentence says what to do."""
    foreign = {"name": "SCHEDD_TASKS", "subjects": ["x"], "retention": "limits", "storage": "file"}
    await requests.api("STREAM.CREATE.SCHEDD_TASKS", foreign)
    with pytest.raises(InvalidArgument, match="SCHEDD_TASKS exists with retention 'limits', schedd needs 'workqueue'"):
        await provision(requests, NAMES)
    assert (await config_of(requests, "SCHEDD_TASKS"))["subjects"] == ["x"]


async def test_somebody_holds_our_subjects(requests: Requests) -> None:
    """A stream of another name on one of our subjects is told at once, with the step that met it."""
    foreign = {"name": "OTHER", "subjects": ["schedd.>"], "storage": "file"}
    await requests.api("STREAM.CREATE.OTHER", foreign)
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"stream SCHEDD_.*overlap"):
        await provision(requests, NAMES)
    assert time.monotonic() - began < 5


async def test_more_replicas_than_servers(requests: Requests, caplog: pytest.LogCaptureFixture) -> None:
    """Three replicas on a single server are refused at the first start, and only warned of when streams exist."""
    with pytest.raises(InvalidArgument, match="--stream-replicas 1"):
        await provision(requests, NAMES, replicas=3)
    await provision(requests, Names("second"), replicas=1)
    caplog.set_level(logging.WARNING)
    assert await provision(requests, Names("second"), replicas=3) == []
    assert any(record.__dict__.get("event") == "replicas_not_changed" for record in caplog.records)


async def test_jetstream_is_off(tmp_path: Path) -> None:
    """One clear sentence at once, exit code 5."""
    server = Server(tmp_path / "nats", jetstream=False)
    await server.start()
    began = time.monotonic()
    async with connected(server.url) as requests:
        with pytest.raises(Unavailable, match="JetStream is off") as caught:
            await provision(requests, NAMES)
    assert caught.value.exit_code == 5
    assert time.monotonic() - began < 3
    await server.kill()


async def test_jetstream_is_off_for_the_account(tmp_path: Path) -> None:
    """The same when the server has JetStream and our account does not."""
    accounts = "accounts { A { users: [ {user: a, password: a} ] }, B { jetstream: enabled, users: [ {user: b} ] } }"
    server = Server(tmp_path / "nats", config=accounts)
    await server.start()
    async with connected(server.url.replace("//", "//a:a@")) as requests:
        with pytest.raises(Unavailable, match="JetStream is off for this NATS account"):
            await provision(requests, NAMES)
    await server.kill()


@pytest.mark.parametrize(
    ("version", "good"), [((2, 13, 9), False), ((1, 99, 0), False), ((2, 14, 0), True), ((3, 0, 0), True)]
)
def test_old_servers(version: tuple[int, int, int], good: bool) -> None:
    """Before 2.14 there are no schedules of the kind we need: one clear sentence with both versions, exit code 5."""
    major, minor, patch = version
    client = SimpleNamespace(connected_server_version=SimpleNamespace(major=major, minor=minor, patch=patch))
    if good:
        check_server(cast("Client", client))
        return
    with pytest.raises(
        Unavailable, match=rf"needs nats-server 2\.14 or later, this one is {major}\.{minor}\.{patch}"
    ) as caught:
        check_server(cast("Client", client))
    assert caught.value.exit_code == 5


async def test_a_server_that_hangs(nats_server: Server, requests: Requests) -> None:
    """Every call is bounded, and so is the whole: the step that hangs is named."""
    nats_server.pause()
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"JetStream: not ready after"):
        await provision(requests, NAMES, total_s=3)
    assert time.monotonic() - began < 6
    nats_server.resume()
    assert len(await provision(requests, NAMES)) == EVERYTHING
