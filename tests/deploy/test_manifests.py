"""deploy/kubernetes: the same as the chart's defaults, one kustomization, and fit for a cluster."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from tests.deploy import cross_checks
from tests.deploy.cases import KUBERNETES
from tests.deploy.tools import NAMESPACE, ROOT, Object, of_kind, program, run, template

PLACE = ROOT / "deploy" / "kubernetes"


def built() -> list[Object]:
    """What `kubectl apply -k deploy/kubernetes` would send."""
    done = run("kubectl", "kustomize", PLACE)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_they_are_what_the_chart_makes(tmp_path: Path) -> None:
    """The committed file is the rendered one. If not: sh .ci/manifests."""
    program("helm")
    done = run("sh", ROOT / ".ci" / "manifests", tmp_path / "new.yaml")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "new.yaml").read_text() == (PLACE / "schedd.yaml").read_text()


def test_kubernetes_knows_them() -> None:
    """No unknown field, no wrong type, in any version."""
    for version in KUBERNETES:
        for each in built():
            kubernetes_validate.validate(each, version, strict=True)


def test_they_fit() -> None:
    """The same cross checks as for the chart, in the namespace that the kustomization gives."""
    objects = [each for each in built() if each["kind"] != "Namespace"]
    for each in objects:
        assert each["metadata"].pop("namespace") == "schedd"
        each["metadata"]["namespace"] = NAMESPACE
    assert cross_checks.problems(objects) == []
    assert len(objects) == len([each for each in template() if each["kind"] != "Pod"])


def test_the_namespace_enforces_what_we_promise() -> None:
    """Pod Security "restricted": the pods are admitted to a namespace that enforces it."""
    [namespace] = of_kind(built(), "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_an_overlay_sets_the_image(tmp_path: Path) -> None:
    """The image's name in the manifests is the one that the example in the kustomization replaces."""
    base = tmp_path / "base"
    base.mkdir()
    for file in PLACE.iterdir():
        (base / file.name).write_text(file.read_text())
    overlay: dict[str, Any] = {
        "resources": ["../base"],
        "images": [{"name": "schedd", "newName": "registry.example/schedd", "newTag": "9"}],
        "replicas": [{"name": "schedd", "count": 5}],
    }
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay" / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    done = run("kubectl", "kustomize", tmp_path / "overlay")
    assert "image: registry.example/schedd:9" in done.stdout, done.stderr
    assert "replicas: 5" in done.stdout


def test_links_lead_somewhere() -> None:
    """Those of deploy/README.md and the runbook, headings included."""
    for page in (ROOT / "deploy" / "README.md", ROOT / "deploy" / "RUNBOOK.md"):
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            place, _, heading = link.partition("#")
            assert (page.parent / place).exists(), link
            words = {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
                     for line in re.findall(r"^##+ (.+)$", (page.parent / place).read_text(), re.MULTILINE)
                     } if heading else set()  # fmt: skip
            assert not heading or heading in words, link


def test_yaml_is_tidy() -> None:
    """yamllint has nothing to say to what people read and copy."""
    files = [
        "deploy",
        "helm/schedd/values.yaml",
        "helm/schedd/Chart.yaml",
        "helm/schedd/files",
        "docker-compose.nats.yml",
    ]
    done = run("yamllint", "--strict", "-c", ROOT / "deploy" / ".yamllint", *(ROOT / file for file in files))
    assert done.returncode == 0, done.stdout
