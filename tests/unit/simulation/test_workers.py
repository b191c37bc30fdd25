"""The simulated workers do what real ones do: else histories find what nobody can meet, or miss what somebody does."""

from __future__ import annotations

import asyncio

import pytest

from scheduler.core.model.execution import Action, Execution, Kind
from scheduler.memory.cancelling import MemoryCancels
from scheduler.memory.messages import Write
from scheduler.wire.ids import execution_id
from scheduler.wire.reports import FINISHED, Finished, Outcome, decode
from scheduler.wire.task import task_headers
from tests.unit.simulation.playing import seeded
from tests.unit.simulation.site import Site
from tests.unit.simulation.virtual_time import SimulatedClock, VirtualLoop
from tests.unit.simulation.workers import TYPE, SdkWorkers

QUEUE, SEED = "sdk", 1
BEGUN_S, ENDED_S = 0.3, 5.0  # by then a worker has taken what there is, and is through with it


@pytest.mark.parametrize(("drive", "outcome"), [(1, Outcome.CANCELLED), (0, Outcome.SUCCEEDED)])
def test_a_cancel_is_for_one_drive(drive: int, outcome: Outcome) -> None:
    """A cancel of the drive in hand ends it; one of the drive before, which came late, does not (retries, 10288)."""
    with seeded(SEED), asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        assert runner.run(_outcome(Site(SimulatedClock(loop), SEED), drive)) is outcome


async def _outcome(site: Site, drive: int) -> Outcome:
    """Of drive 1, while somebody cancels `drive`."""
    execution = Execution(
        id=execution_id("a", site.now()), schedule="a", generation=1, epoch=1, kind=Kind.AUTO, nominal_at=site.now(),
        fire_at=site.now(), queue=QUEUE, type=TYPE, max_tries=1, attempts_before=1, drive=1,
    )  # fmt: skip
    workers = SdkWorkers(site, QUEUE)
    workers.reliable = True
    workers.begin()
    headers = task_headers(execution, None, None)
    site.server.tasks.store([Write(site.names.task(QUEUE, execution.id), b"", headers=headers)])
    await asyncio.sleep(BEGUN_S)
    await MemoryCancels(site.server).send(QUEUE, execution.id, Action.CANCEL, 0.0, drive)
    await asyncio.sleep(ENDED_S)
    await workers.end()
    finished = site.server.reports.last_of(site.names.report(QUEUE, execution.id, 2, FINISHED))
    assert finished is not None
    return decode(finished.data, Finished).outcome
