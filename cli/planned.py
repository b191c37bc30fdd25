"""What an apply would do, worked out and shown: each schedule created, changed or pruned, the fields that change, and
the fires that a changed one gains and loses within a day."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from cli.checking import rule_of
from cli.output import clean, instant, paint, print_json, say
from scheduler.core.calendars import CalendarOf
from scheduler.core.comparing import STEPS_MAX, Comparison, Fires, compare_fires
from scheduler.core.previewing import preview
from scheduler.wire.applying import Change, Kind
from scheduler.wire.differences import ABSENT, Difference
from scheduler.wire.instants import format_instant, format_optional

WINDOW = timedelta(hours=24)
STEPS_IN_ALL = 1_000_000  # fires looked at for one apply; then each further schedule gets a few
STEPS_LEAST = 2_000
VALUE_SHOWN = 60
FIELDS_SHOWN = 40
SIGNS = {Kind.CREATED: "green", Kind.CHANGED: "yellow", Kind.PRUNED: "red", Kind.KEPT: "dim"}
_WHEN = (
    "cron", "every", "after", "at", "rrule", "manual", "timezone", "anchor", "dst", "starts_at", "ends_at", "max_fires",
    "jitter", "start_delay", "exclude", "on_excluded", "paused", "paused_until",
)  # fmt: skip


class Planned(Struct, frozen=True):
    """A change, where its definition stands, and what becomes of its fires."""

    change: Change
    place: str = ""
    next_at: datetime | None = None
    fires: Comparison | None = None


class Foresight:
    """Looks ahead from one instant, with a budget for all the schedules of an apply."""

    def __init__(self, now: datetime, calendar_of: CalendarOf) -> None:
        self._now, self._calendar_of = now, calendar_of
        self._steps_left = STEPS_IN_ALL

    def planned(self, change: Change, place: str = "") -> Planned:
        if change.kind is Kind.CHANGED and change.before is not None:
            return Planned(change, place, fires=self._fires(change))
        if change.kind in {Kind.CREATED, Kind.CHANGED}:
            return Planned(change, place, next_at=self._next(change.id, change.after))
        if change.kind is Kind.PRUNED:
            return Planned(change, place, next_at=self._next(change.id, change.before))
        return Planned(change, place)

    def _next(self, schedule_id: str, document: Mapping[str, Any] | None) -> datetime | None:
        rule = rule_of(schedule_id, document, self._calendar_of)
        if rule is None or rule[0].is_paused_at(self._now):
            return None
        fires = preview(*rule, after=self._now, count=1)
        return fires[0].fire_at if fires else None

    def _fires(self, change: Change) -> Comparison | None:
        """None: it fires as it did."""
        if not any(each.path.partition(".")[0] in _WHEN for each in change.differences):
            return None
        before = rule_of(change.id, change.before, self._calendar_of)
        after = rule_of(change.id, change.after, self._calendar_of)
        steps = max(STEPS_LEAST, min(STEPS_MAX, self._steps_left))
        found = compare_fires(before, after, self._now, self._now + WINDOW, steps_max=steps)
        self._steps_left -= found.steps
        return found


# --- for people


def show(planned: Iterable[Planned]) -> None:
    """A line for each change, more for a changed one; what stays as it is has no line."""
    for each in planned:
        change = each.change
        if change.kind is Kind.UNCHANGED:
            continue
        paint(f"{change.kind:<9} {change.id}{_remark(each)}", SIGNS[change.kind])
        _show_differences(change.differences)
        if each.fires is not None:
            say(f"  {fires_text(each.fires)}{_unknown(change)}")


def _remark(planned: Planned) -> str:
    change = planned.change
    if change.kind is Kind.KEPT:
        return f": {clean(change.reason)}"
    if change.kind is Kind.PRUNED:
        return f", would have fired next {instant(format_instant(planned.next_at))}" if planned.next_at else ""
    if change.kind is Kind.CREATED:
        return f", next {instant(format_instant(planned.next_at))}" if planned.next_at else ", no fire ahead"
    return ", which held no JSON object" if change.before is None else ""


def _unknown(change: Change) -> str:
    """What the comparison cannot know."""
    fields = {field for document in (change.before, change.after) for field in document or ()}
    told = {"after": "what follows the ends of runs is not counted", "max_fires": "max_fires is not counted in"}
    return "".join(f" ({text})" for field, text in told.items() if field in fields)


def _show_differences(found: Sequence[Difference]) -> None:
    shown = found[:FIELDS_SHOWN]
    width = max((len(each.path) for each in shown), default=0)
    for each in shown:
        before, after = value_text(each.path, each.before), value_text(each.path, each.after)
        say(f"  {clean(each.path):<{min(width, 40)}}  {before} -> {after}")
    if len(found) > len(shown):
        say(f"  and {len(found) - len(shown)} more fields")


def value_text(path: str, value: Any) -> str:
    """A value in a few words: text as it is, everything else as JSON; `-` where there is none."""
    if value is ABSENT:
        return "-"
    text = value if isinstance(value, str) and not path.startswith("payload") else json.dumps(value, ensure_ascii=False)
    text = clean(text)
    return text if len(text) <= VALUE_SHOWN else f"{text[:VALUE_SHOWN]}... ({len(text):,} characters)"


def fires_text(found: Comparison) -> str:
    """`next 24 h: 1 fire gained (2026-11-22 10:00:00Z), none lost`."""
    gained, lost = _fires_text(found.gained, "gained"), _fires_text(found.lost, "lost")
    told = "the same fires" if not found.gained.count and not found.lost.count else f"{gained}, {lost}"
    return f"{_stretch(found)}: {told}"


def _stretch(found: Comparison) -> str:
    return "next 24 h" if found.is_whole else f"until {instant(format_instant(found.until))}"


def _fires_text(fires: Fires, what: str) -> str:
    if not fires.count:
        return f"none {what}"
    first = ", ".join(instant(format_instant(at)) for at in fires.first)
    more = ", ..." if fires.count > len(fires.first) else ""
    return f"{fires.count:,} {'fire' if fires.count == 1 else 'fires'} {what} ({first}{more})"


def counted(kinds: Iterable[Kind]) -> str:
    """`2 created, 1 changed, 40 unchanged`; without the kinds that did not come up, except unchanged."""
    counts = Counter(kinds)
    shown = [f"{counts[kind]:,} {kind}" for kind in Kind if counts[kind] or kind is Kind.UNCHANGED]
    return ", ".join(shown)


# --- for scripts


class ChangedField(Struct):
    path: str
    before: Any
    after: Any


class FiresReport(Struct):
    until: str
    gained: int
    lost: int
    first_gained: list[str]
    first_lost: list[str]


class ChangeReport(Struct, omit_defaults=True):
    """One schedule. A side of a difference that has no such field has its default, or null."""

    id: str
    change: str
    place: str = ""
    reason: str = ""
    next_at: str | None = None
    differences: list[ChangedField] = []
    fires: FiresReport | None = None
    error: str | None = None


class Report(Struct):
    """What `apply --json` and `diff --json` print; schedules that stay as they are are only counted."""

    dry_run: bool
    counts: dict[str, int]
    items: list[ChangeReport]
    export: str | None = None


def report_of(
    planned: Sequence[Planned], *, dry_run: bool, errors: Mapping[str, str], export: str | None = None
) -> Report:
    counts = Counter(str(each.change.kind) for each in planned if each.change.id not in errors)
    items = [_item(each, errors.get(each.change.id)) for each in planned if each.change.kind is not Kind.UNCHANGED]
    all_counts = {str(kind): counts[kind] for kind in Kind} | {"failed": len(errors)}
    return Report(dry_run=dry_run, counts=all_counts, items=items, export=export)


def print_report(report: Report) -> None:
    print_json(msgspec.json.encode(report))


def _item(planned: Planned, error: str | None) -> ChangeReport:
    change = planned.change
    fields = [ChangedField(each.path, _plain(each.before), _plain(each.after)) for each in change.differences]
    return ChangeReport(
        id=change.id,
        change=str(change.kind),
        place=planned.place,
        reason=change.reason,
        next_at=format_optional(planned.next_at),
        differences=fields,
        fires=None if planned.fires is None else _fires_report(planned.fires),
        error=error,
    )


def _plain(value: Any) -> Any:
    return None if value is ABSENT else value


def _fires_report(found: Comparison) -> FiresReport:
    return FiresReport(
        until=format_instant(found.until),
        gained=found.gained.count,
        lost=found.lost.count,
        first_gained=[format_instant(at) for at in found.gained.first],
        first_lost=[format_instant(at) for at in found.lost.first],
    )
