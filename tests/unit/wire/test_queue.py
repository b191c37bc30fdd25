"""The settings of a queue as JSON: strict, one sentence per mistake, and the same there and back."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some
from msgspec import UNSET

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.queue import Pause, QueueEdit, QueueSettings
from scheduler.core.queueing import QueueChanges
from scheduler.wire.queue import FIELDS, changes_of_document, decode_edit, document_of, encode_edit, parse_changes

UNTIL = datetime(2026, 12, 1, tzinfo=UTC)
SETTINGS = QueueSettings(
    ack_wait=timedelta(seconds=10),
    max_deliver=5,
    max_ack_pending=2,
    max_pending=7,
    backoff=(timedelta(seconds=10), timedelta(minutes=1)),
    pause=Pause(UNTIL, "why"),
)


def test_every_field_is_read() -> None:
    """What is shown can be put again, and means the same."""
    document = document_of(SETTINGS, 100)
    assert set(document) == FIELDS
    assert parse_changes(msgspec.json.encode(document)) == QueueChanges(
        ack_wait=SETTINGS.ack_wait,
        max_deliver=5,
        max_ack_pending=2,
        max_pending=7,
        backoff=SETTINGS.backoff,
        paused=True,
        pause_note="why",
        paused_until=UNTIL,
    )
    assert document_of(QueueSettings(), 100)["max_pending"] == 100


def test_left_out_and_null() -> None:
    """Left out stays as it is, null is the default again."""
    assert parse_changes(b"{}") == QueueChanges()
    found = parse_changes(b'{"ack_wait": null, "backoff": null, "pause_note": null}')
    assert (found.ack_wait, found.backoff, found.pause_note, found.max_deliver) == (None, None, None, UNSET)


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        (b"[]", None, "must be a JSON object"),
        (b"nonsense", None, ""),
        (b'{"ackwait": "1s"}', "ackwait", "a queue has no field 'ackwait'; did you mean 'ack_wait'?"),
        (b'{"ack_wait": "1s", "ack_wait": "2s"}', "ack_wait", "twice"),
        (b'{"ack_wait": 30}', "ack_wait", "must be a duration in text"),
        (b'{"ack_wait": "999ms"}', "ack_wait", "must be at least 1s"),
        (b'{"ack_wait": "25h"}', "ack_wait", "must be at most 24h"),
        (b'{"max_deliver": 0}', "max_deliver", "a whole number from 1 to 1000000, not 0"),
        (b'{"max_deliver": true}', "max_deliver", "not true"),
        (b'{"max_ack_pending": 1.5}', "max_ack_pending", "a whole number"),
        (b'{"max_pending": "9"}', "max_pending", "a whole number"),
        (b'{"max_pending": 99999999999999999999999}', "max_pending", "a whole number"),
        (b'{"backoff": "10s"}', "backoff", "a list of durations"),
        (b'{"backoff": ["10s", 5]}', "backoff", "must be a duration in text"),
        (b'{"paused": "yes"}', "paused", "must be true or false"),
        (b'{"paused": null}', "paused", "must be true or false"),
        (b'{"pause_note": "\\u0000"}', "pause_note", "cannot be printed"),
        (b'{"paused_until": "tomorrow"}', "paused_until", "is not an instant"),
        (b'{"paused_until": "2500-01-01T00:00:00Z"}', "paused_until", "between the years"),
    ],
)
def test_each_mistake_names_its_field(text: bytes, field: str | None, says: str) -> None:
    """One clear sentence."""
    with pytest.raises(InvalidArgument) as refused:
        parse_changes(text)
    assert refused.value.field == field
    assert says in refused.value.message


def test_too_long() -> None:
    """Lists, notes and documents have a limit."""
    for document in ({"backoff": ["1s"] * 101}, {"pause_note": "x" * 1025}):
        with pytest.raises(InvalidArgument):
            changes_of_document(document)
    with pytest.raises(InvalidArgument):
        parse_changes(b'{"pause_note": "' + b"x" * 70_000 + b'"}')


@given(
    some.recursive(some.none() | some.booleans() | some.floats() | some.text(), some.lists),
    some.sampled_from(sorted(FIELDS)),
)
def test_nothing_else_is_raised(value: Any, field: str) -> None:
    """Whatever stands in a field, it is read or refused."""
    with contextlib.suppress(InvalidArgument):
        changes_of_document({field: value})


@pytest.mark.parametrize("settings", [SETTINGS, QueueSettings(), QueueSettings(max_deliver=-1, pause=Pause())])
def test_the_copy(settings: QueueSettings) -> None:
    """It reads back as it was written, pauses without an end and numbers without a limit included."""
    assert decode_edit(encode_edit(QueueEdit(settings, 3))) == QueueEdit(settings, 3)


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]", b'{"edit": 1, "ack_wait_s": 1e300, "max_deliver": 1, "max_ack_pending": 1}']
)
def test_an_unreadable_copy(text: bytes) -> None:
    """It is refused, whatever it is."""
    with pytest.raises(InvalidArgument):
        decode_edit(text)
