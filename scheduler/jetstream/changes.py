"""What was written to a stream after a sequence, read so that nothing is missed.

Few messages are read one by one from the stream's leader. Many come through a consumer, which the server may place on
a follower that lags behind; so its end is never taken for the end of the stream: the leader is asked what comes next.
"""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.core.errors import Unavailable
from scheduler.jetstream.delivery import read_reply
from scheduler.jetstream.ephemeral import BULK, PATIENCE_S, passing, stored_message
from scheduler.jetstream.requests import Requests, StoredMessage

DIRECT = 500  # sequences read one by one, in one go; the server drops API requests when 10,000 of them wait
CHASES = 5  # how often we look whether something was written while we read


class Changes:
    """Reads one stream in which every subject keeps one message only."""

    def __init__(self, requests: Requests, stream: str) -> None:
        self._requests = requests
        self._stream = stream

    async def since(self, after: int, newest: int) -> tuple[list[StoredMessage], int]:
        """The messages behind sequence `after`, ascending, and the sequence up to which nothing is left out.

        That is `newest` (sampled from the leader) or later. A subject that is rewritten while we read may appear with
        its newer message only, or not at all if that is younger than the sequence returned. Raises Unavailable.
        """
        found: dict[str, StoredMessage] = {}
        at = after
        while at < newest:
            messages, at = await self._step(at, newest)
            found.update((message.subject, message) for message in messages)
        return sorted(found.values(), key=lambda message: message.seq), at

    async def _step(self, at: int, newest: int) -> tuple[Sequence[StoredMessage], int]:
        if newest - at > DIRECT:
            following = await self._requests.stored(self._stream, {"seq": at + 1, "next_by_subj": ">"})
            if following is None:
                return [], newest  # the leader has nothing behind `at`
            at = following.seq - 1
        if newest - at > DIRECT:
            messages = await self._bulk(at, newest)
            return messages, messages[-1].seq
        queries = [{"seq": seq} for seq in range(at + 1, newest + 1)]
        return [message for message in await self._requests.stored_many(self._stream, queries) if message], newest

    async def _bulk(self, after: int, newest: int) -> list[StoredMessage]:
        """At least one message behind `after`, in order and without gaps, up to about `newest`."""
        messages: list[StoredMessage] = []
        async with passing(self._requests, self._stream, "read", after) as puller:
            count = 0
            while batch := await puller.pull(BULK, PATIENCE_S):
                for message in batch:
                    delivery = read_reply(message.reply)
                    count += 1
                    if delivery.consumer_seq != count:  # the client dropped some: go on from here in the next step
                        break
                    messages.append(stored_message(message))
                else:
                    if messages[-1].seq < newest and delivery.pending:
                        continue
                break
        if not messages:
            raise Unavailable(f"{self._stream}: nothing is delivered {puller.trouble}".rstrip())
        return messages
