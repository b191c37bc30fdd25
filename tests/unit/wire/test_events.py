"""Events on the wire: CloudEvents 1.0."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from scheduler.core.errors import InvalidArgument
from scheduler.wire.events import decode_event, encode_event
from scheduler.wire.names import Names

AT = datetime(2026, 11, 21, 8, tzinfo=UTC)


def encoded(schedule_id: str | None = "a.b", **data: object) -> bytes:
    return encode_event(Names("team1"), event_id="e1", kind="verdicts", schedule_id=schedule_id, at=AT, data=data)


def test_attributes() -> None:
    """Every attribute that CloudEvents requires is there, as the contract names them."""
    assert json.loads(encoded(count=3)) == {
        "specversion": "1.0",
        "id": "e1",
        "source": "/schedd/team1",
        "type": "schedd.verdicts",
        "subject": "a.b",
        "time": "2026-11-21T08:00:00.000Z",
        "datacontenttype": "application/json",
        "data": {"count": 3},
    }


def test_instants_in_data() -> None:
    """Instants have three decimals, however deep they stand."""
    body = json.loads(encoded(at=AT, deep=[{"at": AT + timedelta(milliseconds=5)}]))
    assert body["data"] == {"at": "2026-11-21T08:00:00.000Z", "deep": [{"at": "2026-11-21T08:00:00.005Z"}]}


def test_read_back() -> None:
    """An event reads back; without a schedule its subject is `_`."""
    event = decode_event(encoded(None, reason="late"))
    assert (event.id, event.kind, event.schedule_id, event.at) == ("e1", "verdicts", None, AT)
    assert event.data == {"reason": "late"}
    assert json.loads(encoded(None))["subject"] == "_"


def test_what_is_no_json() -> None:
    """Data that JSON cannot hold is refused."""
    with pytest.raises(InvalidArgument, match="verdicts"):
        encoded(thing=object())
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(InvalidArgument):
        encoded(loop=loop)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"\xff",
        b'{"specversion":"1.0","id":"1","source":"x","type":"other.kind","subject":"_","time":"2026-11-21T08:00:00Z"}',
        b'{"specversion":"1.0","id":"1","source":"x","type":"schedd.x","subject":"_","time":"2026-11-21T08:00:00"}',
    ],
)
def test_garbage(body: bytes) -> None:
    """What is no event of schedd is refused."""
    with pytest.raises(InvalidArgument):
        decode_event(body)
