"""What services report, as named methods: metrics and tests listen to the same words."""

from __future__ import annotations

from typing import Protocol


class Telemetry(Protocol):
    """Every drop, skip, refusal and repair goes through here with a reason. Must never raise nor block."""

    def leadership(self, *, leading: bool, epoch: int | None) -> None: ...
    def planned(self, *, until_s: float, armed: int, disarmed: int) -> None: ...
    def fenced(self) -> None: ...
    def schedules(self, counts: dict[str, int]) -> None:
        """Number of schedules per state: active, paused, invalid, exhausted."""

    def dispatched(self, *, batch: int) -> None: ...
    def verdict(self, *, verdict: str, reason: str, count: int = 1) -> None: ...
    def lateness(self, seconds: float) -> None: ...
    def finished(self, *, queue: str, state: str, duration_s: float | None) -> None: ...
    def redriven(self, *, queue: str) -> None:
        """An execution that had ended is carried out again."""

    def queue(self, *, queue: str, pending: int, ack_pending: int, paused: bool, oldest_s: float) -> None:
        """How it stands; `oldest_s`: how long the oldest task has waited that nobody was given, 0 without one."""

    def queue_gone(self, *, queue: str) -> None:
        """It was deleted."""

    def repaired(self, *, kind: str) -> None: ...
    def cancel_sent(self, *, action: str) -> None:
        """A worker was told to end an execution; again each time."""

    def reports_lag(self, count: int) -> None: ...
    def api_request(self, *, endpoint: str, code: str) -> None: ...
    def dropped(self, *, what: str, reason: str) -> None:
        """Something was refused, ignored or thrown away on purpose: poison, an illegal transition, a full buffer."""

    def webhook(self, *, webhook: str, outcome: str) -> None:
        """A try to deliver an event: delivered, again, given_up."""

    def webhook_pending(self, *, webhook: str, count: int) -> None:
        """Events that a webhook asked for and does not have yet, as well as is known."""

    def reconnected(self) -> None:
        """The connection to NATS was lost and is back."""

    def clock_skew(self, seconds: float) -> None:
        """Server time minus own wall clock, as last measured."""

    def loop_lag(self, seconds: float) -> None:
        """How late the event loop woke a task that had asked for a certain instant."""

    def stream(self, *, stream: str, size: int, fill: float | None) -> None:
        """Bytes that a stream holds, and the share of its limit; None if it has none."""

    def storage(self, *, fill: float) -> None:
        """The share of the account's storage that is used; 0 if it has no limit."""
