"""Twin of the poster: an endpoint that does as a test says, and remembers what it was sent.

poster = MemoryPoster(clock)
poster.answers["ops"] = [Answer(status=500), Answer(problem="timeout")]    # by host; then 200 for ever
poster.hangs.add("slow")                                                    # answers when its time is up
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import NamedTuple

from scheduler.core.delivering import Answer
from scheduler.memory.clock import VirtualClock
from scheduler.ports.webhooks import Post


class Posted(NamedTuple):
    """One request as it arrived, and when."""

    at_s: float
    post: Post


class MemoryPoster:
    """Implements `ports.webhooks.Poster`."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.answers: dict[str, deque[Answer]] = defaultdict(deque)
        self.always: dict[str, Answer] = {}
        self.hangs: set[str] = set()
        self.posted: dict[str, list[Posted]] = defaultdict(list)

    async def post(self, post: Post) -> Answer:
        host = post.target.host
        self.posted[host].append(Posted(self._clock.boottime_s(), post))
        if host in self.hangs:
            await self._clock.sleep(post.timeout_s)
            return Answer(problem="timeout")
        await self._clock.sleep(0.001)
        if self.answers[host]:
            return self.answers[host].popleft()
        return self.always.get(host, Answer(status=200))
