"""Makes what the topology declares, and repairs what has drifted; never deletes nor shrinks anything.

Any number of replicas may do this at the same moment, against servers that are still starting or electing: each step
looks first, makes what is missing, looks again when the answer is unclear, and is repeated until a common deadline.
The step that was not done by then is named in the error.

A stream that has vanished from an installation in use (others of its streams hold messages) is made anew with
sequences above all it can have had, because sequences are fencing tokens, generations and revisions here.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct
from nats.aio.client import Client as NatsClient

from scheduler.core.errors import InvalidArgument, ScheddError, Unavailable
from scheduler.jetstream.errors import CONSUMER_NOT_FOUND, STREAM_NOT_FOUND, ApiError, Place, from_api, is_led
from scheduler.jetstream.requests import Requests
from scheduler.jetstream.topology import (
    Consumer,
    Stream,
    Topology,
    differences,
    impossible,
    is_vital,
    queue_consumer,
    topology,
)
from scheduler.ports.clock import Clock
from scheduler.ports.stores import StreamSeen
from scheduler.wire.names import Names

SERVER_MIN = (2, 14)
TOTAL_S = 60.0
LOOK_S = 1.5  # a server in an election just stays silent: ask again
CHANGE_S = 5.0
PAUSE_S = (0.1, 1.5)
AT_ONCE = 4
_NAME_IN_USE = frozenset({10058, 10148, 10013})  # another replica was faster, or its settings differ: look again
_INVALID = 10052  # the configuration as such
_NO_PEERS = 10005  # not enough servers yet
_NO_CLUSTER = 10074
_JETSTREAM_OFF = frozenset({10039, 10076})

log = logging.getLogger(__name__)


class _State(Struct):
    last_seq: int = 0


class _Reply(Struct):
    """Of STREAM.INFO, CONSUMER.INFO, and of what creates and updates."""

    error: ApiError | None = None
    config: dict[str, Any] | None = None
    state: _State | None = None
    ts: datetime | None = None
    created: str = ""
    cluster: Place | None = None


class _Refused(Exception):
    """The server said no, for a reason that a later attempt may or may not change."""

    def __init__(self, error: ApiError, doing: str) -> None:
        super().__init__(doing)
        self.error = error
        self.problem = from_api(error, doing)


async def provision(
    requests: Requests,
    names: Names,
    *,
    replicas: int = 1,
    due_ack_wait_s: float = 5.0,
    total_s: float = TOTAL_S,
) -> list[str]:
    """Make or repair everything of the namespace; returns what was changed, for people. Idempotent.

    Raises Unavailable (the server is too old, JetStream is off, or the step it names was not done in `total_s`) and
    InvalidArgument (this server can never do that: more replicas than servers, something else has the name).
    """
    check_server(requests.client)
    run = _Run(requests, replicas, total_s)
    await run.step("JetStream", run.find_jetstream)
    declared = topology(names, due_ack_wait_s=due_ack_wait_s)
    await run.streams(declared.streams)
    await run.consumers(declared.consumers)
    log.info("provisioned", extra={"event": "provisioned", "changed": len(run.changed), "elapsed_s": run.elapsed_s()})
    return run.changed


async def restore(
    requests: Requests,
    names: Names,
    *,
    replicas: int = 1,
    due_ack_wait_s: float = 5.0,
    clock: Clock | None = None,
) -> list[str]:
    """The same once everything is running: quick, and the number of replicas of what exists stays as it is. With a
    `clock`, what is made anew has sequences above all that was, even if everything is gone: replicas remember those."""
    run = _Run(requests, replicas, CHANGE_S * 2, keep_replicas=True)
    run.first_seq = 0 if clock is None else _above_all(clock.now())
    declared: Topology = topology(names, due_ack_wait_s=due_ack_wait_s)
    await run.streams(declared.streams)
    await run.consumers(declared.consumers)
    return run.changed


async def births(requests: Requests, names: Names) -> dict[str, StreamSeen | None]:
    """Each declared stream as it is, None for one that does not exist; those whose leader does not answer are left out.

    For looking often: each stream is asked by itself, since a list makes a cluster ask all streams of the account.
    """
    run = _Run(requests, 1, LOOK_S, keep_replicas=True)
    streams = topology(names).streams
    replies = await asyncio.gather(*(run.look(stream) for stream in streams), return_exceptions=True)
    found: dict[str, StreamSeen | None] = {}
    for stream, reply in zip(streams, replies, strict=True):
        if reply is None:
            found[stream.name] = None
        elif isinstance(reply, _Reply):
            if is_led(reply.cluster):
                found[stream.name] = StreamSeen(reply.created, (reply.state or _State()).last_seq)
        elif not isinstance(reply, _Refused | ScheddError):
            raise reply
    return found


async def ensure_queue(
    requests: Requests,
    names: Names,
    queue: str,
    *,
    ack_wait_s: float = 30.0,
    max_deliver: int = 20,
    max_ack_pending: int = 1000,
    more: Mapping[str, Any] | None = None,
) -> bool:
    """Make the consumer of a queue if it is missing, and repair what schedd needs of it; True if that was necessary.

    Numbers that somebody has changed stay; `more` is what else a new one is given. Raises Unavailable.
    """
    run = _Run(requests, 1, CHANGE_S * 2)
    consumer = queue_consumer(
        names, queue, ack_wait_s=ack_wait_s, max_deliver=max_deliver, max_ack_pending=max_ack_pending, more=more
    )
    await run.consumers([consumer])
    return bool(run.changed)


def check_server(client: NatsClient) -> None:
    """Raises Unavailable if the server we are connected to is too old."""
    version = client.connected_server_version
    if (version.major, version.minor) < SERVER_MIN:
        least = ".".join(map(str, SERVER_MIN))
        has = f"{version.major}.{version.minor}.{version.patch}"
        raise Unavailable(f"schedd needs nats-server {least} or later, this one is {has}: upgrade it")


def _above_all(at: datetime) -> int:
    """More than any stream can hold messages until then: the milliseconds."""
    return int(at.timestamp() * 1000)


class _Run:
    """One pass, with its deadline."""

    def __init__(self, requests: Requests, replicas: int, total_s: float, *, keep_replicas: bool = False) -> None:
        self._requests = requests
        self._replicas = replicas
        self._keep_replicas = keep_replicas
        self._now = asyncio.get_running_loop().time
        self._began_s = self._now()
        self._total_s = total_s
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self.first_seq = 0
        self.changed: list[str] = []

    def elapsed_s(self) -> float:
        return round(self._now() - self._began_s, 3)

    async def streams(self, streams: Sequence[Stream]) -> None:
        found = await self._all([(f"stream {one.name}", partial(self.look, one)) for one in streams])
        used = [reply for reply in found if reply is not None and reply.state is not None and reply.state.last_seq]
        if used and used[0].ts is not None:
            self.first_seq = _above_all(used[0].ts)
        await self._all([(f"stream {one.name}", partial(self._stream, one)) for one in streams])

    async def consumers(self, consumers: Sequence[Consumer]) -> None:
        await self._all([(f"consumer {one.name} of {one.stream}", partial(self._consumer, one)) for one in consumers])

    async def _all(self, steps: Sequence[tuple[str, Callable[[], Awaitable[Any]]]]) -> list[Any]:
        async def one(phase: str, action: Callable[[], Awaitable[Any]]) -> Any:
            async with self._at_once:
                return await self.step(phase, action)

        tasks = [asyncio.ensure_future(one(phase, action)) for phase, action in steps]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def step(self, phase: str, action: Callable[[], Awaitable[Any]]) -> Any:
        """Repeat the action until it is done or the time is up."""
        pause_s = PAUSE_S[0]
        while True:
            try:
                result = await action()
                log.debug("step done", extra={"event": "provision_step", "phase": phase, "elapsed_s": self.elapsed_s()})
                return result
            except _Refused as refusal:
                problem = self._judge(refusal, phase)
            except Unavailable as unavailable:
                problem = unavailable
            extra = {"event": "provision_wait", "phase": phase, "why": problem.message, "elapsed_s": self.elapsed_s()}
            log.info("waiting for NATS", extra=extra)
            if self.elapsed_s() + pause_s > self._total_s:
                raise Unavailable(f"{phase}: not ready after {self.elapsed_s():g} s: {problem.message}")
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - spreads replicas, guards nothing
            pause_s = min(PAUSE_S[1], pause_s * 2)

    def _judge(self, refusal: _Refused, phase: str) -> ScheddError:
        """What to wait out; raises what waiting does not change."""
        code = refusal.error.err_code
        if code in _JETSTREAM_OFF:
            raise Unavailable("JetStream is off for this NATS account: enable it") from None
        if code == _NO_CLUSTER:
            several = f"{self._replicas} stream replicas need a NATS cluster, and this is a single server"
            raise InvalidArgument(f"{several}: use --stream-replicas 1", field="stream_replicas") from None
        waits = isinstance(refusal.problem, Unavailable) and code != _INVALID
        if code in _NAME_IN_USE or code == _NO_PEERS or waits:
            return refusal.problem
        raise Unavailable(f"{phase}: {refusal.problem.message}") from None

    # --- what is done

    async def find_jetstream(self) -> None:
        """Whether anybody answers the JetStream API: a cluster may still be electing, a single server is just off."""
        info = self._requests.client._server_info  # noqa: SLF001 - nats-py has no accessor for the greeting
        if not info.get("jetstream") and not info.get("cluster"):
            raise _Refused(ApiError(503, 10076, "JetStream not enabled"), "JetStream")
        await self._call("INFO", None)

    async def look(self, stream: Stream) -> _Reply | None:
        return await self._call(f"STREAM.INFO.{stream.name}", None, missing=STREAM_NOT_FOUND)

    async def _stream(self, stream: Stream) -> None:
        found = await self.look(stream)
        if found is None or found.config is None:
            config = stream.config(self._replicas)
            if self.first_seq:
                config["first_seq"] = self.first_seq
            await self._call(f"STREAM.CREATE.{stream.name}", config)
            self._note(f"created stream {stream.name}")
            if self.first_seq and not self._keep_replicas:
                extra = {"event": "stream_lost", "stream": stream.name}
                log.error("a stream was lost with what was in it, while nobody ran", extra=extra)
            return
        changes = differences(stream.owned, found.config)
        self._refuse_impossible(stream.name, changes, found.config)
        config = await self._repair(stream.name, found.config, changes) if changes else found.config
        if not self._keep_replicas and found.config.get("num_replicas") != self._replicas:
            await self._scale(stream, config)

    async def _repair(self, name: str, config: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change one setting after the other: some cannot be undone on the server, as TTLs that a user switched on."""
        for key, wanted in changes.items():
            try:
                await self._call(f"STREAM.UPDATE.{name}", {**config, key: wanted})
            except _Refused as refusal:
                if refusal.error.err_code != _INVALID or is_vital(key, wanted):
                    raise
                extra = {"event": "drift_stays", "stream": name, "key": key, "why": refusal.error.description}
                level = logging.DEBUG if self._keep_replicas else logging.WARNING  # once, not with every restore
                log.log(level, "a setting cannot be repaired", extra=extra)
            else:
                config = {**config, key: wanted}
                self._note(f"repaired stream {name}: {key}")
        return config

    async def _scale(self, stream: Stream, config: Mapping[str, Any]) -> None:
        """Change the number of replicas if the servers can; if not, what is there goes on."""
        try:
            await self._call(f"STREAM.UPDATE.{stream.name}", {**config, "num_replicas": self._replicas})
        except _Refused as refusal:
            extra = {"event": "replicas_not_changed", "stream": stream.name, "why": refusal.error.description}
            log.warning("the number of stream replicas stays as it is", extra=extra)
        else:
            self._note(f"stream {stream.name} now has {self._replicas} replicas")

    async def _consumer(self, consumer: Consumer) -> None:
        place = f"{consumer.stream}.{consumer.name}"
        found = await self._call(f"CONSUMER.INFO.{place}", None, missing=CONSUMER_NOT_FOUND)
        config = consumer.config() if found is None or found.config is None else found.config
        if found is not None:
            changes = differences(consumer.owned, config)
            if not changes:
                return
            self._refuse_impossible(f"{consumer.name} of {consumer.stream}", changes, config)
            config = {**config, **changes}
        subject = f"CONSUMER.CREATE.{place}"
        if config.get("filter_subject"):
            subject += f".{config['filter_subject']}"
        await self._call(subject, {"stream_name": consumer.stream, "config": config})
        self._note(f"{'created' if found is None else 'repaired'} consumer {consumer.name} of {consumer.stream}")

    def _refuse_impossible(self, name: str, changes: Mapping[str, Any], actual: Mapping[str, Any]) -> None:
        for key in impossible(changes):
            was, wanted = actual.get(key), changes[key]
            raise InvalidArgument(
                f"{name} exists with {key} {was!r}, schedd needs {wanted!r}: remove it or use another --namespace",
                field="namespace",
            )

    def _note(self, text: str) -> None:
        self.changed.append(text)
        log.info(text, extra={"event": "provision_changed", "elapsed_s": self.elapsed_s()})

    async def _call(self, subject: str, request: Mapping[str, Any] | None, *, missing: int = 0) -> _Reply | None:
        """One call; None if the server says `missing`. Raises _Refused, Unavailable."""
        payload = b"" if request is None else msgspec.json.encode(request)
        message = await self._requests.call(
            f"$JS.API.{subject}", payload, timeout_s=LOOK_S if request is None else CHANGE_S
        )
        reply = msgspec.json.decode(message.data, type=_Reply)
        if reply.error is None:
            return reply
        if missing and reply.error.err_code == missing:
            return None
        raise _Refused(reply.error, subject)
