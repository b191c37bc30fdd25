"""The client of the API for Python programs: `async with Client.connect() as client: ...`.

    client.schedules.put, get, list, delete, pause, resume, trigger, preview, audit, backfill
    client.backfills.get, list, cancel
    client.executions.get, list, cancel, logs, retry
    client.calendars.put, get, list, delete
    client.actions.list, invoke
    client.workers.list
    client.queues.put, get, list, delete, purge, pause, resume
    client.status, health, wait
    client.watch, events, on, listening, stop_listening

Bodies are those of `scheduler.wire.api`, instants are text in UTC. Every method raises the errors that stand here
beside the client, and nothing else. Every call is bounded by `timeout_s`, however often it is repeated. Repeated is
what cannot do harm: whatever nobody has received, every read, a `put` (the daemon writes an equal definition only once,
and an expected revision is read back), a `pause` and a `resume` (twice is once), a `trigger` (its nonce names the
execution), a `backfill` (by its id). After `Unsure` a `delete` may or may not have happened: look before you repeat it.

Rooms: `connected` the client · `nouns` its methods · `calls` requests and repeats · `requests` what is sent, checked ·
`following` waiting and logs · `events` watching · `listening` listeners · `hints` being woken in time.
"""

from __future__ import annotations

from scheduler.client.acting import action_request, actions_request
from scheduler.client.calls import ListNotes
from scheduler.client.connected import Client, first
from scheduler.client.events import Event, Watch
from scheduler.client.following import StillRunning
from scheduler.client.requests import (
    audit_request,
    backfill_request,
    backfills_request,
    executions_request,
    lines_request,
    preview_request,
    retry_request,
    schedules_request,
    trigger_request,
    workers_request,
)
from scheduler.core.errors import (
    Conflict,
    Internal,
    InvalidArgument,
    NotFound,
    PayloadTooLarge,
    PermissionDenied,
    ScheddError,
    Unavailable,
    Unsure,
)

__all__ = [
    "Client",
    "Conflict",
    "Event",
    "Internal",
    "InvalidArgument",
    "ListNotes",
    "NotFound",
    "PayloadTooLarge",
    "PermissionDenied",
    "ScheddError",
    "StillRunning",
    "Unavailable",
    "Unsure",
    "Watch",
    "action_request",
    "actions_request",
    "audit_request",
    "backfill_request",
    "backfills_request",
    "executions_request",
    "first",
    "lines_request",
    "preview_request",
    "retry_request",
    "schedules_request",
    "trigger_request",
    "workers_request",
]
