"""One server and one replica for a whole module of tests that do each other no harm.

    async def test_x(standing, contract): ...     the process and its server; a `Site` of this test on it

Ids and queues are this test's own; whatever it starts beside the replica ends with it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from tests.acceptance.harness import SHORT
from tests.acceptance.processes import POLL_S, Replica
from tests.nats_servers import Server

READY_S = 40.0
QUICK = {**SHORT, "SCHEDD_RECONCILE_EVERY": "1", "SCHEDD_RECONCILE_GRACE": "1"}


class Standing(Struct, frozen=True):
    """What stays up: `replica` leads."""

    server: Server
    replica: Replica
    folder: Path

    @property
    def url(self) -> str:
        return self.server.url

    def start(self, name: str, **env: str) -> Replica:
        """One more replica, by `python -m scheduler`; end it yourself."""
        return start_replica(name, self.folder, self.url, env)


def start_replica(name: str, folder: Path, url: str, env: Mapping[str, str]) -> Replica:
    return Replica(name, folder, {**QUICK, "NATS_URL": url, "SCHEDD_REPLICA": name, **env})


def stand(folder: Path, **env: str) -> Iterator[Standing]:
    """For a fixture: up until it is resumed."""
    server = Server(folder / "nats", config="max_payload: 8MB")
    server.spawn()
    try:
        server.wait_ready()
        replica = start_replica("a", folder, server.url, env)
        try:
            wait_for(replica, "leadership_gained")
            yield Standing(server, replica, folder)
        finally:
            end(replica)
    finally:
        server.kill_now()


def wait_for(replica: Replica, event: str) -> None:
    until_s = time.monotonic() + READY_S
    while not replica.events(event):
        assert replica.exit_code is None, f"{replica.name} ended with {replica.exit_code}:\n{replica.log[-3000:]}"
        assert time.monotonic() < until_s, f"{replica.name} never logged {event}:\n{replica.log[-3000:]}"
        time.sleep(POLL_S)


def end(replica: Replica) -> None:
    """kill -9, and wait."""
    replica.signal(signal.SIGKILL)
    while replica.exit_code is None:
        time.sleep(POLL_S)
