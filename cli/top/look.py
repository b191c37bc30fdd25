"""What one look at a schedd found, and the rows that it makes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from cli.output import clean, seconds
from scheduler.wire import api
from scheduler.wire.instants import parse_instant
from scheduler.wire.record import Record
from scheduler.wire.reports import Progress

RATE_S = 10.0
FAILED = frozenset({"failed", "timed_out", "lost", "missed", "expired"})
SORTS = ("longest", "newest", "id")


class Look(Struct, frozen=True, kw_only=True):
    """`recent`: executions, newest first, at most `recent_max`; `progress` by execution id; `at`: the time it is of.

    `problem`: why this look found nothing new; then everything else is that of the look before.
    """

    at: datetime
    health: api.HealthReply | None = None
    recent: Sequence[Record] = ()
    recent_max: int = 500
    running: Sequence[Record] = ()
    progress: Mapping[str, Progress] = {}
    problem: str | None = None


class Row(Struct, frozen=True):
    """One line of a table, its cells as text; `style` names a state whose colour it has."""

    cells: tuple[str, ...]
    style: str = ""


QUEUE_TITLES = ("QUEUE", "LEVEL", "HOW IT IS")
RUNNING_TITLES = ("RUNNING", "TRY", "FOR", "PROGRESS")
FAILED_TITLES = ("FAILED", "STATE", "AGO", "WHY")


def summary(look: Look) -> list[str]:
    """Two lines: who plans, how much happens."""
    told = {} if look.health is None else {check.name: check.told for check in look.health.checks}
    level = "?" if look.health is None else look.health.level.upper()
    leader = told.get("leader", "unknown")
    first = f"{level} · leader {leader} · plan {told.get('planning', 'unknown')}"
    fired, ended = rate(look, "queued_at"), rate(look, "finished_at")
    late = told.get("lateness", "").partition(",")[0]
    return [first, f"{fired} fired/s · {ended} ended/s · {late} · {told.get('schedules', '')}"]


def rate(look: Look, moment: str) -> str:
    """How often a second, over the last seconds; `+` where there was more than a look can see."""
    since = look.at - timedelta(seconds=RATE_S)
    found = [parse_instant(at) for record in look.recent if (at := getattr(record, moment)) is not None]
    count = sum(at > since for at in found)
    more = "+" if len(look.recent) >= look.recent_max and found and min(found) > since else ""
    return f"{count / RATE_S:.1f}{more}"


def troubles(look: Look) -> list[str]:
    """What is not well, worst first, with what to do; queues have a table of their own."""
    checks = [] if look.health is None else [check for check in look.health.checks if check.level != "ok"]
    checks.sort(key=lambda check: check.level != "crit")
    return [
        f"{check.level.upper()} {_of(check)}: {clean(check.told)} ({check.advice})"
        for check in checks
        if check.name != "queue"
    ]


def _of(check: api.HealthCheck) -> str:
    return f"{check.name} {check.of}" if check.of else check.name


def queue_rows(look: Look, only: str = "") -> list[Row]:
    """The queues, those in trouble first."""
    checks = [] if look.health is None else [each for each in look.health.checks if each.name == "queue" and each.of]
    order = {"crit": 0, "warn": 1}
    checks.sort(key=lambda check: (order.get(check.level, 2), check.of or ""))
    rows = [Row((check.of or "", check.level.upper(), check.told), check.level.upper()) for check in checks]
    return [row for row in rows if only in row.cells[0]]


def running_rows(look: Look, sort: str = SORTS[0], only: str = "") -> list[Row]:
    """What runs: id, attempt, since when, how far."""
    found = [record for record in look.running if _matches(record, only)]
    if sort == "id":
        found.sort(key=lambda record: record.id)
    else:
        found.sort(key=lambda record: record.started_at or "", reverse=sort == "newest")
    return [
        Row(
            (
                clean(record.id),
                f"{record.attempt}/{record.max_tries}",
                _since(look.at, record.started_at),
                _progress(look.progress.get(record.id)),
            ),
            record.state,
        )
        for record in found
    ]


def failed_rows(look: Look, only: str = "") -> list[Row]:
    """What failed last: id, state, when, why."""
    found = [record for record in look.recent if record.state in FAILED and _matches(record, only)]
    found.sort(key=lambda record: record.finished_at or record.nominal_at, reverse=True)
    return [
        Row((clean(record.id), record.state, _since(look.at, record.finished_at), clean(_why(record))), record.state)
        for record in found
    ]


def _matches(record: Record, only: str) -> bool:
    return any(only in text for text in (record.id, record.queue, record.type, record.worker or ""))


def _since(at: datetime, moment: str | None) -> str:
    return "-" if moment is None else seconds(max(0.0, (at - parse_instant(moment)).total_seconds()))


def _progress(found: Progress | None) -> str:
    if found is None:
        return "-"
    parts = [f"{found.fraction:.0%}" if found.fraction is not None else "", clean(found.note or "")]
    return " ".join(part for part in parts if part) or "-"


def _why(record: Record) -> str:
    if record.error is not None:
        return f"{record.error.type}: {record.error.message}"
    return record.reason or ""
