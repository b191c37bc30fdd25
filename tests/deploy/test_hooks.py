"""The Job that applies schedules and the pod of `helm test`, run for real: their commands, against a real replica."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import Site
from tests.acceptance.processes import clean_environment
from tests.deploy.kubelet import resolved
from tests.deploy.test_rolling import server
from tests.deploy.tools import Object, of_kind, only, template
from tests.nats_servers import Server

__all__ = ["server"]
HOURLY = {"every": "1h", "queue": "q", "type": "t"}


@pytest.fixture
async def site(server: Server, tmp_path: Path) -> AsyncIterator[Site]:
    async with Site(tmp_path, server.url) as opened:
        yield opened


async def run(container: Object, site: Site, before: str = "", after: str = "") -> subprocess.CompletedProcess[str]:
    """Run a container's command here, with its environment but for the address of NATS; `before` becomes `after`."""
    words = [word.replace(before, after) if before else word for word in (*container["command"], *container["args"])]
    env = {**clean_environment(), **resolved(container.get("env", []), "pod"), "NATS_URL": site.url}
    env["PATH"] = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    return await asyncio.to_thread(
        subprocess.run, words, env=env, cwd=site.folder, capture_output=True, text=True, check=False, timeout=60
    )


async def apply(site: Site, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """What the hook of an upgrade to these values does."""
    objects = template(values)
    [config] = [each for each in of_kind(objects, "ConfigMap") if "schedules.json" in each["data"]]
    (site.folder / "schedules.json").write_text(config["data"]["schedules.json"])
    [container] = only(objects, "Job")["spec"]["template"]["spec"]["containers"]
    return await run(container, site, "=/schedules", f"={site.folder}")


async def test_schedules_of_the_values_are_applied(site: Site) -> None:
    """Created, changed, left alone; one taken out stays, and with `prune` goes; what others put is never touched."""
    await site.replicas("a")
    await site.put("of-others", HOURLY)
    done = await apply(site, {"schedules": {"a": HOURLY, "b": {**HOURLY, "labels": {"team": "x"}}}})
    assert done.returncode == 0, done.stderr
    stored = await site.value("schedd-schedules", "b")
    assert stored == {**HOURLY, "labels": {"team": "x", "helm-release": "jobs.schedd"}}
    done = await apply(site, {"schedules": {"a": {**HOURLY, "every": "2h"}}})
    assert done.returncode == 0, done.stderr
    assert sorted(await site.keys("schedd-schedules")) == ["a", "b", "of-others"]
    done = await apply(site, {"schedules": {"a": HOURLY}, "applyJob": {"prune": True}})
    assert done.returncode == 0, done.stderr
    assert sorted(await site.keys("schedd-schedules")) == ["a", "of-others"]
    assert of_kind(template({"applyJob": {"prune": True}}), "Job") == []


async def test_a_bad_schedule_fails_the_upgrade(site: Site) -> None:
    """The Job's log says which field; so does the exit code. Without a daemon it is one that is worth another try."""
    done = await apply(site, {"schedules": {"a": HOURLY}})
    assert done.returncode == 5
    await site.replicas("a")
    done = await apply(site, {"schedules": {"a": {**HOURLY, "every": "soon"}}})
    assert done.returncode == 2
    assert "every" in done.stderr


async def test_helm_test_tells_a_well_release_from_another(site: Site) -> None:
    """Both containers of the pod end well on a replica that leads, and badly without one or with one too few."""
    [wanted] = [each for each in template({"replicas": 1}) if each["kind"] == "Pod"]
    [more] = [each for each in template({"replicas": 2}) if each["kind"] == "Pod"]
    status, monitor = wanted["spec"]["containers"]
    assert (await run(status, site)).returncode != 0
    [replica] = await site.replicas("a")
    await site.leader()
    done = await run(status, site)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["leader"]["replica"] == "a"
    done = await run(more["spec"]["containers"][0], site)
    assert "1 of 2 replicas answer" in done.stderr
    address = (await replica.logged("http.listening"))["address"]
    done = await run(monitor, site, "schedd:8080", address)
    assert done.returncode == 0, done.stderr
