"""Many changes at once: in order, bounded, each told, and an end when nobody answers any more."""

from __future__ import annotations

import asyncio

import pytest

from cli.bulk import FAILURES_SHOWN, carry_out, tell_failures
from scheduler.core.errors import Conflict, Internal, NotFound, ScheddError, Unavailable, Unsure


class Work:
    """Takes longer for earlier items, so that the order is not that of finishing."""

    def __init__(self, **failing: ScheddError) -> None:
        self.failing = failing
        self.running = self.most = 0
        self.started: list[str] = []
        self.ended: list[str] = []

    async def change(self, item: str) -> str:
        self.started.append(item)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            for _ in range(5 if item in {"a", "e"} else 1):
                await asyncio.sleep(0)
            if item in self.failing:
                raise self.failing[item]
        finally:
            self.running -= 1
            self.ended.append(item)
        return item.upper()


async def test_in_order_and_bounded() -> None:
    """Results come in the order of the items, however they end; at most `width` run at once."""
    work = Work()
    found = [outcome async for outcome in carry_out("abcdefgh", work.change, title="", width=3)]
    assert found == [(item, item.upper()) for item in "abcdefgh"]
    assert work.most == 3


async def test_a_failure_stops_nothing() -> None:
    """Each item gets its chance; a failure is its outcome."""
    work = Work(b=Conflict("no"))
    found = dict([outcome async for outcome in carry_out("abc", work.change, title="", width=2)])
    assert (found["a"], found["c"]) == ("A", "C")
    assert isinstance(found["b"], Conflict)


@pytest.mark.parametrize("kind", [Unavailable, Unsure])
async def test_nobody_answers_any_more(kind: type[ScheddError]) -> None:
    """What runs is waited for, the rest is not tried: each would wait as long again."""
    work = Work(b=kind("gone"))
    found = [item async for item, _ in carry_out("abcdefgh", work.change, title="", width=2)]
    assert found == ["a", "b", "c"]
    assert work.started == ["a", "b", "c"]


async def test_whoever_stops_listening_leaves_nothing_running() -> None:
    """Left early, as by Ctrl-C, nothing goes on behind the caller's back."""
    work = Work()
    outcomes = carry_out("abcdefgh", work.change, title="", width=3)
    async for _ in outcomes:
        break
    await outcomes.aclose()
    assert work.running == 0
    assert sorted(work.started) == sorted(work.ended)
    assert len(work.started) < 8


@pytest.mark.parametrize(
    ("problems", "kind", "code"),
    [
        ([NotFound("x"), NotFound("y")], NotFound, 3),
        ([Conflict("x"), NotFound("y")], Internal, 1),
        ([Conflict("x"), Unavailable("y")], Unavailable, 5),
    ],
)
def test_failures_decide_the_exit_code(
    problems: list[ScheddError], kind: type[ScheddError], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """One kind keeps its code, several are a failure, and an absent daemon outweighs both; each is told."""
    failures = [(f"s{number}", problem) for number, problem in enumerate(problems)]
    with pytest.raises(kind, match="2 of 9 schedules were not paused, 4 not tried") as caught:
        tell_failures(failures, total=9, tried=5, what="not paused")
    assert caught.value.exit_code == code
    assert capsys.readouterr().err == "s0: x\ns1: y\n"


def test_many_failures_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """The first are told, the others counted; no failure raises nothing."""
    tell_failures([], total=3, tried=3, what="not paused")
    with pytest.raises(Conflict):
        tell_failures([("s", Conflict("x\x1b[2J"))] * 100, total=100, tried=100, what="not paused")
    shown = capsys.readouterr().err
    assert shown.count("s: x") == FAILURES_SHOWN
    assert "and 80 more" in shown
    assert "\x1b" not in shown
