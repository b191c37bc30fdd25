"""Prometheus metrics behind the telemetry port. Every metric name of schedd is in this file (contract, part 10).

Beyond the contract's: `schedd_occurrences_disarmed_total`, `schedd_dropped_total{what,reason}`,
`schedd_clock_skew_seconds`, `schedd_event_loop_lag_seconds`, `schedd_planning_horizon_seconds`,
`schedd_stream_bytes{stream}`, `schedd_stream_fill_ratio{stream}`, `schedd_storage_fill_ratio`,
`schedd_queue_paused{queue}`, `schedd_queue_oldest_seconds{queue}`.

Counters without labels, and with labels that are known beforehand, are there from the start at 0, so that an alert on
their increase sees the first one. A label value that would be the 257th of its metric is counted as `_other`.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder

LABEL_VALUES_MAX = 256
OTHER = "_other"
SCHEDULE_STATES = ("active", "paused", "invalid", "exhausted")
LATENESS_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)
DURATION_BUCKETS_S = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class _Bound:
    """Lets the first values of a label through and folds the rest into one: a series is for ever."""

    def __init__(self, limit: int = LABEL_VALUES_MAX) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        if value in self._known:
            return value
        if len(self._known) >= self._limit:
            return OTHER
        self._known.add(value)
        return value


class PrometheusTelemetry:
    """Implements `ports.telemetry.Telemetry` on a registry of its own: two daemons in one process do not mix."""

    def __init__(
        self, *, version: str, replica: str, namespace: str, repairs: tuple[str, ...] = (), horizon_s: float = 120.0
    ) -> None:
        """`repairs`: the kinds of repair that exist, to be shown at 0. `horizon_s`: as the settings have it."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client left it unannotated
        self.registry = CollectorRegistry()
        self._queues, self._words = _Bound(), _Bound()
        self._leading: bool | None = None
        self._declare_planning()
        self._declare_executions()
        self._declare_process()
        self._start_at_zero(repairs)
        self._horizon.set(horizon_s)
        build = {"version": version, "replica": replica, "namespace": namespace, "python": platform.python_version()}
        self._gauge("build_info", "Always 1; the labels say what runs.", *build).labels(**build).set(1)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics and their content type: OpenMetrics if `accept` (the request's header) asks for it."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self.registry), content_type

    # --- declarations
    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"schedd_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"schedd_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"schedd_{name}", text, labels, registry=self.registry, buckets=buckets)

    def _declare_planning(self) -> None:
        self._leader = self._gauge("leader", "1 while this replica leads.")
        self._leader_epoch = self._gauge("leader_epoch", "Epoch of the term this replica leads; 0 while it does not.")
        self._transitions = self._counter("leader_transitions_total", "Times this replica began or ceased to lead.")
        self._schedules = self._gauge("schedules", "Schedules by state.", "state")
        self._invalid = self._gauge("invalid_schedules", "Stored values that are no valid schedule and do not fire.")
        self._planned_until = self._gauge(
            "planned_until_timestamp_seconds", "Nominal time up to which everything is armed; 0 before the first plan."
        )
        self._horizon = self._gauge("planning_horizon_seconds", "How far ahead of now this replica would plan.")
        self._armed = self._counter("occurrences_armed_total", "Occurrences put on the timeline.")
        self._disarmed = self._counter("occurrences_disarmed_total", "Occurrences taken off the timeline.")
        self._fenced = self._counter("fenced_writes_total", "Planning writes the storage refused: not our epoch.")

    def _declare_executions(self) -> None:
        self._verdicts = self._counter("occurrences_total", "Verdicts on occurrences.", "verdict", "reason")
        self._lateness = self._histogram(
            "fire_lateness_seconds", "From fire time to dispatch, of what was queued.", LATENESS_BUCKETS_S
        )
        self._batches = self._histogram("dispatch_batch_size", "Due messages dispatched at once.", BATCH_BUCKETS)
        self._executions = self._counter(
            "executions_total", "Executions that ended, by terminal state.", "queue", "state"
        )
        self._redriven = self._counter("executions_retried_total", "Ended executions carried out again.", "queue")
        self._durations = self._histogram(
            "execution_duration_seconds", "Start of the last attempt to the end.", DURATION_BUCKETS_S, "queue"
        )
        self._pending = self._gauge("queue_pending", "Tasks waiting to be delivered.", "queue")
        self._ack_pending = self._gauge("queue_ack_pending", "Tasks delivered, not yet acknowledged.", "queue")
        self._paused = self._gauge("queue_paused", "1 while nothing is delivered.", "queue")
        self._oldest = self._gauge(
            "queue_oldest_seconds", "How long the oldest task has waited that nobody was given; 0 without one.", "queue"
        )
        self._repairs = self._counter("reconciler_repairs_total", "Differences found and repaired.", "kind")
        self._cancels = self._counter("cancels_sent_total", "Messages to workers to end an execution.", "action")
        self._reports_lag = self._gauge("reports_lag", "Reports of workers not folded yet.")

    def _declare_process(self) -> None:
        self._requests = self._counter("api_requests_total", "Requests answered.", "endpoint", "code")
        self._dropped = self._counter("dropped_total", "Refused, ignored or thrown away.", "what", "reason")
        self._webhooks = self._counter(
            "webhook_deliveries_total", "Tries to deliver an event to a webhook.", "name", "outcome"
        )
        self._webhooks_pending = self._gauge("webhook_pending", "Events a webhook does not have yet.", "name")
        self._reconnects = self._counter("nats_reconnects_total", "Times the connection to NATS came back.")
        self._skew = self._gauge("clock_skew_seconds", "Server time minus the wall clock of this machine.")
        self._stream_bytes = self._gauge("stream_bytes", "What a stream, or the one under a bucket, holds.", "stream")
        self._stream_fill = self._gauge(
            "stream_fill_ratio", "Share of its limit on bytes or messages; only where it has one.", "stream"
        )
        self._storage_fill = self._gauge(
            "storage_fill_ratio", "Share of the account's JetStream storage that is used; 0 where it has no limit."
        )
        self._lag = self._gauge("event_loop_lag_seconds", "How late the event loop woke the last heartbeat.")

    def _start_at_zero(self, repairs: tuple[str, ...]) -> None:
        for state in SCHEDULE_STATES:
            self._schedules.labels(state)
        for kind in repairs:
            self._repairs.labels(self._words(kind))

    # --- the port
    def leadership(self, *, leading: bool, epoch: int | None) -> None:
        if leading != bool(self._leading):
            self._transitions.inc()
        self._leading = leading
        self._leader.set(leading)
        self._leader_epoch.set((epoch or 0) if leading else 0)

    def planned(self, *, until_s: float, armed: int, disarmed: int) -> None:
        self._planned_until.set(until_s)
        self._armed.inc(armed)
        self._disarmed.inc(disarmed)

    def fenced(self) -> None:
        self._fenced.inc()

    def schedules(self, counts: Mapping[str, int]) -> None:
        for state in SCHEDULE_STATES:
            self._schedules.labels(state).set(counts.get(state, 0))
        self._invalid.set(counts.get("invalid", 0))

    def dispatched(self, *, batch: int) -> None:
        self._batches.observe(batch)

    def verdict(self, *, verdict: str, reason: str, count: int = 1) -> None:
        self._verdicts.labels(self._words(verdict), self._words(reason)).inc(count)

    def lateness(self, seconds: float) -> None:
        self._lateness.observe(max(0.0, seconds))

    def finished(self, *, queue: str, state: str, duration_s: float | None) -> None:
        label = self._queues(queue)
        self._executions.labels(label, self._words(state)).inc()
        if duration_s is not None:
            self._durations.labels(label).observe(max(0.0, duration_s))

    def redriven(self, *, queue: str) -> None:
        self._redriven.labels(self._queues(queue)).inc()

    def queue(self, *, queue: str, pending: int, ack_pending: int, paused: bool, oldest_s: float) -> None:
        label = self._queues(queue)
        if label == OTHER:
            self.dropped(what="queue_gauge", reason="too_many_queues")
            return
        self._pending.labels(label).set(pending)
        self._ack_pending.labels(label).set(ack_pending)
        self._paused.labels(label).set(paused)
        self._oldest.labels(label).set(oldest_s)

    def queue_gone(self, *, queue: str) -> None:
        for gauge in (self._pending, self._ack_pending, self._paused, self._oldest):
            with contextlib.suppress(KeyError):
                gauge.remove(queue)

    def repaired(self, *, kind: str) -> None:
        self._repairs.labels(self._words(kind)).inc()

    def cancel_sent(self, *, action: str) -> None:
        self._cancels.labels(self._words(action)).inc()

    def reports_lag(self, count: int) -> None:
        self._reports_lag.set(count)

    def api_request(self, *, endpoint: str, code: str) -> None:
        self._requests.labels(self._words(endpoint), self._words(code)).inc()

    def dropped(self, *, what: str, reason: str) -> None:
        self._dropped.labels(self._words(what), self._words(reason)).inc()

    def webhook(self, *, webhook: str, outcome: str) -> None:
        self._webhooks.labels(self._words(webhook), self._words(outcome)).inc()

    def webhook_pending(self, *, webhook: str, count: int) -> None:
        self._webhooks_pending.labels(self._words(webhook)).set(count)

    def reconnected(self) -> None:
        self._reconnects.inc()

    def clock_skew(self, seconds: float) -> None:
        self._skew.set(seconds)

    def loop_lag(self, seconds: float) -> None:
        self._lag.set(seconds)

    def stream(self, *, stream: str, size: int, fill: float | None) -> None:
        self._stream_bytes.labels(stream).set(size)
        if fill is not None:
            self._stream_fill.labels(stream).set(fill)

    def storage(self, *, fill: float) -> None:
        self._storage_fill.set(fill)
