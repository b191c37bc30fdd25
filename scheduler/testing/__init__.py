"""For users' tests and for ours: a task function alone, or a whole schedd in this process.

    ended = await run_task(worker, "email:monthly", {"to": "ann"}, attempt=2)

    async with LocalSchedd() as local, local.serving(worker), Client.connect(local.nats_url) as client: ...

Rooms: `tasks` one attempt without NATS · `virtual_time` a loop that does not wait · `local` server and replica ·
`conformance` for workers in other languages.
"""

from __future__ import annotations

from scheduler.testing.local import LocalSchedd
from scheduler.testing.tasks import TaskEnd, run_task

__all__ = ["LocalSchedd", "TaskEnd", "run_task"]
