"""The reports stream: what workers tell about attempts. One durable consumer, shared by all replicas."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from scheduler.core.errors import Conflict, InvalidArgument, ScheddError, Unsure
from scheduler.jetstream.delivery import ACK, answer, read_reply
from scheduler.jetstream.pulling import Puller
from scheduler.jetstream.requests import Message, Requests, StoredMessage
from scheduler.ports.queues import Poison, ReportMessage
from scheduler.wire import headers as h
from scheduler.wire.names import TRACKER, Names
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


class NatsReports:
    """Implements `ports.queues.Reports`. `open` before pulling, `close` after."""

    def __init__(self, requests: Requests, client: NatsClient, names: Names) -> None:
        self._requests = requests
        self._client = client
        self._names = names
        self._puller = Puller(client, names.reports, TRACKER)

    async def open(self) -> None:
        await self._puller.open()

    async def close(self) -> None:
        await self._puller.close()

    async def pull(self, batch: int, expires_s: float) -> list[ReportMessage | Poison]:
        return [self._delivered(message) for message in await self._puller.pull(batch, expires_s)]

    async def ack(self, tokens: Sequence[str]) -> None:
        await answer(self._client, tokens, ACK)

    async def last_started(self, keys: Sequence[tuple[str, str]]) -> list[ReportMessage | None]:
        subjects = [self._names.reports_of(queue, execution_id, STARTED) for queue, execution_id in keys]
        return await self._last(subjects)

    async def all_of(self, queue: str, execution_id: str) -> list[ReportMessage]:
        subjects = [self._names.reports_of(queue, execution_id, kind) for kind in (STARTED, FINISHED)]
        found = [report for report in await self._last(subjects) if report is not None]
        return sorted(found, key=lambda report: report.seq)

    async def take(self, queue: str, execution_id: str, attempt: int, at: datetime) -> bool:
        subject = self._names.report(queue, execution_id, attempt, STARTED)
        body = encode(Started(worker=BY_DAEMON, at=at, by=BY_DAEMON))
        try:
            await self._requests.publish(Message(subject, body, {h.EXPECTED_LAST_SUBJECT_SEQUENCE: "0"}))
        except (Conflict, Unsure) as problem:
            found = await self._requests.stored(self._names.reports, {"last_by_subj": subject})
            if found is None:
                raise Unsure("whether an attempt was taken is not known") from problem
            return is_by_daemon(found.data)
        return True

    async def lag(self) -> int:
        info = await self._requests.api(f"CONSUMER.INFO.{self._names.reports}.{TRACKER}")
        return int(info.get("num_pending", 0)) + int(info.get("num_ack_pending", 0))

    async def _last(self, subjects: Sequence[str]) -> list[ReportMessage | None]:
        """Whatever their bodies: a `started` that cannot be read is a claim all the same."""
        queries = [{"last_by_subj": subject} for subject in subjects]
        found = await self._requests.stored_many(self._names.reports, queries)
        return [None if message is None else self._stored(message) for message in found]

    def _stored(self, message: StoredMessage) -> ReportMessage | None:
        try:
            key = parse_report_subject(self._names, message.subject)
        except InvalidArgument:
            return None
        return ReportMessage(*key, body=message.data, at=message.at, seq=message.seq, ack="")

    def _delivered(self, message: Msg) -> ReportMessage | Poison:
        try:
            delivery = read_reply(message.reply)
            key = parse_report_subject(self._names, message.subject)
            check_report(key.kind, message.data)
        except ScheddError as problem:
            return Poison(subject=message.subject, ack=message.reply, problem=problem.message)
        return ReportMessage(*key, body=message.data, at=delivery.at, seq=delivery.seq, ack=message.reply)
