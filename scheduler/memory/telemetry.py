"""Telemetry that remembers everything it was told, and lets a test wait for a word instead of sleeping.

await telemetry.seen("repaired", kind="claimed_not_queued")
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple


class Call(NamedTuple):
    """One thing reported: the method's name and its arguments by name."""

    name: str
    values: dict[str, object]

    def matches(self, name: str, values: dict[str, object]) -> bool:
        return self.name == name and values.items() <= self.values.items()


class RecordingTelemetry:
    """Implements `ports.telemetry.Telemetry`. Unbounded: for tests."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._waiting: set[tuple[Callable[[], bool], asyncio.Future[None]]] = set()

    def of(self, name: str, **values: object) -> list[dict[str, object]]:
        """The arguments of every call of that name whose arguments include `values`, oldest first."""
        return [call.values for call in self.calls if call.matches(name, values)]

    def count(self, name: str, **values: object) -> int:
        return len(self.of(name, **values))

    async def seen(self, name: str, *, times: int = 1, **values: object) -> list[dict[str, object]]:
        """Wait until that was reported at least `times` times, since the beginning; returns what was reported."""

        def enough() -> bool:
            return self.count(name, **values) >= times

        if not enough():
            waiter = (enough, asyncio.get_running_loop().create_future())
            self._waiting.add(waiter)
            try:
                await waiter[1]
            finally:
                self._waiting.discard(waiter)
        return self.of(name, **values)

    def _note(self, name: str, **values: object) -> None:
        self.calls.append(Call(name, values))
        for enough, future in self._waiting:
            if not future.done() and enough():
                future.set_result(None)

    def leadership(self, *, leading: bool, epoch: int | None) -> None:
        self._note("leadership", leading=leading, epoch=epoch)

    def planned(self, *, until_s: float, armed: int, disarmed: int) -> None:
        self._note("planned", until_s=until_s, armed=armed, disarmed=disarmed)

    def fenced(self) -> None:
        self._note("fenced")

    def schedules(self, counts: dict[str, int]) -> None:
        self._note("schedules", counts=dict(counts))

    def dispatched(self, *, batch: int) -> None:
        self._note("dispatched", batch=batch)

    def verdict(self, *, verdict: str, reason: str, count: int = 1) -> None:
        self._note("verdict", verdict=verdict, reason=reason, count=count)

    def lateness(self, seconds: float) -> None:
        self._note("lateness", seconds=seconds)

    def finished(self, *, queue: str, state: str, duration_s: float | None) -> None:
        self._note("finished", queue=queue, state=state, duration_s=duration_s)

    def redriven(self, *, queue: str) -> None:
        self._note("redriven", queue=queue)

    def queue(self, *, queue: str, pending: int, ack_pending: int, paused: bool, oldest_s: float) -> None:
        self._note("queue", queue=queue, pending=pending, ack_pending=ack_pending, paused=paused, oldest_s=oldest_s)

    def queue_gone(self, *, queue: str) -> None:
        self._note("queue_gone", queue=queue)

    def repaired(self, *, kind: str) -> None:
        self._note("repaired", kind=kind)

    def cancel_sent(self, *, action: str) -> None:
        self._note("cancel_sent", action=action)

    def reports_lag(self, count: int) -> None:
        self._note("reports_lag", count=count)

    def api_request(self, *, endpoint: str, code: str) -> None:
        self._note("api_request", endpoint=endpoint, code=code)

    def dropped(self, *, what: str, reason: str) -> None:
        self._note("dropped", what=what, reason=reason)

    def webhook(self, *, webhook: str, outcome: str) -> None:
        self._note("webhook", webhook=webhook, outcome=outcome)

    def webhook_pending(self, *, webhook: str, count: int) -> None:
        self._note("webhook_pending", webhook=webhook, count=count)

    def reconnected(self) -> None:
        self._note("reconnected")

    def clock_skew(self, seconds: float) -> None:
        self._note("clock_skew", seconds=seconds)

    def loop_lag(self, seconds: float) -> None:
        self._note("loop_lag", seconds=seconds)

    def stream(self, *, stream: str, size: int, fill: float | None) -> None:
        self._note("stream", stream=stream, size=size, fill=fill)

    def storage(self, *, fill: float) -> None:
        self._note("storage", fill=fill)
