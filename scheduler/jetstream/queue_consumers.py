"""The durable consumers of the queues: made, read, set and deleted. What a queue is set to stands in its consumer.

What JetStream has no setting for is metadata there: `max_pending`, the note of a pause, and the number of the edit. A
pause is JetStream's own (`pause_until`); it survives an update of the consumer, which cannot change it, and every
restart. A note holds for the pause that it was written with only: whoever pauses by other tools leaves it behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from scheduler.core.errors import NotFound
from scheduler.core.model.queue import Pause, QueueEdit, QueueSettings
from scheduler.jetstream.errors import NoConsumer, Place, check_led
from scheduler.jetstream.provisioning import ensure_queue
from scheduler.jetstream.requests import Requests
from scheduler.ports.queues import QueueState
from scheduler.wire.instants import format_instant, parse_instant
from scheduler.wire.names import Names

FOREVER = datetime(2199, 12, 31, tzinfo=UTC)  # a pause without an end, where JetStream wants one
EDIT, MAX_PENDING, NOTE, NOTE_UNTIL = (
    f"schedd.{word}" for word in ("edit", "max_pending", "pause_note", "paused_until")
)
_US = timedelta(microseconds=1)


class QueueConsumers:
    """The part of `ports.queues.TaskQueues` that is about consumers."""

    def __init__(self, requests: Requests, names: Names, defaults: QueueSettings) -> None:
        self._requests = requests
        self._names = names
        self._defaults = defaults

    async def ensure(self, queue: str, edit: QueueEdit | None = None) -> None:
        wanted = edit or QueueEdit(self._defaults)
        more: dict[str, Any] = {"metadata": _metadata(wanted)}
        if wanted.settings.backoff:
            more["backoff"] = [_ns(each) for each in wanted.settings.backoff]
        if wanted.settings.pause is not None:
            more["pause_until"] = _until_text(wanted.settings.pause)
        await ensure_queue(
            self._requests,
            self._names,
            queue,
            ack_wait_s=wanted.settings.ack_wait.total_seconds(),
            max_deliver=wanted.settings.max_deliver,
            max_ack_pending=wanted.settings.max_ack_pending,
            more=more,
        )

    async def configure(self, queue: str, edit: QueueEdit) -> None:
        info = await self._info(queue)
        if info is None:
            raise NotFound(f"queue {queue!r} has no consumer")
        await self._pause(queue, info, edit.settings.pause)
        config = {**info["config"], **_numbers(edit.settings)}
        foreign = {key: value for key, value in (config.get("metadata") or {}).items() if not _is_ours(key)}
        config["metadata"] = foreign | _metadata(edit)
        request = {"stream_name": self._names.tasks, "config": config, "action": "update"}
        await self._requests.api(f"CONSUMER.CREATE.{self._place(queue)}.{self._names.tasks_of(queue)}", request)

    async def _pause(self, queue: str, info: Mapping[str, Any], pause: Pause | None) -> None:
        wanted, has = None if pause is None else _until_text(pause), _paused_until(info)
        if (None if has is None else format_instant(has)) != wanted:
            await self._requests.api(
                f"CONSUMER.PAUSE.{self._place(queue)}", {} if wanted is None else {"pause_until": wanted}
            )

    async def drop(self, queue: str) -> bool:
        try:
            await self._requests.api(f"CONSUMER.DELETE.{self._place(queue)}")
        except NoConsumer:
            return False
        return True

    async def queues(self) -> list[QueueState]:
        found: list[QueueState] = []
        offset = 0
        while True:
            page = await self._requests.api(f"CONSUMER.LIST.{self._names.tasks}", {"offset": offset})
            consumers = page.get("consumers") or []
            found += [_state_of(info) for info in consumers if self._is_queue(info)]
            offset += len(consumers)
            if not consumers or offset >= page.get("total", 0):
                return found

    async def queue(self, queue: str) -> QueueState | None:
        info = await self._info(queue)
        return None if info is None or not self._is_queue(info) else _state_of(info)

    async def waiting_since(self, states: Sequence[QueueState]) -> list[datetime | None]:
        """A task that is there and was never delivered stands behind the last one that was."""
        some = [state for state in states if state.pending]
        queries = [
            {"seq": state.delivered_seq + 1, "next_by_subj": self._names.tasks_of(state.queue)} for state in some
        ]
        messages = await self._requests.stored_many(self._names.tasks, queries) if some else []
        since = {state.queue: message.at for state, message in zip(some, messages, strict=True) if message}
        return [since.get(state.queue) for state in states]

    async def _info(self, queue: str) -> dict[str, Any] | None:
        try:
            return await self._requests.api(f"CONSUMER.INFO.{self._place(queue)}")
        except NoConsumer:
            return None

    def _place(self, queue: str) -> str:
        return f"{self._names.tasks}.{queue}"

    def _is_queue(self, info: Mapping[str, Any]) -> bool:
        return bool(info["config"].get("filter_subject") == self._names.tasks_of(info["name"]))


def _numbers(settings: QueueSettings) -> dict[str, Any]:
    return {
        "ack_wait": _ns(settings.ack_wait),
        "max_deliver": settings.max_deliver,
        "max_ack_pending": settings.max_ack_pending,
        "backoff": [_ns(each) for each in settings.backoff],
    }


def _metadata(edit: QueueEdit) -> dict[str, str]:
    settings, pause = edit.settings, edit.settings.pause
    found = {EDIT: str(edit.number)}
    if settings.max_pending is not None:
        found[MAX_PENDING] = str(settings.max_pending)
    if pause is not None and pause.note is not None:
        found |= {NOTE: pause.note, NOTE_UNTIL: _until_text(pause)}
    return found


def _state_of(info: Mapping[str, Any]) -> QueueState:
    """Raises Unavailable while the consumer has no leader: its numbers are then nobody's, and read 0."""
    check_led(msgspec.convert(info.get("cluster"), Place | None), f"queue {info['name']!r}")
    config = info["config"]
    metadata = config.get("metadata") or {}
    settings = QueueSettings(
        ack_wait=_span(config.get("ack_wait", 0)),
        max_deliver=config.get("max_deliver", -1),
        max_ack_pending=config.get("max_ack_pending", -1),
        max_pending=_number(metadata.get(MAX_PENDING)) or None,
        backoff=tuple(_span(each) for each in config.get("backoff") or ()),
        pause=_pause_of(_paused_until(info), metadata),
    )
    return QueueState(
        queue=info["name"],
        pending=info.get("num_pending", 0),
        ack_pending=info.get("num_ack_pending", 0),
        settings=settings,
        edit=_number(metadata.get(EDIT)),
        delivered_seq=info["delivered"]["stream_seq"],
        made_at=parse_instant(info["created"]),
    )


def _paused_until(info: Mapping[str, Any]) -> datetime | None:
    """By its configuration: `paused` is missing where nobody leads the consumer."""
    text = info["config"].get("pause_until")
    until = None if text is None else parse_instant(text)
    return until if until is not None and until > parse_instant(info["ts"]) else None


def _pause_of(until: datetime | None, metadata: Mapping[str, str]) -> Pause | None:
    if until is None:
        return None
    is_noted = metadata.get(NOTE_UNTIL) == format_instant(until)
    return Pause(until=None if until >= FOREVER else until, note=metadata.get(NOTE) if is_noted else None)


def _until_text(pause: Pause) -> str:
    return format_instant(pause.until or FOREVER)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 16 else None


def _is_ours(key: str) -> bool:
    return key in {EDIT, MAX_PENDING, NOTE, NOTE_UNTIL} or key.startswith("_nats.")


def _ns(span: timedelta) -> int:
    return span // _US * 1000


def _span(nanoseconds: int) -> timedelta:
    return timedelta(microseconds=nanoseconds // 1000)
