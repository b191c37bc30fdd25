"""Advisories and metrics of the server, as captured from nats-server 2.15.1."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from scheduler.core.errors import InvalidArgument
from scheduler.wire.advisories import decode_advisory
from scheduler.wire.names import Names

NAMES = Names()
ACK = {
    "type": "io.nats.jetstream.metric.v1.consumer_ack",
    "id": "6nYzYx7cVbYxqK1a",
    "timestamp": "2026-11-21T08:54:51.304123456Z",
    "stream": "SCHEDD_TASKS",
    "consumer": "EMAIL",
    "consumer_seq": 1,
    "stream_seq": 42,
    "ack_time": 1234567,
    "deliveries": 3,
}


@pytest.mark.parametrize(
    ("kind_of_type", "kind"),
    [
        ("metric.v1.consumer_ack", "ack"),
        ("advisory.v1.nak", "nak"),
        ("advisory.v1.terminated", "term"),
        ("advisory.v1.max_deliver", "max_deliveries"),
    ],
)
def test_kinds(kind_of_type: str, kind: str) -> None:
    """Each of the four kinds is read: queue, sequence, deliveries, time cut to milliseconds."""
    body = json.dumps(ACK | {"type": f"io.nats.jetstream.{kind_of_type}"}).encode()
    found = decode_advisory(NAMES, body)
    assert (found.kind, found.queue, found.task_seq, found.deliveries) == (kind, "EMAIL", 42, 3)
    assert found.at == datetime(2026, 11, 21, 8, 54, 51, 304_000, tzinfo=UTC)
    assert found.reason is None


def test_reason() -> None:
    """What a worker wrote behind its TERM is the reason; nothing written is none."""
    terminated = ACK | {"type": "io.nats.jetstream.advisory.v1.terminated"}
    assert decode_advisory(NAMES, json.dumps(terminated | {"reason": "bad"}).encode()).reason == "bad"
    assert decode_advisory(NAMES, json.dumps(terminated | {"reason": ""}).encode()).reason is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"type": "io.nats.jetstream.advisory.v1.api_audit"}, "api_audit"),
        ({"stream": "TEAM1_TASKS"}, "TEAM1_TASKS"),
        ({"stream_seq": 0}, "stream_seq"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"consumer": None}, "consumer"),
    ],
)
def test_others(change: dict[str, object], words: str) -> None:
    """Whatever is not about a task of this namespace is refused, and the sentence says why."""
    with pytest.raises(InvalidArgument) as caught:
        decode_advisory(NAMES, json.dumps(ACK | change).encode())
    assert words in caught.value.message


@pytest.mark.parametrize("body", [b"", b"[]", b"\x80", b"[" * 5000])
def test_garbage(body: bytes) -> None:
    """Bytes that are no JSON object are refused."""
    with pytest.raises(InvalidArgument):
        decode_advisory(NAMES, body)
