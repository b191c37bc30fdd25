"""What tests of provisioning share: the names, how much there is of everything, what a stream is like."""

from __future__ import annotations

from typing import Any

from scheduler.jetstream.requests import Requests
from scheduler.jetstream.topology import topology
from scheduler.wire.names import Names

NAMES = Names()
EVERYTHING = len(topology(NAMES).streams) + len(topology(NAMES).consumers)


async def config_of(requests: Requests, stream: str) -> dict[str, Any]:
    config: dict[str, Any] = (await requests.api(f"STREAM.INFO.{stream}"))["config"]
    return config
