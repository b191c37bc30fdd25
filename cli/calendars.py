"""`schedctl calendar add | get | list | delete | apply | import`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from msgspec import Raw

from cli.connecting import Connection, connected, group
from cli.files import load
from cli.output import (
    Column,
    Format,
    agreed,
    heading,
    print_facts,
    print_json,
    print_list,
    say,
    shown_as,
    warn,
)
from scheduler.client import Client, first
from scheduler.core.errors import Conflict, InvalidArgument, ScheddError, Unavailable
from scheduler.wire import api
from scheduler.wire.calendar import calendar_of_document
from scheduler.wire.ids import check_calendar_name

YEARS = 10  # that an import reaches ahead
FILE_MAX = 4_000_000
PROBLEMS_SHOWN = 5
EXAMPLE = "schedctl calendar add xmas --yearly 12-25 --yearly 12-26"

app = typer.Typer(no_args_is_help=True, help="Holidays and other times on which schedules do not fire.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the calendar.", show_default=False)]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of calendars.", show_default=False)]
Replace = Annotated[bool, typer.Option("--replace", metavar="", help="Overwrite a calendar that exists.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do not ask.")]
Zone = Annotated[
    str | None, typer.Option("--timezone", metavar="ZONE", help="Its own zone, instead of each schedule's.")
]


@app.callback()
@group
def calendar(connection: Connection) -> None:
    """Holidays and other times on which schedules do not fire."""


# --- writes


@app.command()
@connected
@shown_as("json")
async def add(
    connection: Connection,
    shown: Format,
    name: Name,
    dates: Annotated[
        list[str] | None, typer.Option("--date", metavar="DAY", help="A day, as 2026-12-25; may be repeated.")
    ] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option("--range", metavar="DAY..DAY", help="From one day to another, both included; may be repeated."),
    ] = None,
    yearly: Annotated[
        list[str] | None, typer.Option("--yearly", metavar="MM-DD", help="A day of every year; may be repeated.")
    ] = None,
    weekdays: Annotated[
        list[str] | None, typer.Option("--weekday", metavar="DAY", help="mon to sun; may be repeated.")
    ] = None,
    cron: Annotated[
        list[str] | None, typer.Option("--cron", metavar="TEXT", help="The minutes it names; may be repeated.")
    ] = None,
    timezone: Zone = None,
    description: Annotated[str | None, typer.Option("--description", metavar="TEXT", help="What it is.")] = None,
    file: Annotated[
        Path | None, typer.Option("-f", "--file", metavar="FILE", help="The calendar as YAML or JSON; - is stdin.")
    ] = None,
    replace: Replace = False,
) -> None:
    """Add a calendar, by flags or from a file; one that exists is left alone unless --replace is given."""
    fields = {
        "description": description,
        "dates": dates,
        "ranges": [_range(each) for each in ranges or []],
        "yearly": yearly,
        "weekdays": weekdays,
        "cron": cron,
        "timezone": timezone,
    }
    document = {field: value for field, value in fields.items() if value}
    if file is not None:
        if document:
            raise InvalidArgument("give the calendar with -f or with flags, not both", field="file")
        document = _from_file(file, name)
    calendar_of_document(check_calendar_name(name), document)
    async with connection.client() as client:
        await _put(client, name, document, shown, replace=replace)


def _range(text: str) -> dict[str, str]:
    begin, dots, end = text.partition("..")
    if not dots:
        raise InvalidArgument(f"--range {text[:60]!r}: write two days, as 2026-12-24..2027-01-01", field="ranges")
    return {"from": begin, "to": end}


def _from_file(path: Path, name: str) -> dict[str, Any]:
    found = [entry.schedule for entry in load(path) if entry.id == name]
    if not found:
        raise InvalidArgument(f"{path}: no calendar with the id {name}", field="id")
    return found[0]


async def _put(client: Client, name: str, document: dict[str, Any], shown: Format, *, replace: bool) -> None:
    try:
        reply = await client.calendars.put(name, document, expected_revision=None if replace else 0)
    except Conflict as problem:
        if replace:
            raise
        raise Conflict(f"{problem.message} (--replace overwrites it)") from None
    print_json(api.encode(reply)) if shown.json else _tell_put(reply)


def _tell_put(reply: api.PutCalendarReply) -> None:
    users = "1 schedule uses it" if reply.used_by == 1 else f"{reply.used_by} schedules use it"
    say(f"{reply.id} stored as revision {reply.revision}, {users}")


@app.command()
@connected
async def apply(
    connection: Connection,
    file: Annotated[
        Path,
        typer.Option("-f", "--file", metavar="FILE", help="Calendars (YAML, JSON), each with an id; - is stdin."),
    ],
) -> None:
    """Make calendars as a file says: those that are missing are added, others replaced, equal ones left alone."""
    entries = load(file)
    for entry in entries:
        calendar_of_document(check_calendar_name(entry.id), entry.schedule)
    async with connection.client() as client:
        for entry in entries:
            _tell_put(await client.calendars.put(entry.id, entry.schedule))


@app.command("import")
@connected
@shown_as("json")
async def import_ical(
    connection: Connection,
    shown: Format,
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE.ics", help="An iCalendar file.", show_default=False)],
    timezone: Zone = None,
    since: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="First day to take; default: this year's first.")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--to", metavar="DAY", help=f"Last day to take; default: {YEARS} years on."),
    ] = None,
    replace: Replace = False,
) -> None:
    """Make a calendar of the days that the events of an iCalendar file (.ics) cover; rules are expanded."""
    from scheduler.system.clock import SystemClock
    from scheduler.wire.ical import read_ical

    begin = date(SystemClock().now().year, 1, 1) if since is None else _day(since, "from")
    end = date(begin.year + YEARS - 1, 12, 31) if until is None else _day(until, "to")
    found = read_ical(_read(file), first=begin, last=end, timezone=timezone)
    for problem in found.problems[:PROBLEMS_SHOWN]:
        warn(f"warning: left out: {problem}")
    if len(found.problems) > PROBLEMS_SHOWN:
        warn(f"warning: {len(found.problems)} events were left out")
    if not shown.json:
        say(f"{found.days} days from {begin} to {end} out of {found.events} events")
    async with connection.client() as client:
        await _put(client, name, found.document, shown, replace=replace)


def _day(text: str, field: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidArgument(f"--{field} {text[:40]!r}: write a day, as 2026-12-25", field=field) from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as opened:
            return opened.read(FILE_MAX + 1)
    except OSError as problem:
        raise InvalidArgument(f"cannot read {path}: {problem.strerror}", field="file") from None


@app.command()
@connected
@shown_as("json")
async def delete(connection: Connection, shown: Format, names: Names, yes: Yes = False) -> None:
    """Delete calendars that no schedule uses."""
    for name in names:
        check_calendar_name(name)
    if not yes and not agreed(f"Delete {', '.join(names[:3])}?"):
        warn("Nothing deleted.")
        raise typer.Exit(1)
    failures: list[ScheddError] = []
    async with connection.client() as client:
        for name in dict.fromkeys(names):
            try:
                reply = await client.calendars.delete(name)
            except Unavailable:
                raise
            except ScheddError as problem:
                if len(names) == 1:
                    raise
                failures.append(problem)
                warn(f"{name}: {problem.message}")
                continue
            print_json(api.encode(reply)) if shown.json else say(f"{reply.id} deleted")
    if failures:
        raise type(failures[0])(f"{len(failures)} of {len(names)} calendars were not deleted")


# --- reads


@app.command()
@connected
@shown_as("json")
async def get(connection: Connection, shown: Format, name: Name) -> None:
    """Show one calendar, and who uses it."""
    request = api.Id(id=check_calendar_name(name))
    async with connection.client() as client:
        body = await client.calls.fetch("calendar.get", request)
    if shown.json:
        print_json(body)
        return
    item = api.decode_reply(body, api.CalendarItem)
    print_facts(
        [
            ("Name", item.id),
            ("Error", item.error),
            ("Used by", ", ".join(item.used_by) or "no schedule"),
            ("Revision", str(item.revision)),
        ]
    )
    heading("Definition")
    print_json(item.calendar) if item.raw_base64 is None else say(f"no JSON; in base64: {item.raw_base64}")


COLUMNS: Sequence[Column[api.CalendarItem]] = (
    Column("NAME", lambda item: item.id),
    Column("EXCLUDES", lambda item: item.error or _summary(item.calendar)),
    Column("USED BY", lambda item: str(len(item.used_by)), rigid=True, right=True),
)


def _summary(raw: Raw) -> str:
    """`11 dates, 2 ranges, sat, sun`."""
    found: dict[str, Any] = msgspec.json.decode(raw)
    parts = [_counted(len(found[name]), name) for name in ("dates", "ranges", "yearly", "cron") if found.get(name)]
    return ", ".join([*parts, *(str(day) for day in found.get("weekdays", []))])


def _counted(count: int, name: str) -> str:
    words = {"dates": ("date", "dates"), "ranges": ("range", "ranges"), "yearly": ("yearly date", "yearly dates")}
    one, more = words.get(name, ("cron expression", "cron expressions"))
    return f"{count} {one if count == 1 else more}"


@app.command("list")
@connected
@shown_as("json", "names")
async def list_calendars(
    connection: Connection,
    shown: Format,
    prefix: Annotated[str | None, typer.Option("--prefix", metavar="TEXT", help="Names that begin so.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most that many.")] = None,
) -> None:
    """List calendars, by name."""
    empty = "No calendar matches." if prefix else f"No calendars yet. Add one:  {EXAMPLE}"
    async with connection.client() as client:
        items = first(client.calls.pages("calendar.list", api.ListCalendars(prefix=prefix)), limit)
        await print_list(items, api.CalendarItem, COLUMNS, shown, empty=empty)
