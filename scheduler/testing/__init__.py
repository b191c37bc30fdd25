"""For users' tests and for ours: a whole schedd in this process.

async with LocalSchedd() as local:
    async with Client.connect(nats=local.nats_url) as client: ...
"""

from __future__ import annotations

from scheduler.testing.local import LocalSchedd

__all__ = ["LocalSchedd"]
