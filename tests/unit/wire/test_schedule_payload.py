"""The payload of a schedule: kept byte for byte, within its limit, JSON or not."""

from __future__ import annotations

import base64

import pytest

from scheduler.core.errors import InvalidArgument, PayloadTooLarge
from scheduler.wire.schedule import ScheduleLimits, parse_document, parse_schedule
from tests.unit.wire.test_schedule import BASE, parse, refusal

PAYLOADS = {
    "compact": (b'{"n":1}', b'{"n":1}'),
    "spaces kept": (b'{ "n" :  1.10 }', b'{ "n" :  1.10 }'),
    "null": (b"null", b"null"),
    "text": ('"größe \\u00fc"'.encode(), '"größe \\u00fc"'.encode()),
    "large number": (b"123456789012345678901234567890", b"123456789012345678901234567890"),
    "many digits": (b"0.1000000000000000055511151231257827", b"0.1000000000000000055511151231257827"),
    "names twice": (b'{"a":1,"a":2}', b'{"a":1,"a":2}'),
    "empty list": (b"[]", b"[]"),
    "false": (b"false", b"false"),
}


@pytest.mark.parametrize("case", PAYLOADS)
def test_payload_is_kept_byte_for_byte(case: str) -> None:
    """A worker gets the payload as it stands in the stored JSON, to the last byte."""
    stored, expected = PAYLOADS[case]
    schedule = parse_schedule("mail", b'{"payload": ' + stored + b' ,"every":"1m","queue":"q","type":"t"}')
    assert (schedule.payload, schedule.payload_is_json) == (expected, True)


def test_payload_named_with_an_escape() -> None:
    """A field name written with an escape is that field."""
    schedule = parse_schedule("mail", b'{"pay\\u006coad":[1, 2],"every":"1m","queue":"q","type":"t"}')
    assert schedule.payload == b"[1, 2]"


def test_payload_base64() -> None:
    """Bytes that are no JSON come out as they went in."""
    content = bytes(range(256))
    schedule = parse({**BASE, "payload_base64": base64.b64encode(content).decode()})
    assert (schedule.payload, schedule.payload_is_json) == (content, False)
    assert parse({**BASE, "payload_base64": ""}).payload == b""


@pytest.mark.parametrize("over", [0, 1])
def test_payload_limit(over: int) -> None:
    """64 KiB are allowed and not a byte more, counted as the worker gets it; configuration may set another limit."""
    text = "x" * (65_536 - 2 + over)
    documents = (
        {**BASE, "payload": text},
        {**BASE, "payload_base64": base64.b64encode(b"x" * (65_536 + over)).decode()},
    )
    for document in documents:
        if over:
            refused = refusal(document)
            assert isinstance(refused, PayloadTooLarge)
            assert refused.field in document
            assert parse(document, ScheduleLimits(payload_bytes_max=70_000)).payload is not None
        else:
            assert len(parse(document).payload or b"") == 65_536


def test_payload_of_a_document() -> None:
    """From the API a payload becomes compact JSON; absent stays absent and null is null."""
    assert parse_document("mail", {**BASE, "payload": {"n": 1, "ä": None}}).payload == '{"n":1,"ä":null}'.encode()
    assert parse_document("mail", {**BASE, "payload": None}).payload == b"null"
    assert parse_document("mail", BASE).payload is None


@pytest.mark.parametrize("payload", [float("nan"), {"a": float("inf")}, object(), b"x", {1, 2}, "\ud800"])
def test_documents_that_are_no_json(payload: object) -> None:
    """A decoded document that JSON cannot say is invalid input, not a crash."""
    with pytest.raises(InvalidArgument) as refused:
        parse_document("mail", {**BASE, "payload": payload})
    assert refused.value.field == "payload"
