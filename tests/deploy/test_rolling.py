"""The chart's Deployment, rolled, scaled and drained under load: nothing lost, nothing doubled, no gap.

The pods are real replicas (tests/deploy/kubelet.py); what they owe is counted from what workers saw, not from what
schedd says of itself. A gap is the time from the SIGTERM to a leader until another one has taken the lease.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.evidence import Findings
from tests.acceptance.harness import Site, eventually
from tests.acceptance.herd import expected_of, put_many
from tests.acceptance.processes import PlainWorker
from tests.deploy.cluster import Cluster
from tests.deploy.tools import only, template
from tests.nats_servers import Server

FIRES_PER_S = 100
LATE_MAX_S = 20.0  # of a machine whose two cores do everything at once; what was measured is printed
GAP_MAX_S = 1.0
pytestmark = pytest.mark.timeout(240)
SLOW = [pytest.mark.slow, pytest.mark.timeout(600)]
QUICK: dict[str, Any] = {  # the same by less patience: what a cluster waits between two looks
    "minReadySeconds": 1,
    "probes": {"startup": {"periodSeconds": 1}, "readiness": {"periodSeconds": 1}, "liveness": {"periodSeconds": 2}},
}
ONE_SERVER: dict[str, Any] = {"schedd": {"streamReplicas": 1}}
SHORT = {"SCHEDD_RECONCILE_EVERY": "2", "SCHEDD_RECONCILE_GRACE": "3"}


class Leadership:
    """Every change of the lease, as it is written."""

    def __init__(self) -> None:
        self.terms: list[tuple[float, str]] = []

    async def follow(self, site: Site) -> None:
        async def on_change(message: Any) -> None:
            record = json.loads(message.data or b"{}")
            if record.get("holder") and (not self.terms or self.terms[-1][1] != record["replica"]):
                self.terms.append((time.monotonic(), record["replica"]))

        await site.client.subscribe("$KV.schedd-control.leader", cb=on_change)

    def gaps(self, cluster: Cluster) -> list[float]:
        """Of each leader that was told to end: seconds until the next one had the lease."""
        ended = {pod.name: pod.terminating_since for pod in cluster.pods if pod.terminating_since is not None}
        found = []
        for (_, replica), (since, _) in zip(self.terms, self.terms[1:], strict=False):
            told = ended.get(replica)
            if told is not None and since >= told:
                found.append(since - told)
        return found


class Stage:
    """A site with a cluster on it, under load."""

    def __init__(self, site: Site, cluster: Cluster, worker: PlainWorker) -> None:
        self.site, self.cluster, self.worker = site, cluster, worker
        self.leadership = Leadership()
        self.puts: dict[str, Any] = {}

    async def load(self) -> None:
        await self.cluster.settled()
        await self.leadership.follow(self.site)
        self.puts = await put_many(self.site, FIRES_PER_S)
        await asyncio.sleep(2)

    async def judge(self, *, hand_overs: int) -> Findings:
        """Nothing lost, doubled, late; every pod left by itself, none was restarted; gaps below a second."""
        findings = await self.site.verify(expected_of(self.puts), [self.worker], late_max_s=LATE_MAX_S)
        gaps = self.leadership.gaps(self.cluster)
        print(f"hand-over gaps: {', '.join(f'{gap:.3f} s' for gap in gaps)}")
        assert len(gaps) >= hand_overs
        assert max(gaps, default=0) < GAP_MAX_S
        assert self.cluster.restarts() == []
        ended = [pod for pod in self.cluster.pods if pod.gone]
        assert [pod.name for pod in ended if pod.exit_codes != [0] or pod.killed_after_grace] == []
        return findings


async def stage_on(folder: Path, url: str, values: Mapping[str, Any]) -> AsyncIterator[Stage]:
    objects = template(values)
    async with Site(folder, url) as site:
        worker = site.worker("herd")
        env = {"NATS_URL": url, **SHORT}
        async with Cluster(only(objects, "Deployment"), only(objects, "PodDisruptionBudget"), folder, env) as cluster:
            yield Stage(site, cluster, worker)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    started = Server(tmp_path / "nats")
    await started.start()
    yield started
    await started.kill()


@pytest.fixture
async def stage(server: Server, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async for found in stage_on(tmp_path, server.url, {**ONE_SERVER, **getattr(request, "param", QUICK)}):
        yield found


ROLLS = [pytest.param(QUICK, 1, id="quick"), pytest.param({}, 3, id="as the chart is", marks=SLOW)]


@pytest.mark.parametrize(("stage", "times"), ROLLS, indirect=["stage"])
async def test_a_rolling_restart(stage: Stage, times: int) -> None:
    """`kubectl rollout restart` of three replicas: never fewer than three ready, never more than four."""
    await stage.load()
    stage.cluster.watch_availability()
    for _ in range(times):
        stage.cluster.roll()
        await stage.cluster.settled()
    assert (stage.cluster.low, stage.cluster.high) == (3, 4)
    assert len(stage.cluster.pods) == 3 + 3 * times
    await stage.judge(hand_overs=times)


@pytest.mark.parametrize(("stage", "times"), ROLLS, indirect=["stage"])
async def test_scaling(stage: Stage, times: int) -> None:
    """From three replicas to one, to five, and back."""
    await stage.load()
    for _ in range(times):
        for replicas in (1, 5, 3):
            stage.cluster.scale(replicas)
            await stage.cluster.settled()
    await stage.judge(hand_overs=0)


@pytest.mark.parametrize(("stage", "times"), ROLLS, indirect=["stage"])
async def test_draining_two_nodes_at_once(stage: Stage, times: int) -> None:
    """Both at the same moment; the budget lets one pod go at a time, so that two replicas are always there."""
    await stage.load()
    for _ in range(times):
        stage.cluster.watch_availability()
        leader = (await stage.site.leader_record())["replica"]
        home = next(pod.node for pod in stage.cluster.living if pod.name == leader)
        other = next(node for node in stage.cluster.nodes if node != home)
        await stage.cluster.drain(home, other)
        await stage.cluster.settled()
        assert {pod.node for pod in stage.cluster.living} == set(stage.cluster.nodes) - {home, other}
        assert stage.cluster.low == 2
        stage.cluster.uncordon()
        stage.cluster.roll()  # nobody moves pods back by himself
        await stage.cluster.settled()
    assert stage.cluster.refusals > 0
    await stage.judge(hand_overs=times)


HASTY = {
    **QUICK,
    "probes": {**QUICK["probes"], "liveness": {"periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 3}},
}


@pytest.mark.parametrize("stage", [HASTY], indirect=True, ids=["hasty"])
async def test_nats_away_restarts_nobody(stage: Stage, server: Server) -> None:
    """Pods that come before NATS wait for it; without it they live on, not ready; with it they are ready again."""
    await stage.cluster.settled()
    await server.kill()
    stage.cluster.roll()  # to pods that find no NATS

    async def nobody_ready() -> bool:
        return len(stage.cluster.living) == 4 and not any(pod.ready for pod in stage.cluster.living)

    await eventually(nobody_ready, within_s=30, what="nobody to be ready")
    patience_s = liveness_patience_s(stage.cluster)
    await asyncio.sleep(patience_s)
    assert stage.cluster.restarts() == []
    await server.start()
    await stage.cluster.settled()
    assert stage.cluster.restarts() == []
    assert len(stage.cluster.pods) == 6


def liveness_patience_s(cluster: Cluster) -> float:
    """Longer than it takes the liveness probe to have a container restarted."""
    probe = cluster.spec["template"]["spec"]["containers"][0]["livenessProbe"]
    return float(probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"])
