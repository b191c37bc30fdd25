"""`schedctl simulate`: what the schedules of a file do together, before they do it. Needs no server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from msgspec import Struct

from cli.files import Entry, load, load_good
from cli.output import Column, Format, heading, instant, print_facts, print_json, print_table, say, shown_as, warn
from scheduler.core.calendars import Calendar, CalendarOf
from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import After, Schedule
from scheduler.core.simulating import Peak, Simulation
from scheduler.core.simulating import simulate as simulated
from scheduler.core.triggers import FIRST, LAST, CompiledTrigger, compile_trigger
from scheduler.wire.calendar import calendar_of_document
from scheduler.wire.instants import format_instant, parse_instant
from scheduler.wire.schedule import ScheduleLimits, parse_document

FILE_MAX = 64_000_000
WINDOW_MAX = timedelta(days=3660)
TOP = 10
CHANGES_SHOWN = 20
LIMITS = ScheduleLimits(minimum_interval=timedelta(milliseconds=100))  # as low as a daemon may be configured
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_HOUR = timedelta(hours=1)


class Fires(Struct):
    """A schedule and how often it fires."""

    id: str
    fires: int


class Busiest(Struct):
    """A second or a minute: `named` are the busiest of the `schedules` that fire in it."""

    at: str
    fires: int
    schedules: int
    named: list[Fires]


class ClockChange(Struct):
    note: str
    schedules: int


class Report(Struct):
    """What `--json` prints. `hours` are the fires of each hour from that of `from` on; `refused` one sentence each."""

    start: str = msgspec.field(name="from")
    end: str = msgspec.field(name="to")
    fires: int
    busiest_second: Busiest | None
    busiest_minute: Busiest | None
    hours: list[int]
    schedules: list[Fires]
    clock_changes: list[ClockChange]
    jitter_approximated: int
    refused: list[str]


@shown_as("json")
def simulate(
    shown: Format,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Definitions as YAML or JSON, as for add -f; - is stdin.")
    ],
    start: Annotated[
        str, typer.Option("--from", metavar="INSTANT", help="The first fire time, as 2027-01-01T00:00:00Z.")
    ],
    end: Annotated[str, typer.Option("--to", metavar="INSTANT", help="Fire times before this one.")],
    calendars: Annotated[
        Path | None,
        typer.Option("--calendars", metavar="FILE", help="The calendars they exclude, each with its name as id."),
    ] = None,
) -> None:
    """Count what the schedules of a file would fire: how densely, when most at once, and who does it."""
    begin, until = _window(start, end)
    calendar_of = _calendars(calendars)
    entries, problems = load_good(file, size_max=FILE_MAX)
    schedules: list[tuple[Schedule, CompiledTrigger]] = []
    refused = [problem.sentence for problem in problems]
    for entry in entries:
        try:
            schedules.append(_compiled(entry, calendar_of))
        except InvalidArgument as problem:
            refused.append(f"{entry.id}: {problem.sentence}")
    chains = [schedule.id for schedule, _ in schedules if isinstance(schedule.trigger, After)]
    for sentence in refused:
        warn(f"refused: {sentence}")
    simulation = simulated(schedules, start=begin, end=until)
    if shown.json:
        print_json(msgspec.json.encode(_report(simulation, refused)))
    else:
        _show(simulation)
    if chains:
        shown_ids = ", ".join(chains[:TOP]) + (", ..." if len(chains) > TOP else "")
        warn(f"left out, for `after` depends on how long runs take: {shown_ids}")
    if refused:
        raise InvalidArgument(f"{len(refused)} of {len(schedules) + len(refused)} definitions were refused")


def _window(start: str, end: str) -> tuple[datetime, datetime]:
    begin, until = parse_instant(start, field="from"), parse_instant(end, field="to")
    if not begin < until:
        raise InvalidArgument("to is not after from", field="to")
    if until - begin > WINDOW_MAX:
        raise InvalidArgument("from and to are more than ten years apart", field="to")
    if begin < FIRST or until > LAST:
        raise InvalidArgument("from and to must lie between 1970 and 2199", field="from" if begin < FIRST else "to")
    return begin, until


def _calendars(file: Path | None) -> CalendarOf:
    """Where to find the calendars by name; a file of them has no bad one. Raises InvalidArgument."""
    known: dict[str, Calendar] = {}
    for entry in load(file) if file is not None else ():
        known[entry.id] = calendar_of_document(entry.id, entry.schedule)

    def find(name: str) -> Calendar:
        if name not in known:
            raise InvalidArgument(f"there is no calendar {name!r} here: give it with --calendars FILE", field="exclude")
        return known[name]

    return find


def _compiled(entry: Entry, calendar_of: CalendarOf) -> tuple[Schedule, CompiledTrigger]:
    schedule = parse_document(entry.id, entry.schedule, LIMITS, calendar_of)
    return schedule, compile_trigger(schedule, calendar_of)


# --- for programs


def _report(simulation: Simulation, refused: list[str]) -> Report:
    return Report(
        start=format_instant(simulation.start),
        end=format_instant(simulation.end),
        fires=simulation.fires,
        busiest_second=_busiest(simulation.busiest_second),
        busiest_minute=_busiest(simulation.busiest_minute),
        hours=list(simulation.hours),
        schedules=[Fires(*total) for total in simulation.totals],
        clock_changes=[ClockChange(*change) for change in simulation.clock_changes],
        jitter_approximated=simulation.spread,
        refused=refused,
    )


def _busiest(peak: Peak | None) -> Busiest | None:
    if peak is None:
        return None
    return Busiest(format_instant(peak.at), peak.fires, peak.schedules, [Fires(*each) for each in peak.named])


# --- for people


def _show(simulation: Simulation) -> None:
    seconds = (simulation.end - simulation.start).total_seconds()
    never = sum(fires == 0 for _, fires in simulation.totals)
    print_facts(
        [
            ("Schedules", f"{len(simulation.totals):,}" + (f", {never:,} of them never fire" if never else "")),
            ("Fires", f"{simulation.fires:,}, on average {simulation.fires / seconds:.3g} a second"),
            ("Busiest second", _told(simulation.busiest_second)),
            ("Busiest minute", _told(simulation.busiest_minute)),
        ]
    )
    if simulation.spread:
        warn(f"The jitter of {simulation.spread:,} schedules that fire very often is drawn once, not for each fire.")
    if simulation.fires:
        heading("Fires per hour, on average, in UTC")
        for line in density(simulation):
            say(line)
        heading("Most fires")
        print_table([Fires(*total) for total in simulation.totals[:TOP]], TOP_COLUMNS)
    _show_changes(simulation.clock_changes)


TOP_COLUMNS: Sequence[Column[Fires]] = (
    Column("FIRES", lambda total: f"{total.fires:,}", rigid=True, right=True),
    Column("ID", lambda total: total.id),
)
CHANGE_COLUMNS: Sequence[Column[ClockChange]] = (
    Column("SCHEDULES", lambda change: f"{change.schedules:,}", rigid=True, right=True),
    Column("WHAT HAPPENS", lambda change: change.note),
)


def _told(peak: Peak | None) -> str | None:
    if peak is None:
        return None
    names = [f"{name} ({fires:,})" if fires > 1 else name for name, fires in peak.named]
    more = f" and {peak.schedules - len(names):,} more" if peak.schedules > len(names) else ""
    return f"{instant(format_instant(peak.at))}, {peak.fires:,} fires: {', '.join(names)}{more}"


def density(simulation: Simulation) -> Iterator[str]:
    """A line per hour of the day, a column per day of the week: 59 characters wide at most."""
    first = simulation.start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    sums: dict[tuple[int, int], tuple[int, int]] = {}
    for number, fires in enumerate(simulation.hours):
        at = first + number * _HOUR
        total, count = sums.get((at.hour, at.weekday()), (0, 0))
        sums[at.hour, at.weekday()] = total + fires, count + 1
    weekdays = sorted({weekday for _, weekday in sums})
    yield "UTC" + "".join(f"{DAYS[weekday]:>8}" for weekday in weekdays)
    for hour in sorted({hour for hour, _ in sums}):
        yield f"{hour:02d} " + "".join(f"{_mean(sums.get((hour, weekday))):>8}" for weekday in weekdays)


def _mean(total: tuple[int, int] | None) -> str:
    """In at most six characters: `-`, `0`, `0.02`, `17.5`, `4,321`, `12.3k`, `1.25M`."""
    if total is None:
        return "-"
    mean = total[0] / total[1]
    for unit, size, least in (("G", 1e9, 999_950_000), ("M", 1e6, 999_950), ("k", 1e3, 9_999.5)):
        if mean >= least:
            return f"{mean / size:.4g}{unit}"
    return f"{mean:,.0f}" if mean >= 99.95 or mean == int(mean) else f"{mean:.3g}"


def _show_changes(changes: Sequence[tuple[str, int]]) -> None:
    if changes:
        heading("Clock changes")
        print_table([ClockChange(*change) for change in changes[:CHANGES_SHOWN]], CHANGE_COLUMNS)
    if len(changes) > CHANGES_SHOWN:
        say(f"and {len(changes) - CHANGES_SHOWN:,} more (--json shows all)")
