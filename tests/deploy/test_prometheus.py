"""A real Prometheus scrapes real replicas by our configuration, and evaluates every alert and every panel.

The rules are ours but for the time an alert waits before it fires, and Prometheus looks each second: in a healthy run
every alert is silent, and what can be provoked in seconds fires.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scheduler.embedded import _dies_with_parent
from tests.acceptance.harness import Site, eventually
from tests.acceptance.processes import Replica
from tests.deploy.test_alerts import ALERTS, NAMES, PLACE, dashboard_expressions
from tests.deploy.test_compose import _ports
from tests.deploy.tools import program
from tests.nats_servers import Server

PATIENCE_S = 75
PROGRAM = """
from scheduler.worker import Worker
worker = Worker("good")
worker.task("t")(lambda payload: None)
worker.run()
"""
QUIET = {  # what has no series until it happens once
    "schedd_queue_paused", "schedd_webhook_pending", "schedd_webhook_deliveries_total",
    "schedd_cancels_sent_total", "schedd_dropped_total", "schedd_stream_fill_ratio", "schedd_executions_retried_total",
}  # fmt: skip
TICK: dict[str, Any] = {"every": "1s", "queue": "good", "type": "t", "overlap": "allow"}


class Prometheus:
    """One that scrapes what stands in its file of targets, and can be asked."""

    def __init__(self, folder: Path) -> None:
        [self._port] = _ports(1)
        self._targets = folder / "targets.json"
        self._targets.write_text("[]")
        rules = yaml.safe_load((PLACE / "alerts.yaml").read_text())
        for rule in rules["groups"][0]["rules"]:
            rule["for"] = "1s"
        (folder / "alerts.yaml").write_text(yaml.safe_dump(rules))
        config = yaml.safe_load((PLACE / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        [scrape] = config["scrape_configs"]
        del scrape["static_configs"]
        scrape["file_sd_configs"] = [{"files": [str(self._targets)], "refresh_interval": "1s"}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        command = [
            program("prometheus"),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
        ]
        with (folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, f"--web.listen-address=127.0.0.1:{self._port}"],
                stdout=log, stderr=log, preexec_fn=_dies_with_parent(),  # noqa: PLW1509 - one system call
            )  # fmt: skip

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    async def scrape(self, *replicas: Replica) -> None:
        """From now on these and no others."""
        addresses = [(await replica.logged("http.listening"))["address"] for replica in replicas]
        self._targets.write_text(json.dumps([{"targets": addresses}]))

    async def get(self, path: str, **query: str) -> Any:
        """The data of an answer of its API."""
        address = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(query)}"

        def ask() -> Any:
            with urllib.request.urlopen(address, timeout=10) as reply:
                return json.load(reply)["data"]

        return await asyncio.to_thread(ask)

    async def value(self, expression: str) -> list[dict[str, Any]]:
        """What an instant query finds; fails on an expression that Prometheus does not understand."""
        found: list[dict[str, Any]] = (await self.get("query", query=expression))["result"]
        return found

    async def states(self) -> dict[str, str]:
        """Each alert and how it stands: inactive, pending, firing."""
        groups = (await self.get("rules", type="alert"))["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert [rule["health"] for rule in rules if rule["health"] == "err"] == []
        return {rule["name"]: rule["state"] for rule in rules}

    async def firing(self, *names: str) -> list[dict[str, Any]]:
        """Wait until all of these fire; their alerts."""

        async def all_fire() -> bool:
            states = await self.states()
            return all(states[name] == "firing" for name in names)

        await eventually(all_fire, within_s=PATIENCE_S, what=f"{names} to fire")
        alerts: list[dict[str, Any]] = (await self.get("alerts"))["alerts"]
        return [alert for alert in alerts if alert["labels"]["alertname"] in names]


@pytest.fixture
async def prometheus(tmp_path: Path) -> AsyncIterator[Prometheus]:
    started = Prometheus(tmp_path)
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    server = Server(tmp_path / "nats")
    await server.start()
    try:
        async with Site(tmp_path, server.url) as opened:
            yield opened
    finally:
        await server.kill()


@pytest.mark.timeout(300)
async def test_silent_when_well_and_loud_when_not(prometheus: Prometheus, site: Site) -> None:
    """Every alert and panel is evaluated over what real replicas expose; silence; then six alerts, each provoked."""
    replica, second = await site.replicas("a", "b")
    await prometheus.scrape(replica, second)
    site.sdk_worker(PROGRAM)
    for number in range(5):
        await site.put(f"tick-{number}", TICK)
    await site.put("by-hand", {"manual": True, "queue": "bad", "type": "t", "max_tries": 1})
    site.worker("bad", "term")
    await site.request("schedule.trigger", {"id": "by-hand"})  # one failure is no reason for an alert
    await every_expression_has_an_answer(prometheus)
    assert await prometheus.states() == dict.fromkeys(NAMES, "inactive")

    await site.put("bad", b"{")
    await site.api("STREAM.UPDATE.SCHEDD_EVENTS", {**await config_of(site, "SCHEDD_EVENTS"), "max_msgs": 3})
    other = site.replica("other", SCHEDD_NAMESPACE="other")
    await other.ready()
    third = site.replica("c")
    await third.ready()
    await prometheus.scrape(replica, second, third, other)
    for number in range(10):
        await site.put(f"fails-{number}", {**TICK, "queue": "bad", "max_tries": 1})
    for number in range(150):
        await site.put(f"piles-up-{number}", {**TICK, "queue": "nobody"})
    names = (
        "ScheddInvalidSchedules",
        "ScheddTwoLeaders",
        "ScheddFailures",
        "ScheddStreamNearlyFull",
        "ScheddQueueBacklog",
    )
    for alert in await prometheus.firing(*names):
        text = alert["annotations"]["summary"]
        assert "<no value>" not in text, alert
        assert "error" not in text, alert

    for process in (replica, second, third, other):
        await process.kill()
    [alert] = await prometheus.firing("ScheddNoLeader")
    assert alert["labels"] == {"alertname": "ScheddNoLeader", "severity": "critical"}


async def every_expression_has_an_answer(prometheus: Prometheus) -> None:
    """Panels show something; of an alert both sides of its comparison do."""
    expressions = dict(dashboard_expressions())
    expressions |= {f"{alert['alert']} {n}": part for alert in ALERTS for n, part in enumerate(sides(alert["expr"]))}
    silent: list[str] = []

    async def all_answer() -> bool:
        silent.clear()
        for where, expression in expressions.items():
            used = set(re.findall(r"\bschedd_\w+", expression))
            if not await prometheus.value(expression) and not used <= QUIET and "changes(" not in expression:
                silent.append(f"{where}: {expression}")
        return not silent

    try:
        await eventually(all_answer, within_s=PATIENCE_S, what="every expression")
    except AssertionError:
        assert not silent, "\n".join(silent)
        raise


def sides(expression: str) -> list[str]:
    """What an alert compares, without the comparisons, which have no answer while all is well."""
    asked = re.sub(r"\s(?:[<>]|==)\s[\d.]+(?=\s|$)(?! \*)", "", expression)
    parts = [part.strip() for part in re.split(r"\s(?:and|or|unless|<)\s", asked)]
    return [_balanced(part) for part in parts if not part.startswith("absent")]


def _balanced(part: str) -> str:
    """Without a parenthesis that its other half was cut off from."""
    surplus = part.count("(") - part.count(")")
    return part.removeprefix("(") if surplus > 0 else part.removesuffix(")") if surplus < 0 else part


async def config_of(site: Site, stream: str) -> dict[str, Any]:
    found: dict[str, Any] = (await site.api(f"STREAM.INFO.{stream}"))["config"]
    return found
