"""Launches in few groups: whoever waits goes together, whoever asks for the same gets the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from scheduler.core.dispatching import claim
from scheduler.core.errors import Internal
from scheduler.core.model.execution import Kind
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.model.schedule import Definition
from scheduler.core.triggers import compile_trigger
from scheduler.memory.clock import START
from scheduler.services.api.grouping import GROUP_MAX, GROUPS_MAX, LaunchGroups
from scheduler.services.launch import Launcher
from scheduler.services.launch_steps import Candidate, Result
from scheduler.wire.ids import manual_execution_id
from scheduler.wire.schedule import parse_schedule


class SlowLauncher:
    """Launches when it is let go; remembers what came together."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.go = asyncio.Event()
        self.breaks = False

    async def launch(self, candidates: Sequence[Candidate]) -> list[Result]:
        self.groups.append([each.execution.id for each in candidates])
        await self.go.wait()
        if self.breaks:
            raise RuntimeError("a defect")
        return [each.execution for each in candidates]


def candidate(number: int) -> Candidate:
    schedule = parse_schedule("a", b'{"manual": true, "queue": "q", "type": "t"}')
    definition = Definition(schedule=schedule, generation=1, effective_at=START)
    name = manual_execution_id("a", START, f"n{number}")
    made = claim(definition, name, Occurrence("a", START, START, 1), epoch=0, now=START, kind=Kind.MANUAL)
    return Candidate(made, schedule, compile_trigger(schedule))


def groups_of(launcher: SlowLauncher) -> LaunchGroups:
    return LaunchGroups(cast("Launcher", cast("Any", launcher)))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_who_wait_go_together() -> None:
    """The first go at once, each by itself; all others in as few groups as hold them; each gets its own result."""
    launcher = SlowLauncher()
    groups = groups_of(launcher)
    many = [candidate(number) for number in range(GROUPS_MAX + GROUP_MAX + 10)]
    asked = [asyncio.create_task(groups.launch(each)) for each in many]
    await settle()
    assert [len(group) for group in launcher.groups] == [1] * GROUPS_MAX
    launcher.go.set()
    assert await asyncio.gather(*asked) == [each.execution for each in many]
    assert [len(group) for group in launcher.groups] == [1] * GROUPS_MAX + [GROUP_MAX, 10]


async def test_the_same_execution_is_launched_once() -> None:
    """Whoever asks for it meanwhile waits for the same result, also when somebody else who asked gives up."""
    launcher = SlowLauncher()
    groups = groups_of(launcher)
    asked = [asyncio.create_task(groups.launch(candidate(1))) for _ in range(5)]
    await settle()
    asked[0].cancel()
    await settle()
    launcher.go.set()
    assert len({each.id for each in await asyncio.gather(*asked[1:]) if not isinstance(each, Exception)}) == 1
    assert len(launcher.groups) == 1
    await groups.launch(candidate(1))
    assert len(launcher.groups) == 2, "afterwards it is asked anew"


async def test_a_defect_is_told_and_the_next_goes_on() -> None:
    """What nobody foresaw reaches those of its group as Internal, and holds up nobody else."""
    launcher = SlowLauncher()
    groups = groups_of(launcher)
    launcher.go.set()
    launcher.breaks = True
    assert isinstance(await groups.launch(candidate(1)), Internal)
    launcher.breaks = False
    assert await groups.launch(candidate(2)) == candidate(2).execution
