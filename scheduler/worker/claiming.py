"""Taking an attempt, so that one worker alone runs it (mechanisms.md, part 7).

The claim is the `started` report, published with expected last sequence 0: the stream lets one in. A claim without an
answer may have landed, and a repeat of it is then refused by our own; so every refusal is read back, and a report that
names this worker is ours. That is sound because a worker has at most one delivery of a task in hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import secrets
from datetime import datetime, timedelta

from msgspec import Struct, structs

from scheduler.core.errors import Conflict, InvalidArgument, Unavailable
from scheduler.jetstream.requests import Message, StoredMessage
from scheduler.wire import headers as h
from scheduler.wire.instants import cut, parse_instant
from scheduler.wire.reports import (
    FINISHED,
    STARTED,
    Finished,
    Outcome,
    Started,
    WorkerRow,
    decode,
    encode,
    parse_report_subject,
)
from scheduler.worker.deciding import Bury, Done, Forfeit, Past, Start, Wait, decide_delivery, last_heard
from scheduler.worker.link import Binding, Link
from scheduler.worker.task import Task

CLAIM = "Schedd-Claim"  # header of a started report: which of all tries to claim it was
REPEAT_S = 0.25
ROUNDS_MAX = 5
_SECONDS = re.compile(r"[0-9]{1,6}s?", re.ASCII)
_KEY = re.compile(r"[A-Za-z0-9_=-]+(?:\.[A-Za-z0-9_=-]+)*", re.ASCII)


class Claimed(Struct, frozen=True):
    """The attempt is ours. `finished`: do not run it, this is its end already."""

    attempt: int
    finished: Finished | None = None


async def settle(
    link: Link, task: Task, binding: Binding, *, deliveries: int, max_tries: int
) -> Claimed | Wait | Done | Bury:
    """Come to one of four ends for a delivered task. Raises Unavailable: let the delivery run out."""
    past = await look_up(link, task) if deliveries > 1 else None
    for _ in range(ROUNDS_MAX):
        heard_at, now, promised_s = await _evidence(link, task, past)
        step = decide_delivery(
            past,
            attempts_before=task.attempts_before,
            max_tries=max_tries,
            deliveries=deliveries,
            ack_wait_s=max(binding.ack_wait_s, promised_s),
            heard_at=heard_at,
            now=now,
        )
        if not isinstance(step, Start | Forfeit):
            return step
        if await claim(link, task, step.attempt, within_s=binding.ack_wait_s):
            forfeit = step.finished if isinstance(step, Forfeit) else await _late_end(link, task, past)
            return Claimed(step.attempt, forfeit)
        past = await look_up(link, task)
    return Wait(binding.ack_wait_s)


async def claim(link: Link, task: Task, attempt: int, *, within_s: float) -> bool:
    """Whether this very `started` report is the one that was let in, not one of ours from an earlier delivery: a server
    that was killed delivers again what this worker has done, as if for the first time. Raises Unavailable when nobody
    can tell in time."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + within_s
    subject = link.names.report(task.queue, task.execution_id, attempt, STARTED)
    body = encode(Started(worker=link.worker_id, at=link.clock.now()))
    nonce = secrets.token_hex(8)
    message = Message(subject, body, {h.EXPECTED_LAST_SUBJECT_SEQUENCE: "0", CLAIM: nonce})
    while True:
        try:
            await link.requests.publish(message)
            return True
        except (Conflict, Unavailable) as problem:
            if loop.time() > give_up_at:
                raise Unavailable(f"no claim of {task.execution_id} within {within_s:g} s: {problem}") from None
        with contextlib.suppress(Unavailable):
            stored = await link.requests.stored(link.names.reports, {"last_by_subj": subject})
            if stored is not None:
                return stored.headers.get(CLAIM) == nonce
        await asyncio.sleep(REPEAT_S)


