"""The API's bodies: strict requests, lenient replies, one error shape."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import UNSET, Raw

from scheduler.core.errors import OUTCOMES, Conflict, Internal, InvalidArgument, NotFound, PayloadTooLarge
from scheduler.wire import api


@pytest.mark.parametrize(
    ("body", "field", "word"),
    [
        (b'{"id":1}', "id", "expected text, got a whole number"),
        (b'{"id":"a","note":1}', "note", "expected text or null, got a whole number"),
        (b'{"id":null}', "id", "expected text, got null"),
        (b'{"id":"a","notee":"x"}', "notee", "no such field"),
        (b"{}", "id", "required"),
        (b"", "id", "required"),
        (b"[]", None, "expected an object"),
        (b"{", None, "not JSON"),
        (b'{"id":"\xff"}', None, "not JSON"),
        (b'{"id":"a","note":"' + b"x" * 1025 + b'"}', "note", "length"),
    ],
)
def test_a_bad_request_names_the_field(body: bytes, field: str | None, word: str) -> None:
    """Whatever is wrong with a request becomes InvalidArgument with the field in it, never another exception."""
    with pytest.raises(InvalidArgument, match=word) as caught:
        api.decode_request(body, api.PauseSchedule)
    assert caught.value.field == field


@pytest.mark.parametrize("body", [b'{"limit":0}', b'{"limit":1001}', b'{"limit":"5"}', b'{"state":"odd"}'])
def test_list_limits_are_checked(body: bytes) -> None:
    """A list takes limits of 1 to 1000 and known states only."""
    with pytest.raises(InvalidArgument):
        api.decode_request(body, api.ListSchedules)


def test_an_empty_body_is_an_empty_request() -> None:
    """A request with only optional fields may come without a body, as `nats req` sends it."""
    assert api.decode_request(b"", api.ListSchedules) == api.ListSchedules()
    assert api.ListSchedules().limit == 100


def test_deep_nesting_is_refused_quietly() -> None:
    """A body that nests without end is an invalid argument, not a crash."""
    with pytest.raises(InvalidArgument):
        api.decode_request(b'{"id":"a","note":' + b"[" * 100_000, api.PauseSchedule)


def test_no_payload_is_not_a_null_payload() -> None:
    """`trigger` tells an absent payload from `null`, both ways."""
    absent = api.decode_request(b'{"id":"a"}', api.TriggerSchedule)
    null = api.decode_request(b'{"id":"a","payload":null}', api.TriggerSchedule)
    assert absent.payload is UNSET
    assert isinstance(null.payload, Raw)
    assert bytes(null.payload) == b"null"
    assert api.encode(absent) == b'{"id":"a"}'
    assert api.encode(null) == b'{"id":"a","payload":null}'


def test_definitions_travel_byte_for_byte() -> None:
    """What was stored is what is shown: no reordering, no reformatting of numbers."""
    stored = b'{"b" : 1.50, "a":12345678901234567890}'
    item = api.ScheduleItem(
        id="x", revision=3, generation=3, schedule=Raw(stored), status=api.ScheduleStatus(state="active")
    )
    body = api.encode(item)
    assert stored in body
    assert b"raw_base64" not in body
    again = api.decode_reply(body, api.ScheduleItem)
    assert again.definition == {"b": 1.5, "a": 12345678901234567890}


def test_nulls_of_replies_are_sent() -> None:
    """A reply shows each of its fields, null ones too: readers in other languages need not guess."""
    status = api.StatusReply(
        leader=None,
        replicas=[],
        planned_until=None,
        schedules=api.ScheduleCounts(),
        tzdata="2026a",
        server="2.15.1",
        clock_skew_s=0.0,
    )
    shown = msgspec.json.decode(api.encode(status))
    assert shown["leader"] is None
    assert shown["schedules"] == {"active": 0, "paused": 0, "invalid": 0}


def test_replies_of_a_newer_daemon_are_read() -> None:
    """An unknown field in a reply is ignored; a reply that makes no sense is Internal."""
    assert api.decode_reply(b'{"id":"a","revision":1,"new":true}', api.Revision).revision == 1
    with pytest.raises(Internal):
        api.decode_reply(b'{"id":"a"}', api.Revision)


def test_an_invalid_value_that_is_no_json_is_told() -> None:
    """`schedule` null with `raw_base64` is how a value that is no JSON shows, and it has an empty definition."""
    item = api.decode_reply(
        b'{"id":"x","revision":1,"generation":1,"schedule":null,"raw_base64":"AAE=","status":{"state":"invalid"}}',
        api.ScheduleItem,
    )
    assert item.raw_base64 == "AAE="
    assert item.definition == {}


@pytest.mark.parametrize(
    "error", [NotFound("no such schedule", field="id"), Conflict("changed"), PayloadTooLarge("big")]
)
def test_errors_round_trip(error: InvalidArgument) -> None:
    """An error keeps its class, message and field from the daemon to the client."""
    again = api.decode_error(api.error_headers(error), api.encode_error(error))
    assert type(again) is type(error)
    assert (again.message, again.field) == (error.message, error.field)


def test_an_error_without_a_body_is_still_one() -> None:
    """Some errors of the micro service have no body of ours: the header's word decides."""
    headers = {"Nats-Service-Error-Code": "503", "Nats-Service-Error": "unavailable"}
    found = api.decode_error(headers, b"")
    assert found is not None
    assert found.code == "unavailable"
    strange = api.decode_error({"Nats-Service-Error-Code": "500", "Nats-Service-Error": "boom"}, b"oops")
    assert isinstance(strange, Internal)


def test_success_is_no_error() -> None:
    """A reply without the error header is a success, whatever its body looks like."""
    assert api.decode_error(None, b'{"code":"conflict"}') is None
    assert api.decode_error({"Other": "1"}, b"") is None


def test_header_numbers_are_those_of_the_table() -> None:
    """The number in the header is the HTTP status of the code word."""
    assert api.error_headers(Conflict("x"))["Nats-Service-Error-Code"] == str(OUTCOMES["conflict"].status)
