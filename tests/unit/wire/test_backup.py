"""Backups: what is written reads back, and what is none, newer or a part is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import Raw

from scheduler.core.errors import InvalidArgument
from scheduler.wire.backup import (
    Line,
    Part,
    encode_end,
    encode_header,
    encode_line,
    read_backup,
    restored,
    same,
    still_to_come,
)

AT = datetime(2026, 11, 21, 8, tzinfo=UTC)
LINES = [
    Line(Part.SCHEDULE, "daily", 7, "active", Raw(b'{"every":"1h","paused":true}')),
    Line(Part.SCHEDULE, "broken", 8, "invalid", None, "/3s="),
    Line(Part.CALENDAR, "xmas", 3, "", Raw(b'{"yearly":["12-25"]}')),
    Line(Part.QUEUE, "EMAIL", 0, "", Raw(b'{"ack_wait":"5m"}')),
    Line(Part.EXECUTION, value=Raw(b'{"id":"daily.1"}')),
]
COUNTS = {Part.SCHEDULE: 2, Part.CALENDAR: 1, Part.QUEUE: 1, Part.EXECUTION: 1}
WHOLE = [encode_header("team1", AT), *(encode_line(line) for line in LINES), encode_end(COUNTS)]


def changed(number: int, **fields: Any) -> list[bytes]:
    """With fields of one line changed."""
    lines = list(WHOLE)
    lines[number] = json.dumps(json.loads(lines[number]) | fields).encode()
    return lines


def test_it_reads_back() -> None:
    """In the order in which it is restored; executions are counted only; empty lines are nothing."""
    found = read_backup([WHOLE[0], b"\n", *WHOLE[1:], b"\n"])
    assert (found.header.namespace, found.header.schedd_backup, found.histories) == ("team1", 1, 1)
    assert [(line.kind, line.id) for line in found.lines] == [
        ("calendar", "xmas"), ("queue", "EMAIL"), ("schedule", "daily"), ("schedule", "broken"),
    ]  # fmt: skip
    daily, broken = found.lines[2:]
    assert (daily.revision, daily.state, bytes(daily.value or b"")) == (7, "active", b'{"every":"1h","paused":true}')
    assert (broken.value, broken.raw_base64) == (None, "/3s=")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "no backup of schedd"),
        ([b"\xff"], "no backup of schedd"),
        ([b'{"kind":"schedule"}'], "no backup of schedd"),
        (changed(0, schedd_backup=2), "it has version 2, this schedctl knows 1"),
        (changed(0, schedd_backup=0), "there is no version 0"),
        (WHOLE[:-1], "only a part of a backup"),
        ([WHOLE[0], *WHOLE[2:]], "only a part of a backup"),
        ([*WHOLE[:2], b'{"kind": "sched', *WHOLE[2:]], "line 3"),
        (changed(1, kind="job"), "line 2: there is no kind 'job'"),
        (changed(1, id="broken"), "line 3: schedule 'broken' is in it twice"),
        (changed(1, id=""), "line 2: a schedule has an id"),
        ([WHOLE[0], b'{"kind":"schedule","id":"x"}', *WHOLE[2:]], "line 2: a schedule has an id"),
        (changed(1, id=5), "line 2: Expected `str`"),
        ([*WHOLE, WHOLE[1]], "line 8: something follows the last line"),
        ([WHOLE[0], b"[" * 100_000], "line 2"),
    ],
)
def test_what_is_refused(lines: list[bytes], told: str) -> None:
    """One sentence that names the line."""
    with pytest.raises(InvalidArgument) as refused:
        read_backup(lines)
    assert told in refused.value.message
    assert "\n" not in refused.value.message


def test_the_same() -> None:
    """Whatever the order and the blanks; what is not paused may say so; of a queue, null says nothing."""
    assert same(Part.SCHEDULE, b'{"a": 1, "b": 2}', b'{"b":2,"a":1}')
    assert same(Part.SCHEDULE, b'{"a":1,"paused":false}', b'{"a":1}')
    assert not same(Part.SCHEDULE, b'{"a":1,"paused":true}', b'{"a":1}')
    assert same(Part.QUEUE, b'{"a":1,"b":null}', b'{"a":1}')
    assert not same(Part.SCHEDULE, b'{"a":1}', b'{"a":2}')


@pytest.mark.parametrize("value", [b"null", b"[1,2]", b'"x"', b"{}", b'{"a":1,"a":2}', b'{"payload":1e999}'])
def test_any_json_reads_back(value: bytes) -> None:
    """Whatever anybody put is in it, compared and put back as it is, to the byte: it is for schedd to refuse."""
    line = encode_line(Line(Part.SCHEDULE, "x", 1, "invalid", Raw(value)))
    (found,) = read_backup([WHOLE[0], line, encode_end({Part.SCHEDULE: 1})]).lines
    assert bytes(found.value or b"") == value
    assert same(Part.SCHEDULE, value, value)
    assert not same(Part.SCHEDULE, value, b'{"a":2}')
    assert value.lstrip(b"{") in restored(value)
    assert still_to_come(value, "2026-11-21T08:00:00.000Z") == value


def test_what_is_put_over_a_paused_one() -> None:
    """A pause that the backup does not have ends; one that it has is put as it is."""
    assert restored(b' {"a":1.10}') == b'{"paused":false,"a":1.10}'
    assert restored(b'{"a":1,"paused":true}') == b'{"a":1,"paused":true}'


@pytest.mark.parametrize(
    ("at", "left"),
    [
        (["2026-11-21T08:00:00Z", "2026-11-21T09:30:00+01:00"], ["2026-11-21T09:30:00+01:00"]),
        (["2026-11-21T08:00:00Z", "2026-11-20T09:30:00Z"], None),
        ("2026-11-21T07:59:59Z", None),
        ("2026-11-21T08:00:01Z", "2026-11-21T08:00:01Z"),
        (["2026-11-21T07:00:00Z", "tomorrow"], ["2026-11-21T07:00:00Z", "tomorrow"]),
        (7, 7),
    ],
)
def test_at_times_that_had_passed(at: object, left: object) -> None:
    """They are not made anew, where they would count as late and fire again; what is left stays as it is."""
    found = still_to_come(json.dumps({"at": at, "payload": 1.5}).encode(), "2026-11-21T08:00:00.000Z")
    assert found == (None if left is None else found)
    assert found is None or json.loads(found) == {"at": left, "payload": 1.5}


def test_a_backup_that_does_not_say_when_it_was_made() -> None:
    """Is restored as it is."""
    assert still_to_come(b'{"at":"2020-01-01T00:00:00Z"}', "") == b'{"at":"2020-01-01T00:00:00Z"}'
