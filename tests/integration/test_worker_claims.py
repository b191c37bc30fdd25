"""Claim and end of an attempt against the stream itself: lost answers, races, and the fence on one server and three."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from scheduler.core.errors import Unavailable, Unsure
from scheduler.jetstream.provisioning import ensure_queue, provision
from scheduler.jetstream.requests import Ack, Message, Requests
from scheduler.system.clock import SystemClock
from scheduler.wire.ids import execution_id
from scheduler.wire.names import Names
from scheduler.wire.reports import Finished, Outcome
from scheduler.worker import claiming
from scheduler.worker.claiming import claim, look_up
from scheduler.worker.link import Binding, Link
from scheduler.worker.reporting import report_finished
from scheduler.worker.task import Task
from tests.nats_servers import Cluster, connected

NAMES = Names()
RACES = 60


class LostAnswers(Requests):
    """Publishes, and then does not hear the answer, so many times; or does not even get it out."""

    def __init__(self, requests: Requests, *, lost: int = 0, unsent: int = 0) -> None:
        super().__init__(requests.client)
        self._real, self._lost, self._unsent = requests, lost, unsent

    async def publish(self, message: Message, timeout_s: float | None = None) -> Ack:
        if self._unsent:
            self._unsent -= 1
            raise Unsure("no answer")
        ack = await self._real.publish(message, timeout_s)
        if self._lost:
            self._lost -= 1
            raise Unsure("no answer")
        return ack

    async def stored(self, stream: str, query: dict[str, Any]) -> Any:
        return await self._real.stored(stream, query)


@pytest.fixture
async def provisioned(requests: Requests) -> Requests:
    """One server with the daemon's streams."""
    await provision(requests, NAMES)
    return requests


def link_of(requests: Requests, worker_id: str) -> Link:
    return Link(requests.client, requests, NAMES, SystemClock(), worker_id)


def task_of(number: int) -> Task:
    at = datetime.fromtimestamp(number, UTC)
    return Task(
        execution_id=execution_id("a.b", at), schedule_id="a.b", queue="Q", type="t", kind="auto", nominal_at=at,
        fire_at=at,
    )  # fmt: skip


def ended(outcome: Outcome = Outcome.SUCCEEDED) -> Finished:
    return Finished(outcome=outcome)


@pytest.mark.parametrize(("lost", "unsent"), [(1, 0), (3, 0), (0, 1), (0, 3)])
async def test_a_claim_without_an_answer_is_read_back(provisioned: Requests, lost: int, unsent: int) -> None:
    """Whether it landed or not, the claim comes to one `started` of ours, and others see it as taken."""
    flaky = link_of(LostAnswers(provisioned, lost=lost, unsent=unsent), "w1")
    assert await claim(flaky, task_of(1), 1, within_s=10) is True
    assert await claim(link_of(provisioned, "w2"), task_of(1), 1, within_s=10) is False
    past = await look_up(flaky, task_of(1))
    assert past is not None
    assert (past.attempt, past.worker) == (1, "w1")


async def test_a_claim_without_an_answer_may_be_another_ones(provisioned: Requests) -> None:
    """Our claim never got out and another took the attempt: it is not ours."""
    assert await claim(link_of(provisioned, "w2"), task_of(1), 1, within_s=10) is True
    flaky = link_of(LostAnswers(provisioned, unsent=1), "w1")
    assert await claim(flaky, task_of(1), 1, within_s=10) is False


async def test_a_claim_nobody_answers_is_given_up(provisioned: Requests) -> None:
    """After `within_s` without an answer the delivery is left alone: Unavailable."""
    flaky = link_of(LostAnswers(provisioned, unsent=1000), "w1")
    with pytest.raises(Unavailable):
        await claim(flaky, task_of(1), 1, within_s=0.5)


@pytest.mark.parametrize("lost", [0, 1])
async def test_its_own_earlier_claim_is_not_this_one(provisioned: Requests, lost: int) -> None:
    """A task delivered again to the worker that has done it, as if for the first time (the server was killed): the
    attempt is taken, whether or not the second claim has an answer."""
    assert await claim(link_of(provisioned, "w1"), task_of(1), 1, within_s=10) is True
    assert await claim(link_of(LostAnswers(provisioned, lost=lost), "w1"), task_of(1), 1, within_s=10) is False


async def test_one_of_many_wins(provisioned: Requests) -> None:
    """Twenty workers claim one attempt at once: one wins."""
    claims = [claim(link_of(provisioned, f"w{number}"), task_of(1), 1, within_s=10) for number in range(20)]
    assert sorted(await asyncio.gather(*claims)) == [False] * 19 + [True]


