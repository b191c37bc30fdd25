"""Alerts, dashboard, chart and runbook: one source, checked by the real promtool, and agreeing with each other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scheduler.config import Settings
from scheduler.core.health import thresholds
from scheduler.services.reconcile import REPAIR_KINDS
from scheduler.telemetry.metrics import PrometheusTelemetry
from tests.acceptance.test_contract_metrics import METRICS
from tests.deploy.cases import CASES
from tests.deploy.tools import CHART, ROOT, only, run, template

SOURCE = CHART / "files" / "alerts.yaml"
PLACE = ROOT / "deploy" / "prometheus"
ALERTS: list[dict[str, Any]] = yaml.safe_load(SOURCE.read_text())["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads((CHART / "files" / "dashboard.json").read_text())
NAMES = [alert["alert"] for alert in ALERTS]
RUNBOOK = (ROOT / "deploy" / "RUNBOOK.md").read_text()


def dashboard_expressions() -> Iterator[tuple[str, str]]:
    """(panel, expression) of every target and annotation, with Grafana's variables filled in."""
    found = [(panel["title"], each["expr"]) for panel in DASHBOARD["panels"] for each in panel.get("targets", [])]
    found += [(each["name"], each["expr"]) for each in DASHBOARD["annotations"]["list"]]
    for title, expression in found:
        yield title, re.sub(r"\$(job|queue)\b", ".+", expression).replace("$__rate_interval", "1m")


def exposed() -> set[str]:
    """Every series name that a replica exposes, or will once something happened."""
    telemetry = PrometheusTelemetry(version="1", replica="a", namespace="schedd", repairs=REPAIR_KINDS)
    families = re.findall(r"^# TYPE (\w+) (\w+)$", telemetry.render()[0].decode(), re.MULTILINE)
    names = {name for name, _ in families}
    return names | {
        f"{name}_{part}" for name, kind in families if kind == "histogram" for part in ("bucket", "sum", "count")
    }


# --- one source


def test_there_is_one_source() -> None:
    """deploy/ links to the files of the chart, and the chart ships real files: Helm follows no link."""
    assert (PLACE / "alerts.yaml").resolve() == SOURCE.resolve()
    assert (ROOT / "deploy" / "grafana" / "schedd.json").resolve() == (CHART / "files" / "dashboard.json").resolve()
    assert not [file for file in CHART.rglob("*") if file.is_symlink()]


def test_the_chart_ships_them(tmp_path: Path) -> None:
    """PrometheusRule and ConfigMap hold what the files hold; labels and runbook are added, the unwanted left out."""
    everything = template(CASES["everything"])
    rules = only(everything, "PrometheusRule")["spec"]
    [group] = rules["groups"]
    assert [rule["alert"] for rule in group["rules"]] == [name for name in NAMES if name != "ScheddQueueBacklog"]
    by_name = {alert["alert"]: alert for alert in ALERTS}
    for rule in group["rules"]:
        assert rule["expr"] == by_name[rule["alert"]]["expr"]
        assert rule["labels"] == {**by_name[rule["alert"]]["labels"], "team": "jobs"}
        assert rule["annotations"]["runbook_url"].endswith(f"RUNBOOK.md#{rule['alert'].lower()}")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    assert run("promtool", "check", "rules", tmp_path / "rules.yaml").returncode == 0
    dashboards = [each for each in everything if each["metadata"]["name"].endswith("-dashboard")]
    assert json.loads(dashboards[0]["data"]["schedd.json"]) == DASHBOARD


# --- promtool


def test_promtool_accepts_them() -> None:
    """Rules and the example configuration."""
    for what, file in (("rules", "alerts.yaml"), ("config", "prometheus.yml")):
        done = run("promtool", "check", what, PLACE / file)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    """`promtool test rules` on the cases, which provoke every alert there is."""
    cases = PLACE / "alerts.test.yaml"
    done = run("promtool", "test", "rules", cases)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(re.findall(r'alertname="(\w+)"', cases.read_text())) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_silenced_alert_is_missed(name: str, tmp_path: Path) -> None:
    """The cases fail for each alert that is taken out: none of them passes by chance."""
    rules = {"groups": [{"name": "schedd", "rules": [alert for alert in ALERTS if alert["alert"] != name]}]}
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rules))
    cases = yaml.safe_load((PLACE / "alerts.test.yaml").read_text())
    cases["tests"] = [case for case in cases["tests"] if f'alertname="{name}"' in json.dumps(case).replace('\\"', '"')]
    assert cases["tests"] != []
    (tmp_path / "alerts.test.yaml").write_text(yaml.safe_dump(cases))
    assert run("promtool", "test", "rules", tmp_path / "alerts.test.yaml").returncode != 0


# --- agreement


@pytest.mark.parametrize(("where", "expression"), [
    *((alert["alert"], alert["expr"]) for alert in ALERTS), *dashboard_expressions()
])  # fmt: skip
def test_no_expression_over_a_metric_that_does_not_exist(where: str, expression: str) -> None:
    """Every name that begins with schedd_ is one that a replica exposes."""
    used = set(re.findall(r"\bschedd_\w+", expression))
    assert used, where
    assert used <= exposed()


def test_the_runbook_has_a_section_for_each() -> None:
    """What it means, how to look, what to do; and no section too many."""
    sections = re.split(r"^## ", RUNBOOK, flags=re.MULTILINE)[1:]
    assert [section.split("\n")[0] for section in sections] == NAMES
    for section in sections:
        assert re.findall(r"^\*\*(\w+)\.\*\*", section, re.MULTILINE) == ["Means", "Look", "Do"], section[:40]


def test_the_runbook_names_log_events_that_exist() -> None:
    """Each word told as an `event` is one that the code logs."""
    code = "\n".join(file.read_text() for file in (ROOT / "scheduler").rglob("*.py"))
    told = {
        word
        for part in re.findall(r"`event`((?: `[\w.]+`,?(?: or)?)+)", RUNBOOK)
        for word in re.findall(r"`([\w.]+)`", part)
    }
    assert len(told) >= 6
    assert {word for word in told if f'"event": "{word}"' not in code} == set()


def test_thresholds_are_those_of_the_health_check() -> None:
    """An alert begins to warn where `schedctl status --detailed` does."""
    expressions = {alert["alert"]: alert["expr"] for alert in ALERTS}
    skew_s = thresholds.SKEW.warn * Settings().clock_skew_max_s
    assert f"< {thresholds.BEHIND.warn:g} * " in expressions["ScheddWatermarkLag"]
    assert expressions["ScheddLateness"].endswith(f"> {thresholds.LATENESS_P99_S.warn:g}")
    assert expressions["ScheddClockSkew"].endswith(f"> {skew_s:g}")
    assert f"(schedd_queue_oldest_seconds) > {thresholds.QUEUE_OLDEST_S.warn:g}\n" in expressions["ScheddQueueBacklog"]
    assert expressions["ScheddStreamNearlyFull"].count(f"> {thresholds.FILL.warn:g}") == 2


# --- the dashboard


def test_the_dashboard_is_whole() -> None:
    """Unique ids, panels inside the grid and not over each other, each told what it shows, no fixed data source."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"]
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "job", "queue"]


def test_the_dashboard_shows_what_the_contract_names() -> None:
    """Every metric of the contract is in a panel; what comes to it later is shown where it helps."""
    shown = {name for _, expression in dashboard_expressions() for name in re.findall(r"\bschedd_\w+", expression)}
    assert {name for name in METRICS if not any(word.startswith(f"schedd_{name}") for word in shown)} == set()
