"""What schedd says of a run when it is over: the state of every record, and an audit of every schedule."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from tests.acceptance.harness import EXECUTIONS, Site
from tests.faults.storm.figures import Audit
from tests.faults.storm.load import Load

BATCH = 1000
FETCH_S, READ_S = 2.0, 120.0
AUDITS_AT_ONCE = 2
ANSWER_S = 60
TRIES = 3


class State(Struct):
    """The part of a record that the checker looks at: a run has hundreds of thousands of them."""

    state: str
    reason: str | None = None


_STATE = msgspec.json.Decoder(State)


async def states(site: Site) -> dict[str, dict[str, object]]:
    """State and reason of every execution record as it is now, read in batches: a watch would outrun this client."""
    subject = f"$KV.{EXECUTIONS}."
    config = ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.LAST_PER_SUBJECT)
    reading = await site.js.pull_subscribe(f"{subject}>", stream=f"KV_{EXECUTIONS}", config=config)
    found: dict[str, dict[str, object]] = {}
    try:
        until_s = time.monotonic() + READ_S
        while left := (await reading.consumer_info()).num_pending:
            messages = []
            with contextlib.suppress(NatsTimeout):  # what expires while we read is counted and never comes
                messages = await reading.fetch(min(left, BATCH), timeout=FETCH_S)
            if time.monotonic() > until_s:
                raise TimeoutError(f"reading records takes longer than {READ_S:g} s")
            for message in messages:
                key = message.subject.removeprefix(subject)
                if message.data and not key.startswith("_"):
                    record = _STATE.decode(message.data)
                    found[key] = {"state": record.state, "reason": record.reason}
    finally:
        await reading.unsubscribe()
    return found


async def audits(site: Site, load: Load) -> list[Audit]:
    """`schedule.audit` of every schedule over the whole run."""
    turns = asyncio.Semaphore(AUDITS_AT_ONCE)

    async def one(id_: str) -> Audit:
        async with turns:
            body = {"id": id_, "since": load.began.isoformat(), "until": load.ended.isoformat()}
            reply = await _ask(site, "schedule.audit", body)
        owed = len(load.owed_by(id_))
        if "code" in reply:  # an audit that is refused explains nothing
            return Audit(id_, owed, 0, {str(reply["code"]): 1}, owed)
        return Audit(id_, owed, reply["expected"], reply["verdicts"], reply["unexplained"])

    return list(await asyncio.gather(*(one(id_) for id_ in load.definitions)))


async def _ask(site: Site, endpoint: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """A read: a request that meets a replica in its death is repeated."""
    for left in reversed(range(TRIES)):
        try:
            reply = await site.client.request(f"schedd.api.v1.{endpoint}", json.dumps(body).encode(), timeout=ANSWER_S)
            found: dict[str, Any] = json.loads(reply.data)
        except (NatsError, TimeoutError):
            if not left:
                raise
        else:
            if found.get("code") != "unavailable" or not left:
                return found
        await asyncio.sleep(1)
    raise AssertionError("not reached")
