"""`schedctl status`: who leads, who is there, how far the plan reaches."""

from __future__ import annotations

from collections.abc import Sequence

from cli.connecting import Connection, connected
from cli.output import Column, Format, heading, instant, print_facts, print_json, print_table, shown_as
from scheduler.wire import api


@connected
@shown_as("json")
async def status(connection: Connection, shown: Format) -> None:
    """Show the daemon: leader, replicas, how far ahead it has planned, how many schedules there are."""
    async with connection.client() as client:
        body = await client.calls.fetch("status.get", api.Nothing())
    if shown.json:
        print_json(body)
    else:
        _show(api.decode_reply(body, api.StatusReply))


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
