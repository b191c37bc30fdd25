"""Which executions a command is about: named by their ids, or by a filter; the options are the same everywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from cli.options import Command, expand, option
from cli.spans import METAVAR, instant_of
from scheduler.client import Client, ListNotes, executions_request
from scheduler.core.errors import InvalidArgument, NotFound
from scheduler.wire import api
from scheduler.wire.record import ErrorType

CHOSEN_MAX = 100_000
PANEL = "Filter"
OPTIONS = (
    option("schedule", str | None, "--schedule", metavar="ID", rich_help_panel=PANEL, text="Of this schedule."),
    option(
        "state", str | None, "--state", metavar="STATE[,STATE]", rich_help_panel=PANEL,
        text="In one of these states, for example failed,timed_out,lost.",
    ),
    option("queue", str | None, "--queue", metavar="QUEUE", rich_help_panel=PANEL, text="In this queue."),
    option("type_", str | None, "--type", metavar="TYPE", rich_help_panel=PANEL, text="Of this type."),
    option(
        "reason", str | None, "--reason", metavar="WORD", rich_help_panel=PANEL,
        text="For this reason (max_tries, worker_gone ...), or with an error of this type.",
    ),
    option(
        "since", str | None, "--since", metavar=METAVAR, rich_help_panel=PANEL,
        text="Nominal time from so long ago (1h), or from this instant on.",
    ),
    option(
        "until", str | None, "--until", metavar=METAVAR, rich_help_panel=PANEL, text="And before this one."
    ),
)  # fmt: skip
OLDER = "Only recent executions were looked at. Older ones are found by their schedule:  --schedule ID"


class Filter(Struct, frozen=True):
    """What was given; None: anything."""

    schedule: str | None = None
    state: str | None = None
    queue: str | None = None
    type_: str | None = None
    reason: str | None = None
    since: str | None = None
    until: str | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in msgspec.structs.astuple(self))

    def request(self, default_state: str | None = None) -> api.ListExecutions:
        """The page to ask for first. Raises InvalidArgument."""
        return executions_request(
            schedule=self.schedule, state=self.state or default_state, queue=self.queue, type_=self.type_,
            reason=self.reason, since=_instant(self.since, "since"), until=_instant(self.until, "until"),
        )  # fmt: skip


def _instant(text: str | None, field: str) -> str | None:
    return None if text is None else instant_of(text, field=field)


class Chosen(Struct, frozen=True):
    """What is shown of an execution, and needed, before something is done to it: no payload, so that many fit."""

    id: str
    state: str
    queue: str = ""
    type: str = ""
    attempt: int = 0
    attempts_before: int = 0
    max_tries: int = 0
    drive: int = 0
    reason: str | None = None
    error: ErrorType | None = None


class Choice(Struct):
    """What was found, and of those that were named what was not."""

    found: list[Chosen]
    missing: list[NotFound]


def filtered(function: Command) -> Command:
    """Give a command the options of a filter; it gets them as `wanted`."""

    def collect(values: Mapping[str, Any]) -> Filter:
        return Filter(**values)

    return expand(function, "wanted", OPTIONS, collect)


def check_choice(ids: list[str], wanted: Filter, example: str) -> None:
    """Either ids or a filter. Raises InvalidArgument."""
    if ids and wanted:
        raise InvalidArgument("give ids, or a filter, not both")
    if not ids and not wanted:
        raise InvalidArgument(f"give the ids of executions, or a filter, for example {example}")


async def choose(client: Client, ids: list[str], wanted: Filter, default_state: str, notes: ListNotes) -> Choice:
    """The executions, newest first, or in the order in which they were named. Raises InvalidArgument."""
    choice = Choice([], [])
    async for item in records_of(client, ids, wanted, default_state, notes, choice.missing):
        if len(choice.found) == CHOSEN_MAX:
            raise InvalidArgument(f"more than {CHOSEN_MAX:,} executions match: narrow the filter")
        choice.found.append(msgspec.json.decode(item, type=Chosen))
    return choice


async def records_of(
    client: Client, ids: list[str], wanted: Filter, default_state: str, notes: ListNotes, missing: list[NotFound]
) -> AsyncIterator[Raw]:
    """The same, as raw records."""
    if not ids:
        async for item in client.calls.pages("execution.list", wanted.request(default_state), notes):
            yield item
    for each in dict.fromkeys(ids):
        try:
            yield Raw(await client.calls.fetch("execution.get", api.Id(id=each)))
        except NotFound as problem:
            missing.append(problem)
