"""What a program learns about its run: environment variables, beside those of the worker. Pure.

Instants are UTC with three decimals, spans are seconds. What does not apply is not set, whatever the worker's own
environment says.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from scheduler.wire.instants import format_instant
from scheduler.worker import TaskContext

RESULT = "SCHEDD_RESULT"
TRACEPARENT = "TRACEPARENT"  # OpenTelemetry's name for it between processes
HEADER = "SCHEDD_HEADER_"
NAMES = (
    "SCHEDD_EXECUTION_ID", "SCHEDD_SCHEDULE_ID", "SCHEDD_QUEUE", "SCHEDD_TYPE", "SCHEDD_KIND", "SCHEDD_ATTEMPT",
    "SCHEDD_MAX_TRIES", "SCHEDD_NOMINAL_AT", "SCHEDD_FIRE_AT", "SCHEDD_PREVIOUS_AT", "SCHEDD_NEXT_AT",
    "SCHEDD_DEADLINE", "SCHEDD_TIMEOUT", RESULT,
)  # fmt: skip


def environment(ctx: TaskContext, result_file: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of one run; a header `X-Team` of the schedule is `SCHEDD_HEADER_X_TEAM`."""
    timeout = None if ctx.timeout_s is None else f"{ctx.timeout_s:g}"
    instants = map(_instant, (ctx.nominal_at, ctx.fire_at, ctx.previous_at, ctx.next_at, ctx.deadline))
    values = (
        ctx.execution_id, ctx.schedule_id, ctx.queue, ctx.type, ctx.kind, str(ctx.attempt), str(ctx.max_tries),
        *instants, timeout, result_file,
    )  # fmt: skip
    own = {
        **dict(zip(NAMES, values, strict=True)),
        **{HEADER + name.upper().replace("-", "_"): value for name, value in ctx.headers.items()},
        TRACEPARENT: next((value for name, value in ctx.headers.items() if name.lower() == "traceparent"), None),
    }
    kept = {name: value for name, value in inherited.items() if name not in own and not name.startswith(HEADER)}
    return kept | {name: value for name, value in own.items() if value is not None and "\0" not in value}


def _instant(at: datetime | None) -> str | None:
    return None if at is None else format_instant(at)
