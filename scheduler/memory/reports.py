"""Twin of the reports stream."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from scheduler.core.errors import Conflict, InvalidArgument, Unsure
from scheduler.memory.messages import Delivery, Message
from scheduler.memory.server import MemoryServer
from scheduler.ports.queues import Poison, ReportMessage
from scheduler.wire.reports import (
    BY_DAEMON,
    FINISHED,
    STARTED,
    Started,
    check_report,
    encode,
    is_by_daemon,
    parse_report_subject,
)


class MemoryReports:
    """Implements `ports.queues.Reports`; one instance per replica."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def pull(self, batch: int, expires_s: float) -> list[ReportMessage | Poison]:
        self._server.check()
        return [self._delivered(delivery) for delivery in await self._server.tracker.pull(batch, expires_s)]

    async def ack(self, tokens: Sequence[str]) -> None:
        self._server.check()
        for token in tokens:
            self._server.tracker.ack(token)

    async def last_started(self, keys: Sequence[tuple[str, str]]) -> list[ReportMessage | None]:
        return [self._last(queue, execution_id, STARTED) for queue, execution_id in keys]

    async def all_of(self, queue: str, execution_id: str) -> list[ReportMessage]:
        found = [self._last(queue, execution_id, kind) for kind in (STARTED, FINISHED)]
        return sorted((report for report in found if report is not None), key=lambda report: report.seq)

    async def take(self, queue: str, execution_id: str, attempt: int, at: datetime) -> bool:
        subject = self._server.names.report(queue, execution_id, attempt, STARTED)
        try:
            self._server.report(subject, encode(Started(worker=BY_DAEMON, at=at, by=BY_DAEMON)), claim=True)
        except (Conflict, Unsure) as problem:
            found = self._server.reports.last_of(subject)
            if found is None:
                raise Unsure("whether an attempt was taken is not known") from problem
            return is_by_daemon(found.data)
        return True

    async def lag(self) -> int:
        self._server.check()
        return self._server.tracker.pending + self._server.tracker.ack_pending

    def _last(self, queue: str, execution_id: str, kind: str) -> ReportMessage | None:
        self._server.check()
        found = self._server.reports.last_matching(self._server.names.reports_of(queue, execution_id, kind))
        return None if found is None else self._report(found, "")

    def _report(self, message: Message, token: str) -> ReportMessage | None:
        try:
            key = parse_report_subject(self._server.names, message.subject)
        except InvalidArgument:
            return None
        return ReportMessage(*key, body=message.data, at=message.at, seq=message.seq, ack=token)

    def _delivered(self, delivery: Delivery) -> ReportMessage | Poison:
        message = delivery.message
        try:
            key = parse_report_subject(self._server.names, message.subject)
            check_report(key.kind, message.data)
        except InvalidArgument as problem:
            return Poison(subject=message.subject, ack=delivery.token, problem=problem.message)
        return ReportMessage(*key, body=message.data, at=message.at, seq=message.seq, ack=delivery.token)