async def test_an_end_without_an_answer_is_filed_once(provisioned: Requests) -> None:
    """A repeated `finished` leaves one message; a final one after a `retry` is another."""
    link = link_of(provisioned, "w1")
    flaky = link_of(LostAnswers(provisioned, lost=2), "w1")
    assert await claim(link, task_of(1), 1, within_s=10)
    before = await _last_seq(provisioned)
    assert await report_finished(flaky, task_of(1), 1, ended(Outcome.RETRY))
    assert await _last_seq(provisioned) == before + 1
    assert await report_finished(link, task_of(1), 1, ended())
    assert await _last_seq(provisioned) == before + 2


async def test_an_end_after_the_next_start_is_refused(provisioned: Requests) -> None:
    """The fence: attempt 2 has started, attempt 1 cannot end any more; attempt 2 can."""
    link = link_of(provisioned, "w1")
    assert await claim(link, task_of(1), 1, within_s=10)
    assert await claim(link, task_of(1), 2, within_s=10)
    assert await report_finished(link, task_of(1), 1, ended()) is False
    assert await report_finished(link, task_of(1), 2, ended()) is True


@pytest.mark.parametrize("outcome", list(Outcome))
async def test_an_end_that_comes_between_look_and_claim(
    provisioned: Requests, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempt 1 is silent, and ends just before attempt 2 is claimed: a final end is kept and 2 is not run; after a
    retry it runs."""
    await ensure_queue(provisioned, NAMES, "Q", ack_wait_s=5)
    stalled, next_one, task = link_of(provisioned, "w1"), link_of(provisioned, "w2"), task_of(1)
    assert await claim(stalled, task, 1, within_s=10)

    async def claim_late(link: Link, task: Task, attempt: int, *, within_s: float) -> bool:
        assert await report_finished(stalled, task, 1, ended(outcome))
        return await claim(link, task, attempt, within_s=within_s)

    monkeypatch.setattr(claiming, "claim", claim_late)
    await asyncio.sleep(0.1)
    binding = Binding("Q", 0.05, 20, next_one.clock.now())
    found = await claiming.settle(next_one, task, binding, deliveries=2, max_tries=3)
    assert isinstance(found, claiming.Claimed)
    assert found.attempt == 2
    if outcome is Outcome.RETRY:
        assert found.finished is None
    else:
        assert found.finished is not None
        assert found.finished.outcome is outcome
        assert str(found.finished.note).startswith("not run:")


async def test_a_report_too_large_for_the_server_is_shortened(provisioned: Requests) -> None:
    """A body above the server's limit is filed without what made it large, rather than never."""
    link = link_of(provisioned, "w1")
    assert await claim(link, task_of(1), 1, within_s=10)
    huge = Finished(outcome=Outcome.FAILED, note="x" * (provisioned.client.max_payload + 1))
    assert await report_finished(link, task_of(1), 1, huge)
    past = await look_up(link, task_of(1))
    assert past is not None
    assert past.finished is not None
    assert "shortened" in (past.finished.note or "")


async def _race(requests: Requests) -> None:
    """An end and the next start at the same moment, many times: never is an end stored behind the start."""
    one, other = link_of(requests, "w1"), link_of(requests, "w2")
    for number in range(RACES):
        task = task_of(number)
        assert await claim(one, task, 1, within_s=10)
        started, finished = await asyncio.gather(
            claim(other, task, 2, within_s=10), report_finished(one, task, 1, ended())
        )
        assert started
        if finished:
            subjects = [NAMES.report("Q", task.execution_id, 1, "finished")]
            subjects.append(NAMES.report("Q", task.execution_id, 2, "started"))
            end, start = [await requests.stored(NAMES.reports, {"last_by_subj": each}) for each in subjects]
            assert end is not None
            assert start is not None
            assert end.seq < start.seq


async def test_an_end_never_passes_the_next_start(provisioned: Requests) -> None:
    """On one server."""
    await _race(provisioned)


@pytest.mark.cluster
async def test_an_end_never_passes_the_next_start_in_flight(cluster: Cluster) -> None:
    """On three servers, where the start is still being replicated: a wildcard in the expectation would let it pass."""
    async with connected(cluster.urls, timeout_s=5.0) as requests:
        await provision(requests, NAMES, replicas=3)
        await _race(requests)


async def _last_seq(requests: Requests) -> int:
    info = await requests.api(f"STREAM.INFO.{NAMES.reports}")
    return int(info["state"]["last_seq"])
