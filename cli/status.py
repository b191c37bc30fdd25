"""`schedctl status`: who leads, who is there, how far the plan reaches; with --detailed, whether all is well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from cli.connecting import Connection, connected
from cli.output import Column, Format, heading, instant, print_facts, print_json, print_table, say, shown_as
from scheduler.wire import api

CRIT = "crit"


@connected
@shown_as("json")
async def status(
    connection: Connection,
    shown: Format,
    detailed: Annotated[
        bool, typer.Option("--detailed", metavar="", help="Judge everything; exit code 1 if something is CRIT.")
    ] = False,
) -> None:
    """Show the daemon: leader, replicas, how far ahead it has planned, how many schedules there are."""
    endpoint = "status.health" if detailed else "status.get"
    async with connection.client() as client:
        body = await client.calls.fetch(endpoint, api.Nothing())
    if shown.json:
        print_json(body)
    if detailed:
        _judge(api.decode_reply(body, api.HealthReply), shown)
    elif not shown.json:
        _show(api.decode_reply(body, api.StatusReply))


def _judge(found: api.HealthReply, shown: Format) -> None:
    if not shown.json:
        print_table(found.checks, CHECK_COLUMNS)
        advice = [check for check in found.checks if check.advice]
        if advice:
            heading("What to do")
            print_facts([(_name(check), check.advice) for check in advice])
        say()
        say(f"All in all: {found.level.upper()}")
    if found.level == CRIT:
        raise typer.Exit(1)


def _name(check: api.HealthCheck) -> str:
    return f"{check.name} {check.of}" if check.of else check.name


CHECK_COLUMNS: Sequence[Column[api.HealthCheck]] = (
    Column("LEVEL", lambda check: check.level.upper(), rigid=True),
    Column("WHAT", _name),
    Column("HOW IT IS", lambda check: check.told),
)


def _show(found: api.StatusReply) -> None:
    counts = found.schedules
    print_facts(
        [
            ("Leader", _leader(found.leader)),
            ("Planned until", instant(found.planned_until)),
            ("Schedules", f"{counts.active} active, {counts.paused} paused, {counts.invalid} invalid"),
            ("NATS server", found.server),
            ("Clock skew", f"{found.clock_skew_s * 1000:+.0f} ms off the server"),
            ("Time zones", f"tzdata {found.tzdata}"),
        ]
    )
    if found.replicas:
        heading("Replicas")
        print_table(found.replicas, REPLICA_COLUMNS)


def _leader(leader: api.LeaderStatus | None) -> str:
    if leader is None:
        return "none: what is armed fires, nothing new is planned until one is elected"
    return f"{leader.replica}, epoch {leader.epoch}, since {instant(leader.since)}"


REPLICA_COLUMNS: Sequence[Column[api.ReplicaStatus]] = (
    Column("REPLICA", lambda replica: replica.replica),
    Column("VERSION", lambda replica: replica.version),
    Column("SINCE", lambda replica: instant(replica.started_at), rigid=True),
)
