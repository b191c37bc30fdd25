"""Does a worker in another language do what schedd relies on? Runs it against a schedd of its own and checks records.

    python -m scheduler.testing.conformance -- node worker.mjs
    python -m scheduler.testing.conformance --claims -- node claiming-worker.mjs

The command gets NATS_URL and SCHEDD_QUEUE in its environment and is given tasks of type `conformance`, each with a
payload that says what to do (PROTOCOL.md tells all of them). Without `--claims` it needs to know nothing but pull and
acknowledge; with it, the claim of attempts and the reports of their ends are checked. Exit code 0 if everything held,
1 with one line for each thing that did not, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import Struct

from scheduler.client import Client
from scheduler.core.errors import NotFound, ScheddError
from scheduler.system.clock import SystemClock
from scheduler.testing.local import LocalSchedd
from scheduler.wire.ids import execution_id
from scheduler.wire.instants import cut, format_instant
from scheduler.wire.record import Record

QUEUE = "conformance"
ACK_WAIT_S = 2
STDERR = 2  # what the worker says is for people
WAIT_S = 25.0
OVER = frozenset({"succeeded", "failed", "cancelled", "timed_out", "lost"})
SETTINGS = {"SCHEDD_ACK_WAIT": f"{ACK_WAIT_S}s", "SCHEDD_RECONCILE_EVERY": "1s", "SCHEDD_RECONCILE_GRACE": "1s"}


class Case(Struct, frozen=True):
    """A task, and what its record has to say in the end. `kills`: the worker dies with the task in its hands."""

    name: str
    payload: Mapping[str, Any] | None
    holds: Callable[[Record], bool]
    must: str
    kills: bool = False
    more: Mapping[str, Any] = {}


PLAIN: Sequence[Case] = (
    Case("ack", {"do": "ack"}, lambda it: it.state == "succeeded", "succeeded"),
    Case("no-payload", None, lambda it: it.state == "succeeded", "succeeded, with an empty body"),
    Case(
        "nak",
        {"do": "nak once"},
        lambda it: it.state == "succeeded" and it.attempt == 2,
        "succeeded in attempt 2: a NAK is one attempt",
    ),
    Case("term", {"do": "term"}, lambda it: it.state == "failed", "failed: TERM is final"),
    Case(
        "slow",
        {"do": "slow", "seconds": 2 * ACK_WAIT_S},
        lambda it: it.state == "succeeded" and it.attempt == 1,
        "succeeded in attempt 1: in-progress keeps a slow task",
    ),
    Case(
        "killed",
        {"do": "slow", "seconds": 2 * ACK_WAIT_S},
        lambda it: it.state == "succeeded",
        "succeeded though its worker was killed: the task is delivered again",
        kills=True,
    ),
)
CLAIMING: Sequence[Case] = (
    Case(
        "return",
        {"do": "return", "value": {"n": 1}},
        lambda it: it.state == "succeeded" and it.attempt == 1 and bool(it.worker) and _json(it.result) == {"n": 1},
        "succeeded in attempt 1, its worker and its result on record",
    ),
    Case(
        "fail-once",
        {"do": "fail once", "value": 2},
        lambda it: it.state == "succeeded" and it.attempt == 2 and _json(it.result) == 2,
        "succeeded in attempt 2",
    ),
    Case(
        "fail",
        {"do": "fail"},
        lambda it: it.state == "failed" and it.attempt == 3 and it.error is not None,
        "failed after max_tries attempts, with its error",
    ),
    Case(
        "at-most-once",
        {"do": "fail"},
        lambda it: it.state == "failed" and it.attempt == 1,
        "failed after one attempt: Schedd-Max-Tries is 1",
        more={"max_tries": 1},
    ),
)


class Findings(Struct):
    """What came of each case: None where it held, else what was found instead."""

    cases: dict[str, str | None]

    @property
    def held(self) -> bool:
        return not any(self.cases.values())

    def __str__(self) -> str:
        return "\n".join(f"{name}: {'ok' if told is None else told}" for name, told in self.cases.items())


async def conform(command: Sequence[str], *, claims: bool, workers: int = 1) -> Findings:
    """Run the cases; several workers share the queue. Raises ScheddError if schedd itself cannot be started."""
    cases = CLAIMING if claims else PLAIN
    async with LocalSchedd(env=SETTINGS) as local, Client.connect(local.nats_url) as client:
        env = {**os.environ, "NATS_URL": local.nats_url, "SCHEDD_QUEUE": QUEUE}
        crew = [await _start(command, env) for _ in range(workers)]
        try:
            found: dict[str, str | None] = {}
            quiet = [case for case in cases if not case.kills]
            ids = {case.name: await _put(client, case) for case in quiet}
            for case in quiet:
                found[case.name] = await _judge(client, case, ids[case.name])
            for case in (case for case in cases if case.kills):
                running = await _put(client, case)
                await _delivered(client, running)
                await _end(crew)
                crew = [await _start(command, env) for _ in range(workers)]
                found[case.name] = await _judge(client, case, running)
            return Findings(found)
        finally:
            await _end(crew)


async def _start(command: Sequence[str], env: Mapping[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command, env=dict(env), stdout=STDERR, stdin=asyncio.subprocess.DEVNULL
    )


async def _end(crew: Sequence[asyncio.subprocess.Process]) -> None:
    for process in crew:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await asyncio.gather(*(process.wait() for process in crew))


async def _put(client: Client, case: Case) -> str:
    """A one-shot, due in a moment; its execution id."""
    due = cut(SystemClock().now() + timedelta(milliseconds=500))
    definition = {"at": format_instant(due), "queue": QUEUE, "type": "conformance", "backoff": {"initial": "200ms"}}
    if case.payload is not None:
        definition["payload"] = dict(case.payload)
    await client.schedules.put(case.name, {**definition, **case.more})
    return execution_id(case.name, due)


async def _delivered(client: Client, task: str) -> None:
    """A plain worker does not tell; it has it soon after it was queued."""
    await _until(client, task, lambda it: it.queued_at is not None)
    await asyncio.sleep(ACK_WAIT_S / 2)


async def _judge(client: Client, case: Case, task: str) -> str | None:
    record = await _until(client, task, lambda it: it.state in OVER)
    if record is None:
        return f"there is no record: schedd did not fire (expected: {case.must})"
    if case.holds(record):
        return None
    reason = f", {record.reason}" if record.reason else ""
    return f"{record.state}{reason} in attempt {record.attempt}; it must have {case.must}"


async def _until(client: Client, task: str, holds: Callable[[Record], bool]) -> Record | None:
    """The record once it holds, or as it is when patience ends."""
    record: Record | None = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WAIT_S):
            while record is None or not holds(record):
                await asyncio.sleep(0.1)
                with contextlib.suppress(NotFound):
                    record = await client.executions.get(task)
    return record


def _json(value: Any) -> Any:
    return msgspec.json.decode(bytes(value)) if bytes(value) else None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scheduler.testing.conformance", description=__doc__.split("\n")[0])
    parser.add_argument("--claims", action="store_true", help="the worker claims attempts and reports their ends")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="how many of it share the queue")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="what starts the worker, behind --")
    given = parser.parse_args(arguments)
    if not 1 <= given.workers <= 16:
        parser.error("--workers: use 1 to 16")
    try:
        findings = asyncio.run(conform(given.command, claims=given.claims, workers=given.workers))
    except FileNotFoundError:
        parser.error(f"there is no command {given.command[0]!r}")
    except ScheddError as problem:
        print(f"conformance: {problem.message}", file=sys.stderr)  # noqa: T201 - a command of its own
        return problem.exit_code
    print(findings)  # noqa: T201
    return 0 if findings.held else 1


if __name__ == "__main__":
    sys.exit(main())
