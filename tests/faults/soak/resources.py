"""What processes and servers take up, every few seconds, from outside: /proc, and the monitoring port of NATS."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from tests.acceptance.harness import Site
from tests.acceptance.processes import Replica
from tests.faults.soak.history import Sample
from tests.nats_servers import Server

EVERY_S = 5.0
ANSWER_S = 3.0
PAGE = os.sysconf("SC_PAGE_SIZE")


class Sampler:
    """`run` until it is cancelled; `samples` grows."""

    def __init__(self, site: Site, servers: Mapping[str, Server]) -> None:
        self._site, self._servers = site, servers
        self.samples: list[Sample] = []

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """One sample of each that runs; what is down or stopped has none, or no more than /proc tells."""
        now = datetime.now(UTC)
        for each in self._site.processes:
            if isinstance(each, Replica) and each.exit_code is None:
                self._keep(now, each.name.partition(".")[0], each.pid, {})
        told = await asyncio.gather(*(levels_of(server) for server in self._servers.values()))
        for (name, server), levels in zip(self._servers.items(), told, strict=True):
            if server.pid is not None:
                self._keep(now, name, server.pid, levels)

    async def connections(self) -> bytes:
        """Who is connected to which server and listens to what: it tells where a level came from."""
        return msgspec.json.encode({name: await each.monitor("/connz?subs=1") for name, each in self._servers.items()})

    def _keep(self, now: datetime, who: str, pid: int, levels: Mapping[str, float]) -> None:
        try:
            self.samples.append(Sample(now, who, pid, {**process_levels(pid), **levels}))
        except (OSError, ValueError, IndexError):
            return  # it has just ended


def process_levels(pid: int) -> dict[str, float]:
    """Resident memory in MB, open files and threads of a process. Raises OSError when there is none."""
    place = Path(f"/proc/{pid}")
    return {
        "rss_mb": int((place / "statm").read_text().split()[1]) * PAGE / 2**20,
        "files": float(len(list((place / "fd").iterdir()))),
        "threads": float(len(list((place / "task").iterdir()))),
    }


async def levels_of(server: Server) -> dict[str, float]:
    """Connections, subscriptions, consumers and stored bytes of a server; nothing when it does not answer."""
    try:
        async with asyncio.timeout(ANSWER_S):
            general = await server.monitor("/varz")
            streams = await server.monitor("/jsz?streams=1&accounts=1")
    except (OSError, TimeoutError, ValueError):
        return {}
    found = {"connections": float(general["connections"]), "subscriptions": float(general["subscriptions"])}
    return {**found, **stream_levels(streams)}


def stream_levels(jsz: Mapping[str, Any]) -> dict[str, float]:
    """Of a /jsz answer: consumers and bytes of every stream that this server holds."""
    found: dict[str, float] = {"consumers": 0.0}
    for account in jsz.get("account_details") or []:
        for stream in account.get("stream_detail") or []:
            name, state = stream["name"], stream["state"]
            found[f"bytes.{name}"] = float(state["bytes"])
            found[f"messages.{name}"] = float(state["messages"])
            found["consumers"] += float(state["consumer_count"])
    return found
