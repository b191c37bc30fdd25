"""The worker SDK.

    from scheduler.worker import Worker

    worker = Worker("EMAIL")

    @worker.task("email:monthly", max_tries=3, timeout="30s")
    async def monthly(payload, ctx):
        ctx.log.info("sending", to=payload["to"])
        return {"sent": 3}

    worker.run()

What it guarantees (mechanisms.md, part 7): at most one first attempt of an execution starts, whatever dies; with
`max_tries=1` nothing runs twice; with more, a lost attempt is followed by the next one, and `ctx.execution_id` is the
idempotency key. An attempt's end is on record before its task leaves the queue. A worker that is stopped hands back
what it cannot finish: as a retry where a try is left, else as failed, never silently.

Rooms: `worker` the public class · `handlers` the functions · `session` one connected life · `pulling` and `slots` get
tasks, `turns` limits a type · `task` what came · `deciding` what to do about it (pure) · `claiming` taking an attempt ·
`running` a delivery from end to end · `attempt` the part of it that the test kit shares · `calling` middleware and
function · `raising` what it may raise · `context` its `ctx` · `reporting` its end · `presence` signs of life · `lag` a
blocked loop · `acting` custom actions.
"""

from __future__ import annotations

from scheduler.worker.context import TaskContext
from scheduler.worker.handlers import ANY
from scheduler.worker.raising import Cancel, Fail, Retry
from scheduler.worker.worker import Worker

__all__ = ["ANY", "Cancel", "Fail", "Retry", "TaskContext", "Worker"]
