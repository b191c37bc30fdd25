"""When a schedule fires, as the preview foretells it: cron, zones, summer time, grids, instants (contract, part 3)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from tests.acceptance.harness import Site

WHAT: dict[str, Any] = {"queue": "none", "type": "t"}


async def previewed(site: Site, schedule: Mapping[str, Any], after: str, count: int = 3, **more: Any) -> list[str]:
    """Nominal times that the API foretells after that minute, in the same short form."""
    request = {"schedule": {**WHAT, **schedule}, "after": after.replace(" ", "T") + ":00Z", "count": count, **more}
    reply = await site.request("schedule.preview", request)
    assert "fires" in reply, reply
    return [short(fire["nominal_at"]) for fire in reply["fires"]]


def short(at: str) -> str:
    return at.replace("T", " ").removesuffix("Z").removesuffix(".000").removesuffix(":00")


TIMES: dict[str, tuple[dict[str, Any], str, str]] = {
    "five fields": ({"cron": "30 9 * * *"}, "2026-03-01 09:30", "2026-03-02 09:30, 2026-03-03 09:30"),
    "six fields": ({"cron": "*/20 59 23 * * *"}, "2026-03-01 23:59", "2026-03-01 23:59:20, 2026-03-01 23:59:40"),
    "seven fields": ({"cron": "0 0 0 1 1 * 2030,2040"}, "2026-01-01 00:00", "2030-01-01 00:00, 2040-01-01 00:00"),
    "Sunday is 0": ({"cron": "0 0 * * 0"}, "2026-03-01 00:00", "2026-03-08 00:00, 2026-03-15 00:00"),
    "Sunday is 7": ({"cron": "0 0 * * 7"}, "2026-03-01 00:00", "2026-03-08 00:00, 2026-03-15 00:00"),
    "day or weekday": ({"cron": "0 0 13 * 5"}, "2026-03-01 00:00", "2026-03-06 00:00, 2026-03-13 00:00"),
    "names": ({"cron": "0 0 1 FEB,dec *"}, "2026-03-01 00:00", "2026-12-01 00:00, 2027-02-01 00:00"),
    "tabs, as in a crontab": ({"cron": "30\t9 * * *"}, "2026-03-01 09:30", "2026-03-02 09:30, 2026-03-03 09:30"),
    "steps": ({"cron": "10-50/20 8 * * *"}, "2026-03-01 08:10", "2026-03-01 08:30, 2026-03-01 08:50"),
    "from a value on": ({"cron": "50/5 8 * * Mon/2"}, "2026-03-01 00:00", "2026-03-02 08:50, 2026-03-02 08:55"),
    "the last working day": ({"cron": "0 0 LW * *"}, "2026-03-01 00:00", "2026-03-31 00:00, 2026-04-30 00:00"),
    "three before the last": ({"cron": "0 0 L-3 * *"}, "2026-03-01 00:00", "2026-03-28 00:00, 2026-04-27 00:00"),
    "the last Friday": ({"cron": "0 0 * * 5L"}, "2026-03-01 00:00", "2026-03-27 00:00, 2026-04-24 00:00"),
    "Mondays and the second Friday": (
        {"cron": "0 0 * * 1,5#2"},
        "2026-03-08 00:00",
        "2026-03-09 00:00, 2026-03-13 00:00",
    ),
    "Friday the 13th": ({"cron": "0 0 13 * +FRI"}, "2026-03-01 00:00", "2026-03-13 00:00, 2026-11-13 00:00"),
    "a zone in front": (
        {"cron": "CRON_TZ=Asia/Tokyo 0 9 * * *", "timezone": "Europe/Berlin"},
        "2026-03-01 00:00",
        "2026-03-02 00:00, 2026-03-03 00:00",
    ),
    "a gap, skipped": (
        {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "dst": {"gap": "skip"}},
        "2027-03-27 00:00",
        "2027-03-27 01:30, 2027-03-29 00:30",
    ),
    "an overlap, both times": (
        {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "dst": {"overlap": "both"}},
        "2027-10-31 00:00",
        "2027-10-31 00:30, 2027-10-31 01:30",
    ),
    "an overlap, the second time": (
        {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "dst": {"overlap": "second"}},
        "2027-10-31 00:00",
        "2027-10-31 01:30, 2027-11-01 01:30",
    ),
    "leap day": ({"cron": "0 0 29 2 *"}, "2026-03-01 00:00", "2028-02-29 00:00, 2032-02-29 00:00"),
    "@yearly": ({"cron": "@yearly"}, "2026-03-01 00:00", "2027-01-01 00:00, 2028-01-01 00:00"),
    "@annually": ({"cron": "@annually"}, "2026-03-01 00:00", "2027-01-01 00:00, 2028-01-01 00:00"),
    "@monthly": ({"cron": "@monthly"}, "2026-03-01 00:00", "2026-04-01 00:00, 2026-05-01 00:00"),
    "@weekly": ({"cron": "@weekly"}, "2026-03-01 00:00", "2026-03-08 00:00, 2026-03-15 00:00"),
    "@daily": ({"cron": "@daily"}, "2026-03-01 00:00", "2026-03-02 00:00, 2026-03-03 00:00"),
    "@midnight": ({"cron": "@midnight"}, "2026-03-01 00:00", "2026-03-02 00:00, 2026-03-03 00:00"),
    "@hourly": ({"cron": "@hourly"}, "2026-03-01 00:00", "2026-03-01 01:00, 2026-03-01 02:00"),
    "@every": ({"cron": "@every 10m"}, "2026-03-01 00:00", "2026-03-01 00:10, 2026-03-01 00:20"),
    "several": (
        {"cron": ["0 9 * * *", "0 9 1 * *", "30 8 * * *"]},
        "2026-02-28 09:00",
        "2026-03-01 08:30, 2026-03-01 09:00",
    ),
    "zone": (
        {"cron": "0 9 * * 1-5", "timezone": "Europe/Berlin"},
        "2026-03-27 12:00",
        "2026-03-30 07:00, 2026-03-31 07:00",
    ),
    "gap, fixed": (
        {"cron": "30 2 * * *", "timezone": "Europe/Berlin"},
        "2026-03-28 12:00",
        "2026-03-29 01:00, 2026-03-30 00:30",
    ),
    "gap, several at once": (
        {"cron": "0,30 2 * * *", "timezone": "Europe/Berlin"},
        "2026-03-28 12:00",
        "2026-03-29 01:00, 2026-03-30 00:00",
    ),
    "gap, not fixed": (
        {"cron": "*/30 * * * *", "timezone": "Europe/Berlin"},
        "2026-03-29 00:30",
        "2026-03-29 01:00, 2026-03-29 01:30",
    ),
    "overlap, fixed": (
        {"cron": "30 2 * * *", "timezone": "Europe/Berlin"},
        "2026-10-24 12:00",
        "2026-10-25 00:30, 2026-10-26 01:30",
    ),
    "overlap, not fixed": (
        {"cron": "30 * * * *", "timezone": "Europe/Berlin"},
        "2026-10-25 00:00",
        "2026-10-25 00:30, 2026-10-25 01:30",
    ),
    "every": ({"every": "7m"}, "1970-01-01 00:00", "1970-01-01 00:07, 1970-01-01 00:14"),
    "every, anchored": (
        {"every": "90m", "anchor": "2026-03-01T10:15:00+02:00"},
        "2026-03-01 00:00",
        "2026-03-01 00:45, 2026-03-01 02:15",
    ),
    "at, sorted": (
        {"at": ["2026-03-02T00:00:00Z", "2026-03-01T00:00:00+05:00"]},
        "2026-01-01 00:00",
        "2026-02-28 19:00, 2026-03-02 00:00",
    ),
    "at, cut": ({"at": "2026-03-01T00:00:00.9999Z"}, "2026-01-01 00:00", "2026-03-01 00:00:00.999"),
    "manual": ({"manual": True}, "2026-01-01 00:00", ""),
    "every day, Berlin": (
        {"every": "1d", "anchor": "2026-01-01T09:00:00+01:00", "timezone": "Europe/Berlin"},
        "2026-03-28 00:00",
        "2026-03-28 08:00, 2026-03-29 07:00",
    ),
    "every two weeks": (
        {"every": "2w", "anchor": "2026-01-05T09:00:00Z"},
        "2026-01-10 00:00",
        "2026-01-19 09:00, 2026-02-02 09:00",
    ),
    "rrule": ({"rrule": "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17"}, "2026-01-01 00:00", "2026-01-30 17:00, 2026-02-27 17:00"),
    "rrule, counted": (
        {"rrule": "RRULE:FREQ=DAILY;INTERVAL=10;COUNT=2", "anchor": "2026-03-01T09:00:00Z"},
        "2026-01-01 00:00",
        "2026-03-01 09:00, 2026-03-11 09:00",
    ),
    "rrule, in the gap": (
        {"rrule": "FREQ=DAILY;BYHOUR=2;BYMINUTE=30", "timezone": "Europe/Berlin"},
        "2026-03-28 12:00",
        "2026-03-29 01:00, 2026-03-30 00:30",
    ),
    "rrules": (
        {"rrule": ["FREQ=DAILY;BYHOUR=9", "FREQ=WEEKLY;BYDAY=MO;BYHOUR=9,10"]},
        "2026-03-02 08:00",
        "2026-03-02 09:00, 2026-03-02 10:00",
    ),
    "window": (
        {"every": "1h", "starts_at": "2026-03-01T10:00:00Z", "ends_at": "2026-03-01T12:00:00Z"},
        "2026-01-01 00:00",
        "2026-03-01 10:00, 2026-03-01 11:00",
    ),
    "window that is over": ({"every": "1h", "ends_at": "2026-01-01T00:00:00Z"}, "2026-01-01 00:00", ""),
}  # instants in UTC, without what is zero of seconds


async def test_triggers_yield_what_they_say(contract: Site) -> None:
    """Cron in all its forms, zones, both ends of summer time, grids and instants: as the preview tells."""
    wrong = {}
    for name, (schedule, after, wanted) in TIMES.items():
        found = await previewed(contract, schedule, after, count=2)
        if ", ".join(found) != wanted:
            wrong[name] = (found, wanted)
    assert wrong == {}


async def test_hashed_cron_depends_on_the_id_alone(contract: Site) -> None:
    """`H` is the same each time for an id, stays within its range, and spreads different ids."""
    crons = {"cron": "H H(9-11) * * *"}
    day = "2026-03-01 00:00"
    seen = {}
    for id_ in ("one", "two", "three", "four", "five"):
        found = await previewed(contract, crons, day, count=2, id=id_)
        assert await previewed(contract, crons, day, count=2, id=id_) == found
        first, second = (datetime.fromisoformat(at) for at in found)
        assert second - first == timedelta(days=1)
        assert 9 <= first.hour <= 11
        seen[id_] = first
    assert len(set(seen.values())) > 2
