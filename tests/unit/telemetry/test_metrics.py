"""The metrics that outside dashboards and alerts rely on."""

from __future__ import annotations

import pytest

from scheduler.ports.telemetry import Telemetry
from scheduler.telemetry.metrics import LABEL_VALUES_MAX, PrometheusTelemetry


@pytest.fixture
def telemetry() -> PrometheusTelemetry:
    made = PrometheusTelemetry(version="0.1.0", replica="a", namespace="schedd", repairs=("arm_missing",))
    as_port: Telemetry = made
    assert as_port is made
    return made


def value(telemetry: PrometheusTelemetry, name: str, **labels: str) -> float | None:
    return telemetry.registry.get_sample_value(name, labels)


CONTRACT = {
    "schedd_leader": "gauge",
    "schedd_leader_epoch": "gauge",
    "schedd_leader_transitions_total": "counter",
    "schedd_schedules": "gauge",
    "schedd_planned_until_timestamp_seconds": "gauge",
    "schedd_occurrences_armed_total": "counter",
    "schedd_occurrences_total": "counter",
    "schedd_fire_lateness_seconds": "histogram",
    "schedd_dispatch_batch_size": "histogram",
    "schedd_executions_total": "counter",
    "schedd_execution_duration_seconds": "histogram",
    "schedd_queue_pending": "gauge",
    "schedd_queue_ack_pending": "gauge",
    "schedd_reconciler_repairs_total": "counter",
    "schedd_fenced_writes_total": "counter",
    "schedd_invalid_schedules": "gauge",
    "schedd_reports_lag": "gauge",
    "schedd_api_requests_total": "counter",
    "schedd_nats_reconnects_total": "counter",
    "schedd_build_info": "gauge",
}


@pytest.mark.parametrize(("name", "kind"), CONTRACT.items())
def test_every_metric_of_the_contract_is_declared(telemetry: PrometheusTelemetry, name: str, kind: str) -> None:
    """Name and type are what the contract says, from the first scrape on."""
    body, _ = telemetry.render()
    assert f"# TYPE {name} {kind}\n" in body.decode()


@pytest.mark.parametrize(
    "line",
    [
        "schedd_fenced_writes_total 0.0",
        "schedd_leader 0.0",
        "schedd_leader_transitions_total 0.0",
        "schedd_nats_reconnects_total 0.0",
        "schedd_invalid_schedules 0.0",
        'schedd_schedules{state="paused"} 0.0',
        'schedd_reconciler_repairs_total{kind="arm_missing"} 0.0',
        "schedd_occurrences_armed_total 0.0",
    ],
)
def test_visible_before_the_first_event(telemetry: PrometheusTelemetry, line: str) -> None:
    """An alert on an increase needs the 0 that comes before."""
    assert line in telemetry.render()[0].decode().splitlines()


def test_no_created_series(telemetry: PrometheusTelemetry) -> None:
    """`_created` gauges double the series and tell nothing."""
    assert b"_created" not in telemetry.render()[0]


def test_open_metrics_when_asked_for(telemetry: PrometheusTelemetry) -> None:
    """A scraper that accepts OpenMetrics gets it, others get the text format."""
    body, content_type = telemetry.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    assert telemetry.render()[1].startswith("text/plain")


def test_two_daemons_in_one_process_do_not_mix(telemetry: PrometheusTelemetry) -> None:
    """Each has a registry of its own."""
    other = PrometheusTelemetry(version="0.1.0", replica="b", namespace="schedd")
    other.fenced()
    assert value(telemetry, "schedd_fenced_writes_total") == 0
    assert value(other, "schedd_fenced_writes_total") == 1


def test_leadership_counts_changes_only(telemetry: PrometheusTelemetry) -> None:
    """Beginning as a follower is no transition; gaining and losing are; saying so twice is one."""
    telemetry.leadership(leading=False, epoch=None)
    assert value(telemetry, "schedd_leader_transitions_total") == 0
    telemetry.leadership(leading=True, epoch=17)
    telemetry.leadership(leading=True, epoch=17)
    assert value(telemetry, "schedd_leader") == 1
    assert value(telemetry, "schedd_leader_epoch") == 17
    telemetry.leadership(leading=False, epoch=None)
    assert value(telemetry, "schedd_leader_transitions_total") == 2
    assert value(telemetry, "schedd_leader_epoch") == 0


