"""The chart's values, its schema and its README say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from scheduler.config import FLAGS, OPTIONS, Settings, env_name
from tests.deploy.tools import CHART, only, template

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
README = (CHART / "README.md").read_text()
ROWS = dict(re.findall(r"^\| `([A-Za-z.]+)` \| `([^`]*)` \|", README, re.MULTILINE))
AS_A_WHOLE = {"probes.startup", "probes.readiness", "probes.liveness", "resources", "dashboard.labels"}


def leaves(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        place = f"{path}{key}"
        if isinstance(value, dict) and value and place not in AS_A_WHOLE:
            yield from leaves(value, f"{place}.")
        else:
            yield place, value


@pytest.mark.parametrize(("path", "default"), list(leaves(VALUES)))
def test_the_readme_names_every_value(path: str, default: object) -> None:
    """With its default, as it is in values.yaml."""
    assert path in ROWS
    assert json.loads(ROWS[path]) == default


def test_the_readme_names_no_other() -> None:
    """A row is a value that is there."""
    assert ROWS.keys() == {path for path, _ in leaves(VALUES)}


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref", "").removeprefix("#/$defs/")
    found: dict[str, Any] = SCHEMA["$defs"][reference] if reference else schema
    return found


def test_the_schema_knows_exactly_the_values() -> None:
    """Each value has its type, and what values.yaml does not have is refused at every level."""

    def compare(values: dict[str, Any], schema: dict[str, Any], path: str) -> None:
        if not schema.get("properties") or path[:-1] in {*AS_A_WHOLE, "schedd.settings"}:
            return
        assert schema["additionalProperties"] is False, path
        assert values.keys() == schema["properties"].keys() - {"global"}, path
        for key, value in values.items():
            if isinstance(value, dict):
                compare(value, resolved(schema["properties"][key]), f"{path}{key}.")

    compare(VALUES, SCHEMA, "")


def test_every_tunable_may_be_set() -> None:
    """`schedd.settings` takes each environment name of the daemon that has no value of its own."""
    own = {"SCHEDD_LOG_LEVEL", "SCHEDD_SHUTDOWN", "SCHEDD_CONNECT_TIMEOUT", "SCHEDD_START_TIMEOUT"}
    tunables = {env_name(name) for name in OPTIONS if name not in FLAGS} - own
    assert SCHEMA["properties"]["schedd"]["properties"]["settings"]["properties"].keys() == tunables
    [container] = only(template(), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert own <= {each["name"] for each in container["env"]}


def test_defaults_are_those_of_the_daemon() -> None:
    """Where the chart repeats a default, it is the same."""
    assert VALUES["schedd"]["horizon"] == f"{Settings().horizon_s:.0f}s"
    assert VALUES["schedd"]["shutdown"] == f"{Settings().shutdown_s:.0f}s"
    assert VALUES["schedd"]["namespace"] == Settings().namespace
    assert VALUES["monitor"]["port"] == Settings().monitor.port  # type: ignore[union-attr]  # it listens by default


def test_examples_are_accepted() -> None:
    """Each block of YAML in the README is values that render to something more."""
    examples = re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert len(examples) == 2
    for text in examples:
        assert len(template(yaml.safe_load(text))) > len(template())


def test_links_lead_somewhere() -> None:
    """Files beside and above the chart."""
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (CHART / link).exists(), link


def test_our_own_labels_win() -> None:
    """Who names one of them in podLabels gets a pod that the selectors still find, and each key once."""
    deployment = only(template({"podLabels": {"app.kubernetes.io/component": "mine", "team": "jobs"}}), "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert (labels["app.kubernetes.io/component"], labels["team"]) == ("daemon", "jobs")
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
