"""The real programs that these tests run, and what Helm makes of our chart.

`sh .ci/deploy-tools` puts them into `.venv/tools`; a test whose program is not there is skipped, and says so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "schedd"
TOOLS = ROOT / ".venv" / "tools"
RELEASE, NAMESPACE = "schedd", "jobs"
Object = dict[str, Any]


def program(name: str) -> str:
    """Where a program is; skips the test if it is nowhere."""
    places = f"{TOOLS}:{sysconfig.get_path('scripts')}"
    found = shutil.which(name, path=places) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not here: sh .ci/deploy-tools fetches it, or says why it cannot")
    return found


def run(name: str, *arguments: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run it to its end; what it wrote is in `stdout` and `stderr`."""
    command = [program(name), *map(str, arguments)]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)


def helm(*arguments: str | Path, values: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    given = ["--values", "-"] if values else []
    return run("helm", *arguments, *given, text=json.dumps(values) if values else None)


@cache
def _template(values: str, kube_version: str) -> str:
    version = ["--kube-version", kube_version] if kube_version else []
    place = ["--namespace", NAMESPACE, *version]
    done = helm("template", RELEASE, CHART, *place, values=json.loads(values))
    assert done.returncode == 0, done.stderr
    return done.stdout


class Strict(yaml.SafeLoader):
    """Refuses a key given twice, of which others silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"given twice among {keys}, {node.start_mark}"
        return super().construct_mapping(node, deep)


def template(values: Mapping[str, Any] | None = None, kube_version: str = "") -> list[Object]:
    """What Helm makes of the chart with these values."""
    text = _template(json.dumps(values or {}, sort_keys=True), kube_version)
    return [each for each in yaml.load_all(text, Strict) if each]


def refusal(values: Mapping[str, Any]) -> str:
    """What Helm says to values that the chart does not take."""
    done = helm("template", RELEASE, CHART, values=values)
    assert done.returncode != 0, f"not refused: {values}"
    return done.stderr


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [each for each in objects if each["kind"] == kind]


def only(objects: list[Object], kind: str) -> Object:
    """The one object of that kind."""
    [found] = of_kind(objects, kind)
    return found
