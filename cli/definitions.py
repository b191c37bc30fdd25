"""A schedule given by flags that are named as its fields (contract, part 3).

One table says which flag fills which field; `add` and `preview` take it whole. What the values mean is checked by the
daemon, so that every way in refuses the same things with the same words.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from cli.options import Command, expand, option
from scheduler.core.errors import InvalidArgument
from scheduler.wire.ids import check_schedule_id

PAYLOAD_FILE_MAX = 1_000_000
WHEN, MORE, WHAT, HOW, ABOUT = "When: exactly one of", "When, more", "What", "How", "About and state"


class Flag(NamedTuple):
    """`path` is where the value goes in the definition; `kind` how typer reads it."""

    path: tuple[str, ...]
    kind: Any
    panel: str
    text: str
    declarations: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return "field_" + "_".join(self.path)

    @property
    def spelled(self) -> tuple[str, ...]:
        return self.declarations or ("--" + "-".join(self.path).replace("_", "-"),)

    def parameter(self) -> inspect.Parameter:
        metavar = {float: "NUMBER", int: "N", bool: "", str: "TEXT", list[str]: "TEXT"}[self.kind]
        kind = self.kind if self.kind == list[str] else self.kind | None
        return option(self.name, kind, *self.spelled, text=self.text, metavar=metavar, rich_help_panel=self.panel)


def _flag(path: str, kind: Any, panel: str, text: str, *declarations: str) -> Flag:
    return Flag(tuple(path.split(".")), kind, panel, text, declarations)


FLAGS = (
    _flag("cron", list[str], WHEN, 'Cron expression, 5 to 7 fields or @daily and the like; may be repeated.'),
    _flag("every", str, WHEN, "Interval on a fixed grid, as 10s, 5m, 1h30m."),
    _flag("after", str, WHEN, "Fixed delay from the end of the last run."),
    _flag("at", list[str], WHEN, "One instant, as 2026-11-21T08:00:00Z; may be repeated."),
    _flag("rrule", list[str], WHEN, "RFC 5545 recurrence rule; may be repeated."),
    _flag("manual", bool, WHEN, "Never by itself, only by `schedctl trigger`."),
    _flag("timezone", str, MORE, "IANA zone of cron and rrule, as Europe/Berlin; default UTC."),
    _flag("anchor", str, MORE, "Instant the grid of --every goes through; where --rrule starts."),
    _flag("dst.gap", str, MORE, "A local time that a clock change leaves out: next or skip."),
    _flag("dst.overlap", str, MORE, "A local time that happens twice: first, second or both."),
    _flag("starts_at", str, MORE, "Nothing before this instant."),
    _flag("ends_at", str, MORE, "Nothing at this instant or after."),
    _flag("max_fires", int, MORE, "Stop after that many."),
    _flag("jitter", str, MORE, "Spread fires over this span."),
    _flag("start_delay", str, MORE, "Fire that much after the nominal time."),
    _flag("exclude", list[str], MORE, "Calendar or cron expression on which not to fire; may be repeated."),
    _flag("on_excluded", str, MORE, "skip, next_business_day or previous_business_day."),
    _flag("queue", str, WHAT, "Queue that the tasks go to (required)."),
    _flag("type", str, WHAT, "What workers know the task by, as email:monthly (required)."),
    _flag("payload", str, WHAT, 'Payload as JSON (a text needs its own quotes: \'"hello"\'), or @FILE.'),
    _flag("payload_base64", str, WHAT, "Payload as any bytes, in base64."),
    _flag("headers", list[str], WHAT, "Header for the task; may be repeated.", "--header", "--headers"),
    _flag("overlap", str, HOW, "While the last run goes on: skip, allow, buffer_one, buffer_all, ...; default skip."),
    _flag("max_running", int, HOW, "With --overlap allow: at most that many at once."),
    _flag("catch_up.mode", str, HOW, "Late ones: latest, none, earliest or all.", "--catch-up", "--catch-up-mode"),
    _flag("catch_up.after", str, HOW, "Late means later than this."),
    _flag("catch_up.window", str, HOW, "How far back to catch up."),
    _flag("catch_up.max", int, HOW, "At most that many."),
    _flag("start_deadline", str, HOW, "From the fire time until an attempt starts."),
    _flag("deadline", str, HOW, "From the fire time until everything is over."),
    _flag("timeout", str, HOW, "For one attempt."),
    _flag("max_tries", int, HOW, "Attempts at most; default 3."),
    _flag("backoff.initial", str, HOW, "Wait before the second attempt."),
    _flag("backoff.max", str, HOW, "Longest wait."),
    _flag("backoff.factor", float, HOW, "Each wait is that many times the last one."),
    _flag("backoff.jitter", float, HOW, "Spread waits by this fraction."),
    _flag("name", str, ABOUT, "A name for people."),
    _flag("description", str, ABOUT, "What it is for."),
    _flag("labels", list[str], ABOUT, "Label to select it by; may be repeated.", "--label", "--labels"),
    _flag("paused", bool, ABOUT, "Store it paused."),
    _flag("pause_note", str, ABOUT, "Why it is paused."),
    _flag("paused_until", str, ABOUT, "Instant at which the pause ends."),
    _flag("retention.age", str, ABOUT, "How long its executions are kept.", "--retention", "--retention-age"),
)  # fmt: skip


def by_flags(*, without: str = "") -> Callable[[Command], Command]:
    """Give a command all these options; it gets the fields that were given as `fields`, a dictionary of JSON values."""
    flags = [flag for flag in FLAGS if flag.path != (without,)]

    def collect(values: Mapping[str, Any]) -> dict[str, Any]:
        return fields_of({flag: values[flag.name] for flag in flags})

    def give(function: Command) -> Command:
        return expand(function, "fields", [flag.parameter() for flag in flags], collect)

    return give


def fields_of(values: Mapping[Flag, Any]) -> dict[str, Any]:
    """The definition that the given flags make. Raises InvalidArgument for a value that cannot be one."""
    found: dict[str, Any] = {}
    for flag, value in values.items():
        if value in (None, []):
            continue
        place = found
        for step in flag.path[:-1]:
            place = place.setdefault(step, {})
        place[flag.path[-1]] = _value(flag, value)
    return found


def _value(flag: Flag, value: Any) -> Any:
    if flag.path == ("payload",):
        return read_payload(value)
    if flag.path in {("headers",), ("labels",)}:
        return read_pairs(value, flag.spelled[0])
    if flag.path in {("cron",), ("at",), ("rrule",)} and len(value) == 1:
        return value[0]
    return value


def read_pairs(texts: list[str], flag: str) -> dict[str, str]:
    """`NAME=VALUE` texts as a dictionary."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise InvalidArgument(f"{flag} {clean_repr(text)}: write NAME=VALUE", field=flag.lstrip("-"))
        if name in pairs:
            raise InvalidArgument(f"{flag} {clean_repr(text)}: {name} is given twice", field=flag.lstrip("-"))
        pairs[name] = value
    return pairs


def read_payload(text: str) -> Raw:
    """A payload, byte for byte: JSON, or `@FILE` for a file that holds JSON. Raises InvalidArgument."""
    source = _read_file(Path(text[1:])) if text.startswith("@") else text.encode("utf-8", "surrogateescape")
    try:
        msgspec.json.decode(source)
    except (ValueError, RecursionError) as problem:
        hint = "" if text.startswith("@") else "; a plain text needs quotes of its own: --payload '\"text\"'"
        raise InvalidArgument(f"--payload is not JSON: {problem}{hint}", field="payload") from None
    return Raw(source.strip())


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(PAYLOAD_FILE_MAX + 1)
    except OSError as problem:
        raise InvalidArgument(f"--payload: cannot read {path}: {problem.strerror}", field="payload") from None
    if len(content) > PAYLOAD_FILE_MAX:
        raise InvalidArgument(f"--payload: {path} is larger than 1 MB", field="payload")
    return content


def clean_repr(text: str) -> str:
    return repr(text)[:60]


def checked_id(text: str | None) -> str:
    """The id of the schedule to add. Raises InvalidArgument if there is none."""
    if text is None:
        raise InvalidArgument("give the id of the schedule, or its definition with -f FILE", field="id")
    return check_schedule_id(text)
