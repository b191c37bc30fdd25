"""Reading the events stream: what was told about one schedule, oldest first, with nothing missing.

The stream's leader says how many there are. Few are read from it one after the other; many come through a consumer,
which the server may place on a follower that lags behind, so it is read until that number has come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from scheduler.core.errors import InvalidArgument, Unavailable
from scheduler.core.triggers import EPOCH
from scheduler.jetstream.ephemeral import BULK, PATIENCE_S, passing, stored_message
from scheduler.jetstream.requests import Requests, StoredMessage
from scheduler.ports.queues import Recorded
from scheduler.wire.events import decode_event
from scheduler.wire.instants import cut
from scheduler.wire.names import Names

STEPS = 32  # events of one kind that are read step by step


class EventLog:
    """Reads; writing is `jetstream.events`."""

    def __init__(self, requests: Requests, names: Names) -> None:
        self._requests, self._names = requests, names

    async def of(self, schedule_id: str, kinds: Sequence[str], *, most: int) -> list[Recorded]:
        """See `ports.queues.Events.recorded`."""
        subjects = {self._names.event(kind, schedule_id) for kind in kinds}
        counts = {subject: count for subject, count in (await self._counts(schedule_id)).items() if subject in subjects}
        total = sum(counts.values())
        if total > most:
            raise InvalidArgument(f"schedule {schedule_id!r} has {total} events on record, more than {most} to look at")
        if max(counts.values(), default=0) <= STEPS:
            found = await asyncio.gather(*(self._walk(subject) for subject in counts))
            messages = [message for of_subject in found for message in of_subject]
        else:
            messages = await self._bulk(list(counts), total)
        return [told for each in sorted(messages, key=lambda each: each.seq) if (told := _recorded(each)) is not None]

    async def complete_since(self) -> datetime | None:
        """Since when nothing was removed; the epoch if nothing ever was, None if everything was."""
        state = (await self._requests.api(f"STREAM.INFO.{self._names.events}"))["state"]
        if state["last_seq"] == state["messages"]:
            return EPOCH
        return cut(datetime.fromisoformat(state["first_ts"])) if state["messages"] else None

    async def _counts(self, schedule_id: str) -> dict[str, int]:
        """How many events of each subject there are. `*` is one token, so `a` does not find those of `a.b`."""
        request = {"subjects_filter": self._names.event("*", schedule_id)}
        info = await self._requests.api(f"STREAM.INFO.{self._names.events}", request)
        return dict(info["state"].get("subjects") or {})

    async def _walk(self, subject: str) -> list[StoredMessage]:
        """Every message of a subject, from the leader, step by step."""
        found: list[StoredMessage] = []
        seq = 1
        while message := await self._requests.stored(self._names.events, {"seq": seq, "next_by_subj": subject}):
            found.append(message)
            seq = message.seq + 1
        return found

    async def _bulk(self, subjects: Sequence[str], total: int) -> list[StoredMessage]:
        """Through a consumer, until as many have come as the leader counted. Raises Unavailable if they do not."""
        found: dict[int, StoredMessage] = {}
        stream, filters = self._names.events, list(subjects)
        async with passing(self._requests, stream, "events", 0, filter_subjects=filters) as puller:
            while len(found) < total:
                batch = await puller.pull(BULK, PATIENCE_S)
                if not batch:
                    missing = total - len(found)
                    raise Unavailable(f"{self._names.events}: {missing} events are not delivered {puller.trouble}")
                found |= {message.seq: message for message in map(stored_message, batch)}
        return list(found.values())


def _recorded(message: StoredMessage) -> Recorded | None:
    """None for what is no event of ours: whoever may publish there may have written anything."""
    try:
        told = decode_event(message.data)
    except InvalidArgument:
        return None
    return Recorded(message.seq, told.id, told.kind, told.at, told.data)
