"""Reading the logs stream: the lines of one execution, oldest first, with nothing missing.

The stream's leader says which line is the last one. A few are read from it one after the other, as somebody who follows
an execution does; more come through a consumer, which the server may place on a follower that lags behind, so it is
read until that last one has come.
"""

from __future__ import annotations

from scheduler.core.errors import Unavailable
from scheduler.jetstream.delivery import read_reply
from scheduler.jetstream.ephemeral import BULK, PATIENCE_S, passing, stored_message
from scheduler.jetstream.requests import Requests, StoredMessage
from scheduler.ports.logs import StoredLine
from scheduler.wire.names import Names

STEPS = 12  # lines that are read step by step


class NatsLogs:
    """Implements `ports.logs.Logs`."""

    def __init__(self, requests: Requests, names: Names) -> None:
        self._requests, self._names = requests, names

    async def after(self, execution_id: str, seq: int, most: int) -> list[StoredLine]:
        subject = self._names.log(execution_id)
        last = await self._requests.stored(self._names.logs, {"last_by_subj": subject})
        if last is None or last.seq <= seq:
            return []
        found = await self._walk(subject, seq, min(most, STEPS))
        if found and found[-1].seq < last.seq and len(found) < most:
            found += await self._bulk(subject, found[-1].seq, last.seq, most - len(found))
        return [StoredLine(each.seq, each.at, each.data) for each in found]

    async def _walk(self, subject: str, after: int, most: int) -> list[StoredMessage]:
        """From the leader, step by step."""
        found: list[StoredMessage] = []
        while len(found) < most:
            query = {"seq": after + 1, "next_by_subj": subject}
            message = await self._requests.stored(self._names.logs, query)
            if message is None:
                break
            found.append(message)
            after = message.seq
        return found

    async def _bulk(self, subject: str, after: int, last: int, most: int) -> list[StoredMessage]:
        """Through a consumer, until the last one has come, or enough of them. Raises Unavailable if it does not."""
        found: list[StoredMessage] = []
        async with passing(self._requests, self._names.logs, "logs", after, filter_subject=subject) as puller:
            while len(found) < most and (not found or found[-1].seq < last):
                batch = await puller.pull(min(BULK, most - len(found)), PATIENCE_S)
                if not batch:
                    raise Unavailable(f"{self._names.logs}: lines are not delivered {puller.trouble}".rstrip())
                for message in batch:
                    if read_reply(message.reply).consumer_seq != len(found) + 1:
                        raise Unavailable(f"{self._names.logs}: lines were lost on their way: ask again")
                    found.append(stored_message(message))
        return found[:most]
