"""A worker that knows nothing of schedd: any NATS client that pulls from a durable consumer and answers.

    python -m tests.acceptance.plain_worker QUEUE EVIDENCE [ack|nak|term|never|SECONDS]

SECONDS: work that long on each message, on all at once, and then ack.

Each message goes to the evidence file, fsynced, before it is answered. The connection comes from NATS_URL and what
`sign_in_by` reads. It pulls by plain requests, because nats-py's `fetch` sits on what has arrived until its batch is
full or its time is up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import nats
from nats.errors import Error as NatsError

STREAM = "SCHEDD_TASKS"
BATCH = 100
REQUEST = json.dumps({"batch": BATCH, "expires": 1_000_000_000}).encode()
ROUND_S = 1.5  # a pull that is over by then was lost with its server
RETRY_S = 0.1
ANSWERS = {"ack": b"+ACK", "nak": b"-NAK", "term": b"+TERM"}


class PlainWorker:
    def __init__(self, queue: str, evidence: int, how: str) -> None:
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{queue}"
        self._work_s = float(how) if how.replace(".", "").isdigit() else 0.0
        self._evidence, self._answer = evidence, ANSWERS.get("ack" if self._work_s else how)
        self._working: set[asyncio.Task[None]] = set()
        self._arrived: list[tuple[Any, datetime]] = []
        self._left = 0
        self._round_over = asyncio.Event()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        client = await nats.connect(
            os.environ["NATS_URL"].split(","), max_reconnect_attempts=-1, reconnect_time_wait=0.1,
            connect_timeout=2, error_cb=_quiet, **sign_in_by(os.environ),
        )  # fmt: skip
        inbox = client.new_inbox()
        await client.subscribe(inbox, cb=self._on_message)
        await asyncio.gather(self._pull(client, inbox), self._keep_and_answer(client))

    async def _on_message(self, message: Any) -> None:
        if message.reply.startswith("$JS.ACK."):
            self._arrived.append((message, datetime.now(UTC)))
            self._wake.set()
            self._left -= 1
            if self._left <= 0:
                self._round_over.set()
        else:  # a status: no such consumer yet, nothing there, or the request has expired
            self._round_over.set()

    async def _pull(self, client: Any, inbox: str) -> None:
        while True:
            self._round_over.clear()
            self._left = BATCH
            with contextlib.suppress(NatsError, TimeoutError):
                await client.publish(self._subject, REQUEST, reply=inbox)
                async with asyncio.timeout(ROUND_S):
                    await self._round_over.wait()
                continue
            await asyncio.sleep(RETRY_S)

    async def _keep_and_answer(self, client: Any) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            arrived, self._arrived = self._arrived, []
            os.write(self._evidence, b"".join(line_of(message, at) for message, at in arrived))
            os.fsync(self._evidence)
            for message, _ in arrived:
                if self._work_s:
                    task = asyncio.create_task(self._work_and_answer(client, message))
                    self._working.add(task)
                    task.add_done_callback(self._working.discard)
                else:
                    await self._give_answer(client, message)

    async def _work_and_answer(self, client: Any, message: Any) -> None:
        await asyncio.sleep(self._work_s)
        await self._give_answer(client, message)

    async def _give_answer(self, client: Any, message: Any) -> None:
        if self._answer is not None:
            with contextlib.suppress(NatsError):
                await client.publish(message.reply, self._answer)


def sign_in_by(env: Mapping[str, str]) -> dict[str, Any]:
    """Options of nats-py by the variables of the NATS tool: NATS_CREDS; NATS_CA with NATS_CERT and NATS_KEY."""
    options: dict[str, Any] = {}
    if creds := env.get("NATS_CREDS"):
        options["user_credentials"] = creds
    if ca := env.get("NATS_CA"):
        options["tls"] = ssl.create_default_context(cafile=ca)
        options["tls"].load_cert_chain(env["NATS_CERT"], env["NATS_KEY"])
    return options


def line_of(message: Any, at: datetime) -> bytes:
    """The message as one line of evidence."""
    headers = message.headers or {}
    line = {
        "id": headers.get("Schedd-Execution-Id", ""),
        "seq": message.metadata.sequence.stream,
        "delivered": message.metadata.num_delivered,
        "at": at.isoformat(),
        "nominal_at": headers.get("Schedd-Nominal-At", ""),
        "headers": headers,
        "body": message.data.decode("utf-8", "replace"),
    }
    return json.dumps(line).encode() + b"\n"


async def _quiet(problem: Exception) -> None:
    return


async def main(queue: str, place: str, how: str = "ack") -> None:
    evidence = os.open(place, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    while True:
        try:
            await PlainWorker(queue, evidence, how).run()
        except (NatsError, OSError, TimeoutError):
            await asyncio.sleep(RETRY_S)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
