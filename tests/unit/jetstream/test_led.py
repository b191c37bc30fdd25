"""A node that was cut off answers by the side of the leader, and tells the past: it says that it knows of no leader."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from nats.aio.msg import Msg

from scheduler.core.errors import Unavailable
from scheduler.jetstream.buckets import NatsBucket
from scheduler.jetstream.provisioning import births
from scheduler.jetstream.requests import Requests
from scheduler.ports.stores import StreamSeen
from scheduler.wire.names import Names

ALONE: dict[str, Any] = {"created": "2026-11-22T01:00:00Z", "state": {"last_seq": 31}}
LED = ALONE | {"cluster": {"name": "c", "leader": "n2", "replicas": []}}
PAST = ALONE | {"state": {"last_seq": 30}, "cluster": {"name": "c", "replicas": []}}


def requests_answered(*answers: dict[str, Any]) -> Requests:
    """Gives these answers in turn, and the last one for ever."""

    def bodies() -> Iterator[Msg]:
        for each in answers:
            yield Mock(data=json.dumps(each).encode())
        while True:
            yield Mock(data=json.dumps(answers[-1]).encode())

    requests = Requests(Mock())
    requests.call = AsyncMock(side_effect=bodies())  # type: ignore[method-assign]  # a server of our own
    return requests


@pytest.mark.parametrize("answer", [ALONE, LED])
async def test_the_leader_is_believed(answer: dict[str, Any]) -> None:
    """As is a server that is alone and tells of no cluster."""
    requests = requests_answered(answer)
    assert await NatsBucket(requests, "schedd-schedules").last_revision() == 31
    assert await requests.api("STREAM.INFO.X") == answer


async def test_who_knows_no_leader_is_not() -> None:
    """Neither its newest revision nor anything else that it tells of a stream or a consumer."""
    requests = requests_answered(PAST)
    for asking in (
        NatsBucket(requests, "schedd-schedules").last_revision(),
        requests.api("STREAM.INFO.X"),
        requests.api("CONSUMER.INFO.X.y"),
    ):
        with pytest.raises(Unavailable, match="has no leader"):
            await asking
    assert await requests.api("STREAM.INFO.X", by_leader=False) == PAST


async def test_changes_are_read_from_no_past() -> None:
    """A leader that was replaced meanwhile and knows less than the newest revision that was told: not "nothing new"."""
    requests = requests_answered(LED | {"state": {"last_seq": 30}})
    with pytest.raises(Unavailable, match="revision 30, and knew 31 before"):
        await NatsBucket(requests, "schedd-schedules").changes_since(30, 31)


async def test_a_stream_is_not_cut_since_somebody_tells_its_past() -> None:
    """Streams as those see them who know no leader are left out, as if they had not answered."""
    assert await births(requests_answered(PAST), Names()) == {}
    found = await births(requests_answered(LED), Names())
    assert set(found.values()) == {StreamSeen(LED["created"], 31)}