async def look_up(link: Link, task: Task) -> Past | None:
    """The newest attempt of the execution, from the leader of the reports stream; None before the first."""
    pattern = link.names.reports_of(task.queue, task.execution_id, STARTED)
    started = await link.requests.stored(link.names.reports, {"last_by_subj": pattern})
    if started is None:
        return None
    attempt = parse_report_subject(link.names, started.subject).attempt
    finished = await _end_of(link, task, attempt)
    body = _worker_of(started.data)
    return Past(
        attempt=attempt,
        started_at=cut(started.at),
        worker=body.worker,
        by=body.by,
        finished=None if finished is None else _finished_of(finished),
        finished_at=None if finished is None else cut(finished.at),
    )


async def _end_of(link: Link, task: Task, attempt: int) -> StoredMessage | None:
    subject = link.names.report(task.queue, task.execution_id, attempt, FINISHED)
    return await link.requests.stored(link.names.reports, {"last_by_subj": subject})


async def _late_end(link: Link, task: Task, past: Past | None) -> Finished | None:
    """The end of the attempt before ours, if it came between our look and our claim and is final; else None.

    After our claim it cannot come any more: a `finished` expects that the next attempt has not started.
    """
    if past is None or past.finished is not None or past.attempt <= task.attempts_before:
        return None
    found = await _end_of(link, task, past.attempt)
    finished = None if found is None else _finished_of(found)
    if finished is None or not finished.is_final:
        return None
    return structs.replace(finished, note=f"not run: attempt {past.attempt} had ended after all")


async def bind(link: Link, queue: str) -> Binding:
    """The queue's consumer as it is now; its answer sets our clock as well. Raises Unavailable while there is none."""
    sent_s = link.clock.boottime_s()
    info = await link.requests.api(f"CONSUMER.INFO.{link.names.tasks}.{queue}")
    config, at = info["config"], parse_instant(info["ts"])
    link.clock.observe_server(at, sent_s, link.clock.boottime_s())
    return Binding(queue, config["ack_wait"] / 1e9, config.get("max_deliver", -1), at)


async def _evidence(link: Link, task: Task, past: Past | None) -> tuple[datetime | None, datetime, float]:
    """When an unfinished attempt was last heard of, and the server's time now; both judged by the server's clock. Last,
    for how long its worker's row says that silence means nothing: the ack wait may have been shortened since."""
    if past is None or past.finished is not None:
        return None, link.clock.now(), 0.0
    row, row_at, lives_s = await _row_of(link, past.worker)
    now = (await bind(link, task.queue)).at
    back_s = asyncio.get_running_loop().time() - link.back_at_s
    back_at = None if math.isinf(back_s) else cut(now - timedelta(seconds=back_s))
    promised_s = lives_s if row is not None and row.runs(task.execution_id, past.attempt) else 0.0
    return last_heard(past, task.execution_id, row, row_at, back_at), now, promised_s


async def _row_of(link: Link, worker: str) -> tuple[WorkerRow | None, datetime | None, float]:
    """The row of a worker, when it was written, and for how many seconds it holds (they were rounded up)."""
    bucket = link.names.workers
    if not _KEY.fullmatch(worker):
        return None, None, 0.0
    found = await link.requests.stored(f"KV_{bucket}", {"last_by_subj": f"$KV.{bucket}.{worker}"})
    if found is None or not found.data:
        return None, None, 0.0
    ttl = found.headers.get(h.TTL, "")
    try:
        return (
            decode(found.data, WorkerRow),
            cut(found.at),
            float(ttl.rstrip("s")) - 1 if _SECONDS.fullmatch(ttl) else 0.0,
        )
    except InvalidArgument:
        return None, None, 0.0


def _worker_of(body: bytes) -> Started:
    """The `started` report; a body that nobody can read is somebody else's claim all the same."""
    try:
        return decode(body, Started)
    except InvalidArgument:
        return Started(worker="_")


def _finished_of(stored: StoredMessage) -> Finished:
    """The `finished` report; one that nobody can read is final: rather not again than twice."""
    try:
        return decode(stored.data, Finished)
    except InvalidArgument as problem:
        return Finished(outcome=Outcome.FAILED, note=problem.message)
