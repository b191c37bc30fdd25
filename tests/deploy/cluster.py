"""What a cluster does with a Deployment: keeps its replicas, rolls and scales it, drains nodes within the PDB's word.

The rules are those of the Deployment and eviction controllers, written down from the API's documentation:
maxSurge is rounded up and maxUnavailable down; a pod counts as available once it has been ready for minReadySeconds;
an eviction is refused (429) where fewer pods than the budget asks for would stay healthy; `kubectl drain` asks again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Self

from tests.acceptance.harness import eventually
from tests.deploy.kubelet import Pod
from tests.deploy.tools import Object

POLL_S = 0.05
DRAIN_RETRY_S = 0.5  # kubectl: 5 s


def share(value: int | str, of: int, *, up: bool) -> int:
    """`1` or `25%` of the replicas."""
    if isinstance(value, int):
        return value
    exact = of * int(value.removesuffix("%")) / 100
    return math.ceil(exact) if up else math.floor(exact)


class Cluster:
    """Nodes with pods of one Deployment. `low` and `high`: the fewest ready and the most living pods seen so far."""

    def __init__(
        self, deployment: Object, budget: Object, folder: Path, env: Mapping[str, str], *, nodes: int = 3
    ) -> None:
        self.spec = deepcopy(deployment["spec"])
        self._budget = budget["spec"]
        self._folder, self._env = folder, env
        self.nodes = [f"node-{number}" for number in range(nodes)]
        self.cordoned: set[str] = set()
        self.pods: list[Pod] = []
        self.refusals = 0
        self.low: int | None = None
        self.high: int | None = None
        self._revision, self._made = 1, 0
        self._revision_of: dict[str, int] = {}
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._control(), name="deployment controller")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._running is not None
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await asyncio.gather(*(pod.close() for pod in self.pods))

    # --- what an operator does

    def roll(self) -> None:
        """`kubectl rollout restart`: a new revision of the template."""
        self._revision += 1

    def scale(self, replicas: int) -> None:
        self.spec["replicas"] = replicas

    async def settled(self, within_s: float = 200) -> None:
        """`kubectl rollout status`: all pods new, as many as wanted, available, and the old ones gone."""

        async def look() -> bool:
            assert self._running is not None
            assert not self._running.done(), self._running.exception()
            return all(map(self._is_new, self.living)) and len(self.available) == len(self.living) == self.wanted and (
                all(pod.gone for pod in self.pods if pod.terminating_since is not None)
            )  # fmt: skip

        await eventually(look, within_s=within_s, what=f"{self.wanted} new pods to be available")

    async def drain(self, *nodes: str) -> None:
        """`kubectl drain` of these nodes at once; back when their pods are gone."""
        self.cordoned |= set(nodes)
        await asyncio.gather(*(self._drain(node) for node in nodes))

    async def _drain(self, node: str) -> None:
        for pod in [each for each in self.living if each.node == node]:
            while not self.evict(pod):
                self.refusals += 1
                await asyncio.sleep(DRAIN_RETRY_S)
            while not pod.gone:
                await asyncio.sleep(POLL_S)

    def uncordon(self) -> None:
        self.cordoned.clear()

    def evict(self, pod: Pod) -> bool:
        """Whether the budget allows it. One that is not ready may always go (AlwaysAllow)."""
        healthy = [each for each in self.living if each.ready]
        if pod in healthy and len(healthy) - 1 < self._must_stay_healthy:
            return False
        pod.terminate()
        return True

    @property
    def _must_stay_healthy(self) -> int:
        if "minAvailable" in self._budget:
            return share(self._budget["minAvailable"], self.wanted, up=True)
        return self.wanted - share(self._budget["maxUnavailable"], self.wanted, up=True)

    # --- what there is

    @property
    def wanted(self) -> int:
        return int(self.spec["replicas"])

    @property
    def living(self) -> list[Pod]:
        """Pods that nobody has told to end."""
        return [pod for pod in self.pods if pod.terminating_since is None]

    @property
    def available(self) -> list[Pod]:
        return [pod for pod in self.living if pod.available(self.spec["minReadySeconds"])]

    def _is_new(self, pod: Pod) -> bool:
        return self._revision_of[pod.name] == self._revision

    # --- the controller

    async def _control(self) -> None:
        while True:
            self._reconcile()
            ready = sum(pod.ready for pod in self.living)
            self.low = ready if self.low is None else min(self.low, ready)
            self.high = max(self.high or 0, len(self.living))
            await asyncio.sleep(POLL_S)

    def _reconcile(self) -> None:
        rolling = self.spec["strategy"]["rollingUpdate"]
        surge = share(rolling["maxSurge"], self.wanted, up=True)
        least = self.wanted - share(rolling["maxUnavailable"], self.wanted, up=False)
        new = [pod for pod in self.living if self._is_new(pod)]
        old = [pod for pod in self.living if not self._is_new(pod)]
        room = self.wanted + (surge if old else 0) - len(self.living)
        for _ in range(min(room, self.wanted - len(new))):
            self._create()
        for pod in self._too_many(new):
            pod.terminate()
        self._let_go(old, len(self.living) - least - sum(pod not in self.available for pod in new), least)

    def _let_go(self, old: list[Pod], allowed: int, least: int) -> None:
        """Old pods: the unavailable first, then as many as leaves `least` available; never more than `allowed`."""
        for pod in sorted(old, key=lambda each: each in self.available)[: max(0, allowed)]:
            if pod not in self.available or len(self.available) > least:
                pod.terminate()

    def _too_many(self, new: list[Pod]) -> list[Pod]:
        """Of a scale-down: those that are not ready first, then the youngest."""
        ranked = sorted(new, key=lambda pod: (pod.ready, -pod.ready_since))
        return ranked[: max(0, len(new) - self.wanted)]

    def _create(self) -> None:
        open_nodes = [node for node in self.nodes if node not in self.cordoned]
        if not open_nodes:
            return
        node = min(open_nodes, key=lambda each: sum(pod.node == each for pod in self.living))
        self._made += 1
        name = f"schedd-{self._revision}-{self._made}"
        self._revision_of[name] = self._revision
        self.pods.append(Pod(name, node, self.spec["template"], self._folder, self._env))

    # --- for tests

    def watch_availability(self) -> None:
        """Begin anew with `low` and `high`."""
        self.low = self.high = None

    def restarts(self) -> list[str]:
        return [f"{pod.name}: {why}" for pod in self.pods for why in pod.restarts]