def test_schedule_states_that_vanish_go_back_to_zero(telemetry: PrometheusTelemetry) -> None:
    """A count that is not mentioned any more is 0, not what it was; invalid ones have a gauge of their own too."""
    telemetry.schedules({"active": 3, "invalid": 2})
    assert value(telemetry, "schedd_invalid_schedules") == 2
    telemetry.schedules({"active": 4})
    assert value(telemetry, "schedd_schedules", state="invalid") == 0
    assert value(telemetry, "schedd_invalid_schedules") == 0
    assert value(telemetry, "schedd_schedules", state="active") == 4


def test_an_execution_is_counted_with_its_duration(telemetry: PrometheusTelemetry) -> None:
    """Duration is observed only where it is known, and never negative."""
    telemetry.finished(queue="EMAIL", state="succeeded", duration_s=-0.2)
    telemetry.finished(queue="EMAIL", state="lost", duration_s=None)
    assert value(telemetry, "schedd_executions_total", queue="EMAIL", state="lost") == 1
    assert value(telemetry, "schedd_execution_duration_seconds_count", queue="EMAIL") == 1
    assert value(telemetry, "schedd_execution_duration_seconds_sum", queue="EMAIL") == 0


def test_the_rest_lands_where_its_name_says(telemetry: PrometheusTelemetry) -> None:
    """One call of every other method, one sample each."""
    telemetry.planned(until_s=12.5, armed=3, disarmed=1)
    telemetry.dispatched(batch=7)
    telemetry.verdict(verdict="skipped", reason="overlap")
    telemetry.lateness(0.02)
    telemetry.queue(queue="EMAIL", pending=5, ack_pending=2, paused=True, oldest_s=7.5)
    telemetry.repaired(kind="slot_free")
    telemetry.reports_lag(9)
    telemetry.api_request(endpoint="schedule.put", code="ok")
    telemetry.dropped(what="report", reason="poison")
    telemetry.reconnected()
    telemetry.clock_skew(-1.5)
    telemetry.loop_lag(0.25)
    expected = [
        ("schedd_planned_until_timestamp_seconds", {}, 12.5),
        ("schedd_occurrences_armed_total", {}, 3),
        ("schedd_occurrences_disarmed_total", {}, 1),
        ("schedd_dispatch_batch_size_sum", {}, 7),
        ("schedd_occurrences_total", {"verdict": "skipped", "reason": "overlap"}, 1),
        ("schedd_fire_lateness_seconds_bucket", {"le": "0.025"}, 1),
        ("schedd_queue_pending", {"queue": "EMAIL"}, 5),
        ("schedd_queue_ack_pending", {"queue": "EMAIL"}, 2),
        ("schedd_queue_paused", {"queue": "EMAIL"}, 1),
        ("schedd_queue_oldest_seconds", {"queue": "EMAIL"}, 7.5),
        ("schedd_reconciler_repairs_total", {"kind": "slot_free"}, 1),
        ("schedd_reports_lag", {}, 9),
        ("schedd_api_requests_total", {"endpoint": "schedule.put", "code": "ok"}, 1),
        ("schedd_dropped_total", {"what": "report", "reason": "poison"}, 1),
        ("schedd_nats_reconnects_total", {}, 1),
        ("schedd_clock_skew_seconds", {}, -1.5),
        ("schedd_event_loop_lag_seconds", {}, 0.25),
    ]
    assert [(name, labels, value(telemetry, name, **labels)) for name, labels, _ in expected] == expected


def test_label_values_are_bounded(telemetry: PrometheusTelemetry) -> None:
    """A flood of queue names makes a bounded number of series; counters fold the rest, gauges drop it, counted."""
    for number in range(LABEL_VALUES_MAX + 50):
        telemetry.finished(queue=f"q{number}", state="failed", duration_s=None)
        telemetry.queue(queue=f"q{number}", pending=1, ack_pending=0, paused=False, oldest_s=0)
    assert value(telemetry, "schedd_executions_total", queue="_other", state="failed") == 50
    assert value(telemetry, "schedd_queue_pending", queue="_other") is None
    assert value(telemetry, "schedd_dropped_total", what="queue_gauge", reason="too_many_queues") == 50


def test_a_queue_that_is_gone_has_no_gauges(telemetry: PrometheusTelemetry) -> None:
    """A deleted queue does not go on being paused or full for ever; an unknown one does no harm."""
    telemetry.queue(queue="OLD", pending=1, ack_pending=0, paused=True, oldest_s=1)
    telemetry.queue_gone(queue="OLD")
    telemetry.queue_gone(queue="NEVER")
    assert value(telemetry, "schedd_queue_paused", queue="OLD") is None
    assert value(telemetry, "schedd_queue_pending", queue="OLD") is None
