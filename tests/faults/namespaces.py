"""Machines of their own for servers and replicas of a test: network namespaces on one bridge (ip-netns(8), veth(4)).

    async with Network("n1", "n2", "far") as network:
        Server(folder, host=network.address("n1"), inside=network.inside("n1"))
        network.drop("far", "n1")      what `far` sends to `n1` is lost; the other way is open
        network.heal()

What is lost is lost as on a wire: no end is told, TCP sends it again, and after `heal` it arrives late. The test itself
reaches every place and is cut off from none. Needs root, `ip` and `iptables`; nothing of it outlives the test.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Self

PREFIX = "schedd"
NAMED = re.compile(PREFIX + r"-(\d+)-\w+")


def missing_here() -> str:
    """Why there can be no namespaces on this machine; empty if there can be."""
    tools = [tool for tool in ("ip", "iptables") if shutil.which(tool) is None]
    if os.geteuid() != 0 or tools:
        return f"network namespaces need root and {' and '.join(tools or ['ip', 'iptables'])}"
    try:
        with Network("probe") as network:
            network.drop("probe", "probe")
    except subprocess.CalledProcessError as problem:
        return f"network namespaces are refused here: {problem.stderr.decode().strip()}"
    return ""


class Network:
    """Places by name, each with an address that all others reach."""

    def __init__(self, *places: str) -> None:
        self._places = places
        self._bridge = f"sb{os.getpid()}"
        self._net = f"10.{200 + os.getpid() // 250 % 50}.{os.getpid() % 250}"

    def address(self, place: str) -> str:
        return f"{self._net}.{self._places.index(place) + 1}"

    def inside(self, place: str) -> tuple[str, ...]:
        """What a command begins with that is to run there."""
        return ("ip", "netns", "exec", self._name(place))

    def _name(self, place: str) -> str:
        return f"{PREFIX}-{os.getpid()}-{place}"

    def _wire(self, place: str) -> str:
        return f"{self._bridge}v{self._places.index(place)}"

    def __enter__(self) -> Self:
        _sweep()
        try:
            _run("ip", "link", "add", self._bridge, "type", "bridge")
            _run("ip", "addr", "add", f"{self._net}.254/24", "dev", self._bridge)
            _run("ip", "link", "set", self._bridge, "up")
            for place in self._places:
                self._add(place)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _add(self, place: str) -> None:
        name, wire = self._name(place), self._wire(place)
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", name)
        _run("ip", "link", "set", wire, "master", self._bridge, "up")
        _run("ip", "-n", name, "addr", "add", f"{self.address(place)}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            _run("ip", "-n", name, "link", "set", link, "up")

    def __exit__(self, *_: object) -> None:
        """Wires first: a namespace goes when its last process has, and would take its wire along only then."""
        for place in self._places:
            _try("ip", "link", "del", self._wire(place))
            _try("ip", "netns", "del", self._name(place))
        _try("ip", "link", "del", self._bridge)

    def drop(self, sender: str, receiver: str) -> None:
        """From now on what the one sends to the other is lost; not what comes back."""
        self._iptables(receiver, "-A", "INPUT", "-s", self.address(sender), "-j", "DROP")

    def part(self, here: Iterable[str], there: Iterable[str]) -> None:
        """Nothing gets from either side to the other."""
        others = list(there)
        for one in here:
            for other in others:
                self.drop(one, other)
                self.drop(other, one)

    def heal(self) -> None:
        """Nothing is lost any more."""
        for place in self._places:
            self._iptables(place, "-F", "INPUT")

    def lost(self, place: str) -> int:
        """How many packets on their way to a place were lost since it was last healed."""
        listed = self._iptables(place, "-L", "INPUT", "-v", "-x", "-n")
        return sum(int(line.split()[0]) for line in listed.splitlines() if " DROP " in line)

    def _iptables(self, place: str, *arguments: str) -> str:
        return _run(*self.inside(place), "iptables", "-w", *arguments)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True).stdout.decode()


def _try(*command: str) -> None:
    with contextlib.suppress(subprocess.CalledProcessError):
        _run(*command)


def _sweep() -> None:
    """Remove what runs that were killed have left behind."""
    for name in _run("ip", "netns", "list").split():
        owner = NAMED.fullmatch(name)
        if owner and not Path(f"/proc/{owner[1]}").exists():
            _try("ip", "netns", "del", name)
            _try("ip", "link", "del", f"sb{owner[1]}")
