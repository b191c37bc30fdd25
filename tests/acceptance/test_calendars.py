"""Calendars from outside: commands, raw writes and a real server."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta
from pathlib import Path

from scheduler.client import Client
from scheduler.core.errors import Conflict, InvalidArgument, NotFound
from tests.acceptance.harness import Site, eventually, utc_now

SECOND = timedelta(seconds=1)
EVEN = {"cron": ["*/2 * * * * *"]}
ODD = {"cron": ["1-59/2 * * * * *"]}
TICK = {"every": "1s", "queue": "default", "type": "tick", "overlap": "allow"}
ICS = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//example//EN
BEGIN:VEVENT
UID:1
DTSTART;VALUE=DATE:20261225
RRULE:FREQ=YEARLY
END:VEVENT
END:VCALENDAR
"""


def parities(worker: object, after: object, until: object = None) -> set[int]:
    """Whether the nominal seconds of what was delivered for them are even (0), odd (1), or both."""
    found = [each.nominal_at for each in worker.deliveries()]  # type: ignore[attr-defined]
    return {at.second % 2 for at in found if at > after and (until is None or at <= until)}


async def test_edits_of_a_calendar_hold_from_then_on(site: Site) -> None:
    """Put by the API, broken and mended by raw KV writes: what fires follows, and nothing else stops."""
    await site.replicas("a", "b")
    worker, other = site.worker("default"), site.worker("other")
    async with Client.connect(site.url) as client:
        await client.calendars.put("seconds", EVEN)
        await site.put("tick", {**TICK, "exclude": ["seconds"]})
        await site.put("plain", {**TICK, "queue": "other"})
        started = utc_now()
        await asyncio.sleep(3.5)
        edited = utc_now()
        assert (await client.calendars.put("seconds", ODD)).used_by == 1
        await asyncio.sleep(4.5)
        assert parities(worker, started + SECOND, edited) == {1}
        assert parities(worker, edited + SECOND) == {0}
        await (await site.bucket("schedd-calendars")).put("seconds", b"no calendar")

        async def invalid() -> bool | None:
            item = await client.schedules.get("tick")
            return "calendar 'seconds' is invalid" in (item.status.error or "") or None

        await eventually(invalid, what="the schedule that uses a broken calendar is invalid")
        broken = utc_now()
        await (await site.bucket("schedd-calendars")).put("seconds", json.dumps(EVEN).encode())
        await asyncio.sleep(3)
        assert parities(worker, broken + SECOND) == {1}
        assert parities(other, started + SECOND) == {0, 1}
        assert (await client.calendars.get("seconds")).used_by == ["tick"]


async def test_calendars_by_the_client(site: Site) -> None:
    """What the API refuses, and that a preview moves occurrences as a stored schedule would."""
    await site.replicas("a")
    async with Client.connect(site.url) as client:
        for name, calendar in (("xmas", {"yearly": ["12-25", "12-26"]}), ("weekend", {"weekdays": ["sat", "sun"]})):
            await client.calendars.put(name, calendar, expected_revision=0)
        payroll = {"cron": "0 18 25 * *", "exclude": ["xmas", "weekend"], "on_excluded": "previous_business_day"}
        payroll |= {"timezone": "Europe/Berlin", "queue": "q", "type": "t"}
        (fire,) = await client.schedules.preview(schedule=payroll, count=1, after="2026-12-01T00:00:00Z")
        assert (fire.nominal_at, fire.fire_at) == ("2026-12-25T17:00:00.000Z", "2026-12-24T17:00:00.000Z")
        assert fire.notes == ["moved from Fri 2026-12-25 (excluded)"]
        await client.schedules.put("payroll", payroll)
        for refused, error in (
            (client.calendars.delete("xmas"), Conflict),
            (client.calendars.delete("nope"), NotFound),
            (client.calendars.put("xmas", {"yearly": ["12-25"]}, expected_revision=0), Conflict),
            (client.calendars.put("x", {"date": ["2026-12-25"]}), InvalidArgument),
            (client.schedules.put("bad", {**payroll, "exclude": ["nope"]}), InvalidArgument),
        ):
            try:
                await refused
            except error:
                continue
            raise AssertionError(f"no {error.__name__}")
        assert [item.id async for item in client.calendars.list()] == ["weekend", "xmas"]
        await client.schedules.delete("payroll")
        await client.calendars.delete("xmas")
        assert [item.id async for item in client.calendars.list()] == ["weekend"]


async def test_the_commands(site: Site, tmp_path: Path) -> None:
    """add, import, list, get, apply and delete, with their exit codes."""
    await site.replicas("a")
    file = tmp_path / "x.ics"
    await asyncio.to_thread(file.write_text, ICS)
    both = tmp_path / "both.yaml"
    await asyncio.to_thread(both.write_text, "id: a\nweekdays: [sat]\n---\nid: b\ndates: ['2026-12-31']\n")

    async def schedctl(*words: str) -> tuple[int, str, str]:
        command = ("-m", "cli.schedctl", "--nats", site.url, "calendar", *words)
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    assert (await schedctl("add", "wk", "--weekday", "sun"))[:2] == (0, "wk stored as revision 1, 0 schedules use it\n")
    assert (await schedctl("add", "wk", "--weekday", "sat"))[0] == 4
    code, out, _ = await schedctl("import", "xmas", str(file), "--from", "2026-01-01")
    assert (code, out.splitlines()[0]) == (0, "10 days from 2026-01-01 to 2035-12-31 out of 1 events")
    assert (await schedctl("apply", "-f", str(both)))[0] == 0
    code, out, _ = await schedctl("list", "--json")
    assert [each["id"] for each in json.loads(out)] == ["a", "b", "wk", "xmas"]
    code, out, _ = await schedctl("get", "xmas", "--json")
    assert json.loads(out)["calendar"]["dates"][0] == "2026-12-25"
    assert (await schedctl("delete", "wk", "a"))[0] == 0
    assert (await schedctl("get", "wk"))[0] == 3
