"""Zones: from the wheel only, every name of it, every transition of it."""

# ruff: noqa: DTZ001 - wall times have no zone
from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from importlib import resources

import pytest

from scheduler.core.errors import InvalidArgument
from scheduler.core.zones import Place, Zone, tzdata_version, zone_names, zone_of

FROM = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp())
UNTIL = int(datetime(2037, 1, 1, tzinfo=UTC).timestamp())


def table_of(name: str) -> list[tuple[int, int]]:
    """(instant, offset from there on) of each change of offset in the zone's own file (RFC 8536, version 2 block)."""
    data = resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()

    def header(at: int) -> tuple[int, ...]:
        assert data[at : at + 4] == b"TZif"
        return struct.unpack(">6l", data[at + 20 : at + 44])

    ut, std, leap, times, types, chars = header(0)
    at = 44 + times * 5 + types * 6 + chars + leap * 8 + std + ut
    ut, std, leap, times, types, chars = header(at)
    at += 44
    instants = struct.unpack(f">{times}q", data[at : at + 8 * times])
    indices = data[at + 8 * times : at + 9 * times]
    offsets = [struct.unpack(">l", data[at + 9 * times + 6 * n : at + 9 * times + 6 * n + 4])[0] for n in range(types)]
    changes: list[tuple[int, int]] = []
    current = offsets[0]
    for instant, index in zip(instants, indices, strict=True):
        if offsets[index] != current:
            changes.append((instant, offsets[index]))
            current = offsets[index]
    return changes


def probed(zone: Zone, start: int, until: int) -> list[tuple[int, int]]:
    return [(instant, zone.segment_at(instant).offset) for instant in zone.changes(start, until - 1)]


def distinct_zones() -> dict[bytes, str]:
    """One name for each different file: half of the names are aliases."""
    root = resources.files("tzdata").joinpath("zoneinfo")
    return {root.joinpath(*name.split("/")).read_bytes(): name for name in sorted(zone_names())}


@pytest.mark.parametrize("part", range(4))
def test_segments_are_the_transitions_of_the_file(part: int) -> None:
    """Probing finds every change of offset that the wheel's own tables list since 2000, to the second."""
    for name in sorted(distinct_zones().values())[part::4]:
        table = table_of(name)
        until = min(UNTIL, table[-1][0] + 1) if table else FROM
        expected = [change for change in table if FROM < change[0] < until]
        assert probed(zone_of(name), FROM, until) == expected, name


def test_segments_go_on_after_the_tables() -> None:
    """Daylight saving goes on by rule where the file's list ends."""
    changes = probed(
        zone_of("Europe/Berlin"),
        int(datetime(2150, 1, 1, tzinfo=UTC).timestamp()),
        int(datetime(2151, 1, 1, tzinfo=UTC).timestamp()),
    )
    assert [datetime.fromtimestamp(at, UTC).month for at, _ in changes] == [3, 10]
    assert [offset for _, offset in changes] == [7200, 3600]


def test_place_in_gap_and_overlap() -> None:
    """A wall time has its first instant and perhaps a second; in a gap the first is the transition."""
    zone = zone_of("Europe/Berlin")

    def wall(text: str) -> int:
        return (datetime.fromisoformat(text) - datetime(1970, 1, 1)) // timedelta(seconds=1)

    gap, twice, plain = (
        zone.place(wall("2027-03-28T02:30")),
        zone.place(wall("2027-10-31T02:30")),
        zone.place(wall("2027-05-01T02:30")),
    )
    assert gap == Place(exists=False, first=wall("2027-03-28T01:00"), second=None)
    assert twice == Place(exists=True, first=wall("2027-10-31T00:30"), second=wall("2027-10-31T01:30"))
    assert plain == Place(exists=True, first=wall("2027-05-01T00:30"), second=None)
    assert zone.place(wall("2027-10-31T03:00")).second is None
    assert zone.place(wall("2027-10-31T02:00")).second == wall("2027-10-31T01:00")


def test_every_name_of_the_wheel_loads() -> None:
    """Each listed zone, aliases included, can be used."""
    assert len(zone_names()) > 500
    for name in zone_names():
        assert zone_of(name).local(datetime(2027, 1, 1, tzinfo=UTC)).utcoffset() is not None


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        "Europe",
        "Europe/",
        "Europe/../Europe/Berlin",
        "Europe\\Berlin",
        "europe/berlin",
        "Mars/Olympus",
        "zone.tab",
        "__init__.py",
        "UTC\0",
        "CET-1CEST",
        "x" * 10_000,
    ],
)
def test_other_names_are_refused(name: str) -> None:
    """What the wheel does not list is no zone: no path, no file beside the zones, no guess."""
    with pytest.raises(InvalidArgument) as refused:
        zone_of(name)
    assert refused.value.field == "timezone"
    assert len(refused.value.message) < 250


def test_a_misspelled_name_gets_a_hint() -> None:
    """The error of a near miss names the zone that was meant."""
    with pytest.raises(InvalidArgument, match="did you mean 'Europe/Berlin'"):
        zone_of("europe/berln")


def test_version_is_that_of_the_wheel() -> None:
    """The tzdata release in force can be told."""
    assert tzdata_version()[:4].isdigit()


def test_zones_are_shared() -> None:
    """A zone is loaded once."""
    assert zone_of("Europe/Berlin") is zone_of("Europe/Berlin")
