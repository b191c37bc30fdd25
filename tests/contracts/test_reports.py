"""The reports of workers: pulled by any replica, looked up by execution, garbage kept apart."""

from __future__ import annotations

import pytest

from scheduler.ports.queues import Poison, ReportMessage
from tests.contracts.stages import Stage, collected, nothing_more

TAIL = "20261121T080000000Z"
STARTED = b'{"worker":"w1","at":"2026-11-21T08:00:00.500Z"}'
FINISHED = b'{"outcome":"succeeded","result":{"n":1}}'


async def put(stage: Stage, execution_id: str, attempt: int, kind: str, body: bytes, queue: str = "Q") -> None:
    await stage.put(stage.names.report(queue, execution_id, attempt, kind), body)


async def test_pull(stage: Stage) -> None:
    """A report comes with what its subject says, its body unread, and the server's time of it."""
    await put(stage, f"a.b.{TAIL}", 2, "started", STARTED)
    await put(stage, f"a.b.{TAIL}", 2, "progress", b'{"fraction":0.5}')
    await put(stage, f"a.b.{TAIL}-mnonce", 11, "finished", FINISHED, queue="q-2_x")
    found = await collected(stage, stage.reports.pull, 3)
    assert [(each.queue, each.execution_id, each.attempt, each.kind) for each in found if not _bad(each)] == [
        ("Q", f"a.b.{TAIL}", 2, "started"),
        ("Q", f"a.b.{TAIL}", 2, "progress"),
        ("q-2_x", f"a.b.{TAIL}-mnonce", 11, "finished"),
    ]
    first = found[0]
    assert isinstance(first, ReportMessage)
    assert first.body == STARTED
    assert abs((stage.now() - first.at).total_seconds()) < 5
    assert first.at.microsecond % 1000 == 0
    assert [each.seq for each in found if not _bad(each)] == [1, 2, 3]


def _bad(each: ReportMessage | Poison) -> bool:
    return isinstance(each, Poison)


async def lags_by(stage: Stage, count: int) -> None:
    """The server counts what it has stored, and what was acknowledged, a moment later."""
    for _ in range(100):
        if await stage.reports.lag() == count:
            break
        await stage.sleep(0.05)
    assert await stage.reports.lag() == count


async def test_ack_and_lag(stage: Stage) -> None:
    """The lag counts what nobody has acknowledged; what is acknowledged does not come again."""
    for attempt in (1, 2, 3):
        await put(stage, f"x.{TAIL}", attempt, "started", STARTED)
    await lags_by(stage, 3)
    found = await collected(stage, stage.reports.pull, 3)
    assert await stage.reports.lag() == 3
    await stage.reports.ack([each.ack for each in found])
    await lags_by(stage, 0)
    assert await nothing_more(stage, stage.reports.pull, 0.3)


@pytest.mark.parametrize(
    ("rest", "body"),
    [
        (f"Q.x.{TAIL}.1.started", b"\xff"),
        (f"Q.x.{TAIL}.1.started", b""),
        (f"Q.x.{TAIL}.1.started", b"[]"),
        (f"Q.x.{TAIL}.1.finished", b'{"outcome":"splendid"}'),
        (f"Q.x.{TAIL}.1.progress", b'{"fraction":"half"}'),
        (f"Q.x.{TAIL}.one.started", STARTED),
        (f"Q.x.{TAIL}.1.ended", STARTED),
        ("Q.started", STARTED),
    ],
)
async def test_poison(stage: Stage, rest: str, body: bytes) -> None:
    """A report that cannot be read comes out as poison, and what follows comes all the same."""
    subject = f"{stage.names.namespace}.report.{rest}"
    await stage.put(subject, body)
    await put(stage, f"y.{TAIL}", 1, "started", STARTED)
    poison, good = await collected(stage, stage.reports.pull, 2)
    assert isinstance(poison, Poison)
    assert poison.subject == subject
    assert poison.problem
    assert isinstance(good, ReportMessage)
    await stage.reports.ack([poison.ack, good.ack])
    await stage.sleep(0.1)
    assert await stage.reports.lag() == 0


async def test_last_started(stage: Stage) -> None:
    """The newest claim of each execution is found, `a` and `a.b` and the queues apart; its body need not make sense."""
    await put(stage, f"a.{TAIL}", 1, "started", STARTED)
    await put(stage, f"a.b.{TAIL}", 1, "started", STARTED)
    await put(stage, f"a.{TAIL}", 2, "started", b"garbage")
    await put(stage, f"a.{TAIL}", 2, "finished", FINISHED)
    keys = [("Q", f"a.{TAIL}"), ("Q", f"a.b.{TAIL}"), ("Q", f"b.{TAIL}"), ("OTHER", f"a.{TAIL}")]
    found = await stage.reports.last_started(keys)
    assert [each and (each.execution_id, each.attempt, each.seq) for each in found] == [
        (f"a.{TAIL}", 2, 3),
        (f"a.b.{TAIL}", 1, 2),
        None,
        None,
    ]
    assert await stage.reports.last_started([]) == []


async def test_all_of(stage: Stage) -> None:
    """Newest start and newest end of an execution come in the order of the stream."""
    execution_id = f"a.{TAIL}"
    assert await stage.reports.all_of("Q", execution_id) == []
    await put(stage, execution_id, 1, "started", STARTED)
    await put(stage, execution_id, 1, "finished", b'{"outcome":"retry"}')
    assert [(each.attempt, each.kind) for each in await stage.reports.all_of("Q", execution_id)] == [
        (1, "started"),
        (1, "finished"),
    ]
    await put(stage, execution_id, 2, "started", STARTED)
    assert [(each.attempt, each.kind) for each in await stage.reports.all_of("Q", execution_id)] == [
        (1, "finished"),
        (2, "started"),
    ]


async def test_pulled_reports_are_found_too(stage: Stage) -> None:
    """Looking an execution up does not depend on what was pulled or acknowledged."""
    await put(stage, f"x.{TAIL}", 1, "started", STARTED)
    (report,) = await collected(stage, stage.reports.pull, 1)
    await stage.reports.ack([report.ack])
    (found,) = await stage.reports.last_started([("Q", f"x.{TAIL}")])
    assert found is not None
    assert found.body == STARTED
