"""The small kubelet and cluster themselves: they do what Kubernetes does, or the tests on them mean nothing.

The container is a few lines of Python that listens, and is well, ready or deaf as files tell it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import eventually
from tests.deploy.cluster import Cluster, share
from tests.deploy.kubelet import Pod, resolved

PROGRAM = """
import http.server, json, os, pathlib, signal, sys, time
place = pathlib.Path(os.environ["PLACE"])

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        word = self.path[1:]
        bad = (place / word).exists() or (place / f"{os.environ['NAME']}.{word}").exists()
        self.send_response(503 if bad else 200)
        self.end_headers()
    def log_message(self, *_):
        pass

if (place / "deaf").exists():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
address = f"127.0.0.1:{server.server_port}"
print(json.dumps({"event": "http.listening", "address": address}), flush=True)
server.serve_forever()
"""


def probe(path: str, failures: int = 2) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "m"}, "periodSeconds": 0.05, "failureThreshold": failures}


def template(grace_s: float = 5) -> dict[str, Any]:
    container = {
        "name": "c",
        "command": ["python3", "-c"],
        "args": [PROGRAM],
        "env": [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "ports": [{"name": "m", "containerPort": 80}],
        "startupProbe": probe("/start", 100),
        "readinessProbe": probe("/ready"),
        "livenessProbe": probe("/live"),
    }
    return {"metadata": {}, "spec": {"terminationGracePeriodSeconds": grace_s, "containers": [container]}}


def deployment(replicas: int, surge: int | str = 1, unavailable: int | str = 0) -> dict[str, Any]:
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    spec = {"replicas": replicas, "minReadySeconds": 0.1, "strategy": {"rollingUpdate": rolling}}
    return {"spec": {**spec, "template": template()}}


@pytest.fixture
async def pod(tmp_path: Path) -> AsyncIterator[Pod]:
    made = Pod("p", "node-0", template(0.5), tmp_path, {"PLACE": str(tmp_path)})
    yield made
    await made.close()


async def until_ready(pod: Pod, ready: bool = True) -> None:
    async def look() -> bool:
        return pod.ready is ready

    await eventually(look, what=f"{pod.name} to be {'ready' if ready else 'unready'}")


async def test_readiness_comes_and_goes_without_a_restart(pod: Pod, tmp_path: Path) -> None:
    """Ready after the startup probe; unready while the readiness probe fails; the same process all along."""
    await until_ready(pod)
    (tmp_path / "ready").touch()
    await until_ready(pod, False)
    (tmp_path / "ready").unlink()
    await until_ready(pod)
    assert (len(pod.runs), pod.restarts) == (1, [])


async def test_a_container_is_started_again(pod: Pod, tmp_path: Path) -> None:
    """When its liveness fails, and when it ends by itself; the reason is kept."""
    await until_ready(pod)
    (tmp_path / "live").touch()

    async def restarted() -> bool:
        return len(pod.runs) == 2

    await eventually(restarted)
    assert pod.restarts == ["liveness probe failed"]
    assert pod.exit_codes[0] == 0


async def test_grace_is_given_and_no_more(pod: Pod, tmp_path: Path) -> None:
    """SIGTERM first; SIGKILL after the grace period, and that is told."""
    (tmp_path / "deaf").touch()
    await until_ready(pod)
    pod.terminate()
    assert not pod.ready

    async def gone() -> bool:
        return pod.gone

    await eventually(gone)
    assert pod.killed_after_grace
    assert pod.exit_codes == [-9]


async def test_a_roll_waits_for_readiness(tmp_path: Path) -> None:
    """A new revision that never gets ready takes nothing away; once it does, the old ones go one by one."""
    async with Cluster(deployment(3), {"spec": {"maxUnavailable": 1}}, tmp_path, {"PLACE": str(tmp_path)}) as cluster:
        await cluster.settled()
        cluster.watch_availability()
        (tmp_path / "schedd-2-4.ready").touch()
        cluster.roll()
        await asyncio.sleep(1)
        assert [pod.name for pod in cluster.available] == ["schedd-1-1", "schedd-1-2", "schedd-1-3"]
        assert len(cluster.living) == 4
        (tmp_path / "schedd-2-4.ready").unlink()
        await cluster.settled()
        assert (cluster.low, cluster.high) == (3, 4)
        assert {pod.name for pod in cluster.living} == {"schedd-2-4", "schedd-2-5", "schedd-2-6"}


async def test_the_budget_is_kept(tmp_path: Path) -> None:
    """Of two evictions at once the second is refused until the first pod is replaced; an unready one may always go."""
    async with Cluster(deployment(3), {"spec": {"minAvailable": 2}}, tmp_path, {"PLACE": str(tmp_path)}) as cluster:
        await cluster.settled()
        first, second, third = cluster.living
        assert cluster.evict(first)
        assert not cluster.evict(second)
        (tmp_path / f"{third.name}.ready").touch()
        await until_ready(third, False)
        assert cluster.evict(third)
        await cluster.settled()
        await cluster.drain(second.node)
        await cluster.settled()
        assert second.node not in {pod.node for pod in cluster.living}


async def test_scaling_takes_the_youngest(tmp_path: Path) -> None:
    """Up at once, down to the oldest that is ready."""
    async with Cluster(deployment(1), {"spec": {"maxUnavailable": 1}}, tmp_path, {"PLACE": str(tmp_path)}) as cluster:
        await cluster.settled()
        cluster.scale(4)
        await cluster.settled()
        cluster.scale(1)
        await cluster.settled()
        assert [pod.name for pod in cluster.living] == ["schedd-1-1"]


def test_shares_are_rounded_as_the_controller_does() -> None:
    """maxSurge up, maxUnavailable down."""
    assert (share("25%", 3, up=True), share("25%", 3, up=False), share(2, 3, up=True)) == (1, 0, 2)


def test_the_environment_is_that_of_the_pod() -> None:
    """Values as they are, the pod's name by reference; what is in a Secret is the test's to give."""
    secret = {"name": "S", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}
    name = {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    assert resolved([{"name": "A", "value": "1"}, name, secret], "pod-1") == {"A": "1", "N": "pod-1"}
