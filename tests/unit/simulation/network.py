"""The network between one simulated replica and the server: latency, lost answers, writes that land late, and the end.

Every call of a port goes out, takes effect on the server at one instant and comes back at a later one; in between the
replica may be killed (nothing comes back, ever) or frozen (it comes back, but nobody looks until the thaw). Batches
take effect in parts. So a kill or a stall can come between any two effects.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from scheduler.core.errors import Conflict, Fenced, Unavailable, Unsure
from scheduler.memory.clock import wake
from scheduler.ports.clock import Clock
from scheduler.ports.stores import Entry, Watch
from scheduler.ports.timeline import Due
from tests.unit.simulation.virtual_time import SimulatedClock

LATENCY_S = (0.0005, 0.02)
SLOW_S = (0.2, 3.0)
SLOW_SHARE = 0.01
WRITES = frozenset(
    {
        "put",
        "put_many",
        "delete",
        "publish",
        "commit",
        "withhold",
        "take_office",
        "ensure",
        "remove",
        "expire",
        "pull",
        "pull_due",
    }
)
IN_PARTS = frozenset({"put_many", "publish"})
IN_ORDER_S = 1e-6  # the loop keeps no order between equal times
FAULTS = ("refused", "lost", "unanswered", "late")


class Trouble(Struct):
    """How often what goes wrong while it does. `happened` counts each kind.

    `trap`: whoever makes this call next stops right before it takes effect, and is `trapped`.
    """

    clock: SimulatedClock
    share: float = 0.0
    happened: dict[str, int] = {}
    told: list[tuple[datetime, str]] = []
    trap: str | None = None
    trapped: Network | None = None

    def note(self, kind: str) -> None:
        self.happened[kind] = self.happened.get(kind, 0) + 1
        self.told.append((self.clock.now(), kind))


class Network:
    """One replica's way to the server, and its clock: everything that it can ever wait for."""

    def __init__(self, clock: SimulatedClock, rng: random.Random, trouble: Trouble) -> None:
        self._clock, self._rng, self._trouble = clock, rng, trouble
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._is_dead = False
        self._thawed: asyncio.Future[None] | None = None
        self._delivered_at = 0.0
        self._apart: object = None
        self.received = 0
        """Answers and deliveries that came, those of the lease left out, which has a connection of its own."""
        self.clock: Clock = _Clock(clock, self)
        self.watches: list[Watch] = []

    # --- what happens to the replica

    @property
    def is_frozen(self) -> bool:
        return self._thawed is not None

    def kill(self) -> None:
        """From now on nothing it does has an effect, and nothing comes back."""
        self._is_dead = True
        self.thaw()
        for future in list(self._waiting):
            future.cancel()

    def freeze(self) -> None:
        if self._thawed is None:
            self._thawed = self._loop.create_future()

    def thaw(self) -> None:
        thawed, self._thawed = self._thawed, None
        if thawed is not None and not thawed.done():
            thawed.set_result(None)

    # --- what it can wait for

    async def pause(self, seconds: float) -> None:
        """Wait, and longer while frozen. Raises CancelledError in a replica that was killed."""
        self.check()
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting[future] = None
        timer = self._loop.call_later(max(0.0, seconds), wake, future)
        try:
            await future
            while self._thawed is not None:
                await asyncio.shield(self._thawed)
                self.check()
        finally:
            timer.cancel()
            self._waiting.pop(future, None)

    def check(self) -> None:
        if self._is_dead:
            raise asyncio.CancelledError

    def latency_s(self) -> float:
        return self._rng.uniform(*(SLOW_S if self._rng.random() < SLOW_SHARE else LATENCY_S))

    def _step_on(self, name: str) -> None:
        if name == self._trouble.trap:
            self._trouble.trap, self._trouble.trapped = None, self
            self._trouble.note(f"trapped at {name}")
            self.freeze()

    async def call(self, name: str, method: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        self._step_on(name)
        sent_s = self.clock.boottime_s()
        await self.pause(self.latency_s())
        answer, problem = None, None
        try:
            if name in IN_PARTS:
                answer = await self._in_parts(name, method, *args)
            else:
                answer = await self._one(name, functools.partial(method, *args, **kwargs))
        except Exception as caught:
            problem = caught
        self._note(answer, problem)
        server_at = self._clock.now()
        await self.pause(self.latency_s())
        if not isinstance(problem, Unsure) and method.__self__ is not self._apart:  # type: ignore[attr-defined]
            self.received += 1
        if name == "last_revision":
            self.clock.observe_server(server_at, sent_s, self.clock.boottime_s())
        if problem is not None:
            raise problem
        return answer

    def _note(self, answer: Any, problem: Exception | None) -> None:
        """What the server refused, and what it delivered once more."""
        for each in [problem, *answer] if isinstance(answer, list) else [problem]:
            if isinstance(each, Conflict):
                self._trouble.note("fenced" if isinstance(each, Fenced) else "conflict")
            elif isinstance(each, Due) and each.delivered > 1:
                self._trouble.note("redelivered")

    async def _in_parts(self, name: str, method: Callable[..., Awaitable[Any]], items: Sequence[Any]) -> list[Any]:
        """Each item by itself, with its own fault, and pauses in between."""
        results: list[Any] = []
        for item in items:
            if results and self._rng.random() < 2 / len(items):
                await self.pause(self.latency_s())
            try:
                results += await self._one(name, functools.partial(method, [item]))
            except Unavailable as problem:
                results.append(problem)
        return results

    async def _one(self, name: str, send: Callable[[], Awaitable[Any]]) -> Any:
        """One request: it may be refused; a write may be lost, land unheard, or land later."""
        self.check()
        fault = self._rng.choice(FAULTS) if self._rng.random() < self._trouble.share else ""
        if not fault:
            return await send()
        self._trouble.note(fault)
        if fault == "refused":
            raise Unavailable("wrong last sequence (10164)")
        if name in WRITES and fault == "unanswered":
            await send()
        if name in WRITES and fault == "late":
            self._loop.call_later(self._rng.uniform(0.1, 8.0), _start, send)
        raise Unsure("no answer in time")

    def deliver(self, receive: Callable[[Sequence[Entry]], None]) -> Callable[[Sequence[Entry]], None]:
        """What a watch delivers arrives later, in order, and not at all after a kill."""

        def arrive(entries: Sequence[Entry]) -> None:
            if self._thawed is not None:
                self._thawed.add_done_callback(lambda _: arrive(entries))
            elif not self._is_dead:
                self.received += 1
                receive(entries)

        def send(entries: Sequence[Entry]) -> None:
            self._delivered_at = max(self._delivered_at + IN_ORDER_S, self._loop.time() + self.latency_s())
            self._loop.call_at(self._delivered_at, arrive, entries)

        return send

    # --- ports

    def around(self, port: Any) -> Any:
        return _Port(port, self)

    def apart(self, port: Any) -> Any:
        """Over a connection of its own: what comes over it does not count as received."""
        self._apart = port
        return _Port(port, self)


def _start(send: Callable[[], Awaitable[Any]]) -> None:
    """A write that lands late; by then nobody wants to know what became of it."""
    task = asyncio.ensure_future(send())
    task.add_done_callback(lambda done: done.cancelled() or done.exception())


class _Port:
    def __init__(self, port: Any, network: Network) -> None:
        self._port, self._network = port, network

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not inspect.iscoroutinefunction(found):
            return found
        called = self.__dict__[name] = functools.partial(self._network.call, name, found)
        return called

    def watch(self, revision: int, deliver: Callable[[Sequence[Entry]], None]) -> Watch:
        watch: Watch = self._port.watch(revision, self._network.deliver(deliver))
        self._network.watches.append(watch)
        return watch


class _Clock:
    """Implements `ports.clock.Clock` for one replica."""

    def __init__(self, clock: SimulatedClock, network: Network) -> None:
        self._clock, self._network = clock, network

    def now(self) -> datetime:
        return self._clock.now()

    def boottime_s(self) -> float:
        return self._clock.boottime_s()

    def offset_s(self) -> float:
        return 0.0

    def observe_server(self, server_at: datetime, sent_s: float, received_s: float) -> None:
        """All clocks agree."""

    async def sleep(self, seconds: float) -> None:
        await self._network.pause(seconds)
