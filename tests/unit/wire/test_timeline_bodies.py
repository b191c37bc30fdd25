"""Bodies and subjects of the timeline: written as the contract says, refused when they make no sense."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.errors import InvalidArgument
from scheduler.wire.instants import format_instant, from_milliseconds
from scheduler.wire.names import Names
from scheduler.wire.timeline import (
    decode_armed,
    decode_epoch,
    decode_watermark,
    encode_armed,
    encode_epoch,
    encode_watermark,
    parse_occurrence_subject,
)

AT = datetime(2026, 11, 21, 8, 0, 0, 250_000, tzinfo=UTC)
INSTANTS = st.integers(0, 253_402_300_799_999).map(from_milliseconds)
COUNTS = st.integers(0, 2**63 - 1)
IDS = st.from_regex(r"\A[A-Za-z0-9]([A-Za-z0-9_-]{0,5}[A-Za-z0-9])?(\.[A-Za-z0-9]{1,4}){0,3}\Z")


def test_armed_is_fixed() -> None:
    """An armed body is exactly what the contract shows: replicas of other versions read it."""
    body = encode_armed(generation=17, fire_at=format_instant(AT), epoch=4)
    assert body == b'{"v":1,"generation":17,"fire_at":"2026-11-21T08:00:00.250Z","epoch":4}'


@given(COUNTS, INSTANTS, COUNTS)
def test_armed(generation: int, fire_at: datetime, epoch: int) -> None:
    """An armed body reads back as it was written."""
    armed = decode_armed(encode_armed(generation=generation, fire_at=format_instant(fire_at), epoch=epoch))
    assert (armed.generation, armed.fire_at, armed.epoch) == (generation, fire_at, epoch)


@given(st.text(min_size=1), COUNTS, INSTANTS)
def test_epoch(holder: str, lease_rev: int, at: datetime) -> None:
    """An epoch body reads back as it was written, whatever the holder calls itself."""
    try:
        holder.encode()
    except UnicodeEncodeError:
        return
    epoch = decode_epoch(encode_epoch(holder=holder, lease_rev=lease_rev, at=at))
    assert (epoch.holder, epoch.lease_rev, epoch.at) == (holder, lease_rev, at)


@given(INSTANTS, COUNTS, COUNTS)
def test_watermark(until: datetime, applied: int, calendars: int) -> None:
    """A watermark body is JSON and reads back as it was written."""
    body = encode_watermark(until=until, applied=applied, calendars=calendars)
    assert json.loads(body) == {"until": format_instant(until), "applied": applied, "calendars": calendars}
    found = decode_watermark(body)
    assert (found.until, found.applied, found.calendars) == (until, applied, calendars)


def test_other_writers() -> None:
    """Unknown fields are ignored; instants with another offset or more decimals become UTC milliseconds."""
    armed = decode_armed(
        b'{"v":1,"generation":1,"fire_at":"2026-11-21T09:00:00.2509+01:00","epoch":2,"trace":{"a":[1]}}'
    )
    assert armed.fire_at == AT
    assert armed.fire_at.utcoffset() == timedelta(0)
    assert decode_watermark(b'{"until":"2026-11-21T08:00:00.250Z"}').applied == 0


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "armed body"),
        (b"null", "armed body"),
        (b"[1]", "armed body"),
        (b"\xff\xfe", "armed body"),
        (b"[" * 5000, "armed body"),
        (b'{"v":1,"generation":1,"epoch":1}', "fire_at"),
        (b'{"v":1,"generation":"1","fire_at":"2026-11-21T08:00:00Z","epoch":1}', "generation"),
        (b'{"v":1,"generation":-1,"fire_at":"2026-11-21T08:00:00Z","epoch":1}', "generation"),
        (b'{"v":1,"generation":1,"fire_at":"2026-11-21T08:00:00","epoch":1}', "fire_at"),
        (b'{"v":1,"generation":1,"fire_at":"soon","epoch":1}', "fire_at"),
        (b'{"v":2,"generation":1,"fire_at":"2026-11-21T08:00:00Z","epoch":1}', "version 2"),
        (b'{"generation":1,"fire_at":"2026-11-21T08:00:00Z","epoch":1}', "`v`"),
    ],
)
def test_garbage(body: bytes, words: str) -> None:
    """What cannot be an armed body is refused in a sentence that names what is wrong."""
    with pytest.raises(InvalidArgument) as caught:
        decode_armed(body)
    assert words in caught.value.message


@given(st.binary(max_size=200))
def test_any_bytes(body: bytes) -> None:
    """No bytes at all make reading raise anything but InvalidArgument."""
    for decode in (decode_armed, decode_epoch, decode_watermark):
        try:
            decode(body)
        except InvalidArgument:
            continue


@given(IDS, INSTANTS, st.sampled_from(["schedd", "team-1"]))
def test_subjects(schedule_id: str, nominal_at: datetime, namespace: str) -> None:
    """The subject of an arm and of a due message give back schedule and nominal time, dots in the id or not."""
    names = Names(namespace)
    for subject, word in ((names.arm(schedule_id, nominal_at), "arm"), (names.due(schedule_id, nominal_at), "due")):
        assert parse_occurrence_subject(subject, f"{namespace}.{word}") == (schedule_id, nominal_at)


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "schedd.due",
        "schedd.due.",
        "schedd.due.x",
        "schedd.due.20261121T080000000Z",
        "schedd.due.x.20261121",
        "schedd.due.x.20261321T080000000Z",
        "schedd.due._x.20261121T080000000Z",
        "schedd.due.x..20261121T080000000Z",
        "schedd.arm.x.20261121T080000000Z",
        "schedd.duex.x.20261121T080000000Z",
        "team.due.x.20261121T080000000Z",
    ],
)
def test_other_subjects(subject: str) -> None:
    """A subject that schedd cannot have made is refused."""
    with pytest.raises(InvalidArgument):
        parse_occurrence_subject(subject, "schedd.due")
