"""`schedctl events`: what happened, and what happens."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Annotated, Any

import msgspec
import typer
from msgspec import Raw

from cli.connecting import Connection, connected
from cli.output import Format, clean, console, print_array, print_json_lines, shown_as, warn
from scheduler.client import Event, Watch
from scheduler.system.clock import SystemClock
from scheduler.wire.events import Kind
from scheduler.wire.instants import format_instant, parse_duration, parse_instant

SINCE = "1h"
WIDTH_MAX = 160  # of the data of one event; --json has all of it
LARGE = frozenset({"definition", "calendar_definitions"})
STYLES: Mapping[str, str] = {
    Kind.APPLIED: "green", Kind.RESUMED: "green", Kind.INVALID: "red", Kind.PAUSED: "yellow", Kind.VERDICTS: "yellow",
    Kind.DELETED: "yellow", Kind.LEADER: "cyan", Kind.ADMIN: "magenta",
}  # fmt: skip
KIND_WIDTH = max(len(kind) for kind in Kind)


@connected
@shown_as("json")
async def events(
    connection: Connection,
    shown: Format,
    follow: Annotated[bool, typer.Option("--follow", "-f", metavar="", help="Go on with what comes.")] = False,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", metavar="KIND", help=f"One of {', '.join(Kind)}; may be repeated.")
    ] = None,
    schedule: Annotated[str | None, typer.Option("--schedule", metavar="ID", help="About this schedule.")] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help=f"An instant, or a span before now; default {SINCE}; -f: now."),
    ] = None,
) -> None:
    """Show what happened: definitions applied, executions finished, who did what. With `--json -f` each is one line."""
    begin = _instant(since) if since or not follow else "now"
    async with connection.client() as client:
        read = client.watch if follow else client.events
        async with read(kind or None, schedule=schedule, since=begin) as watch:
            if shown.json:
                bodies = _bodies(watch)
                await (print_json_lines(bodies) if follow else print_array(bodies))
            elif not await _print(watch):
                warn(f"No events since {begin}. Earlier ones: --since 24h; those to come: -f")


def _instant(text: str | None) -> str:
    """An instant, or that long before now. Raises InvalidArgument."""
    if text is not None and ("T" in text or "-" in text):
        return format_instant(parse_instant(text, field="since"))
    span: timedelta = parse_duration(text or SINCE, field="since")
    return format_instant(SystemClock().now() - span)


async def _bodies(watch: Watch) -> AsyncIterator[Raw]:
    async for event in watch:
        yield Raw(event.body)


async def _print(watch: Watch) -> int:
    out, count = console(), 0
    async for event in watch:
        out.print(
            line(event), style=STYLES.get(Kind(event.kind), "") if event.kind in list(Kind) else "", soft_wrap=True
        )
        sys.stdout.flush()
        count += 1
    return count


def line(event: Event) -> str:
    """`2026-11-21 09:52:41.066Z  finished  report  state=succeeded ...`; what is large is left out."""
    at = format_instant(event.at).replace("T", " ")
    facts = "  ".join(_facts(event.data))
    facts = facts if len(facts) <= WIDTH_MAX else facts[: WIDTH_MAX - 1] + "…"
    return clean(f"{at}  {event.kind:<{KIND_WIDTH}}  {event.schedule or '-'}  {facts}").rstrip()


def _facts(data: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for name, value in data.items():
        if isinstance(value, dict) and name not in LARGE:
            found += _facts(value)
        elif value is not None and name not in LARGE:
            found.append(f"{name}={value if isinstance(value, str) else msgspec.json.encode(value).decode()}")
    return found
