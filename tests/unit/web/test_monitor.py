"""The monitor port: what Prometheus and the probes of an orchestrator get."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from scheduler.telemetry.metrics import PrometheusTelemetry
from scheduler.web.monitor import Health, monitor_app


class Daemon:
    """The answers the app asks for, as a test sets them."""

    def __init__(self) -> None:
        self.telemetry = PrometheusTelemetry(version="1", replica="a", namespace="schedd")
        self.health: dict[str, str | None] = {"loop": None}
        self.readiness: dict[str, str | None] = {"connected": None, "provisioned": None, "clock": None}
        self.broken = False

    def ask_health(self) -> Health:
        if self.broken:
            raise ZeroDivisionError
        return Health(self.health)


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
def client(daemon: Daemon) -> Iterator[TestClient]:
    app = monitor_app(
        render_metrics=daemon.telemetry.render, health=daemon.ask_health, readiness=lambda: Health(daemon.readiness)
    )
    with TestClient(app, follow_redirects=False) as client:
        yield client


def test_metrics_without_a_redirect(client: TestClient, daemon: Daemon) -> None:
    """The path Prometheus is configured with answers itself, with what the registry holds."""
    daemon.telemetry.fenced()
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "schedd_fenced_writes_total 1.0\n" in answer.text


def test_metrics_negotiate_open_metrics(client: TestClient) -> None:
    """The Accept header decides the format."""
    answer = client.get("/metrics", headers={"accept": "application/openmetrics-text;version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_well(client: TestClient) -> None:
    """200, and each check by name."""
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"ok": True, "checks": {"loop": {"ok": True}}}


def test_ready_names_each_failing_check(client: TestClient, daemon: Daemon) -> None:
    """503 with the reason, beside the checks that pass."""
    daemon.readiness["connected"] = "no server answered for 12 s"
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {
        "ok": False,
        "checks": {
            "connected": {"ok": False, "problem": "no server answered for 12 s"},
            "provisioned": {"ok": True},
            "clock": {"ok": True},
        },
    }
    assert client.get("/healthz").status_code == 200


def test_a_check_that_breaks_is_a_failed_check(client: TestClient, daemon: Daemon) -> None:
    """Never a 500 without a word, never a 200."""
    daemon.broken = True
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["ok"] is False


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_answers_are_never_cached(client: TestClient, path: str) -> None:
    """A proxy in between must not keep yesterday's health."""
    assert client.get(path).headers["cache-control"] == "no-store"
    assert client.head(path).status_code == 200


def test_nothing_can_be_changed(client: TestClient) -> None:
    """Only reads; other paths do not exist; the front page says what there is."""
    assert client.post("/healthz").status_code == 405
    assert client.get("/admin").status_code == 404
    assert "/readyz" in client.get("/").text
