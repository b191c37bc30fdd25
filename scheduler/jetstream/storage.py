"""How full the server is, by `STREAM.INFO` of each stream and the account's `INFO`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from scheduler.jetstream.requests import Requests
from scheduler.jetstream.topology import topology
from scheduler.ports.storage import Room, StoreState
from scheduler.wire.names import Names


class NatsStorage:
    """Implements `ports.storage.Storage`."""

    def __init__(self, requests: Requests, names: Names) -> None:
        self._requests = requests
        self._names = [stream.name for stream in topology(names).streams]

    async def stores(self) -> Sequence[StoreState]:
        subjects = [f"STREAM.INFO.{name}" for name in self._names]
        infos = await asyncio.gather(*(self._requests.api(each, by_leader=False) for each in subjects))
        return sorted(map(_state_of, infos), key=lambda state: state.name)

    async def room(self) -> Room:
        info = await self._requests.api("INFO")
        return Room(info.get("storage", 0), _limit((info.get("limits") or {}).get("max_storage")))


def _state_of(info: dict[str, Any]) -> StoreState:
    config, state = info["config"], info["state"]
    return StoreState(
        name=config["name"].removeprefix("KV_"),
        messages=state.get("messages", 0),
        size=state.get("bytes", 0),
        bytes_max=_limit(config.get("max_bytes")),
        messages_max=_limit(config.get("max_msgs")),
        copies=_copies(info.get("cluster")),
        copies_wanted=config.get("num_replicas", 1),
    )


def _copies(cluster: dict[str, Any] | None) -> int:
    """The leader and those that follow it closely; a server that is alone tells of no cluster."""
    if cluster is None:
        return 1
    if not cluster.get("leader"):
        return 0
    followers = cluster.get("replicas") or []
    return 1 + sum(bool(each.get("current")) and not each.get("offline") for each in followers)


def _limit(value: int | None) -> int | None:
    return value if value is not None and value > 0 else None
