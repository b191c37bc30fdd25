"""One verb for many executions: its pace, its patience, and what it says in the end."""

from __future__ import annotations

import asyncio
import time

import pytest
import typer

from cli.choosing import Chosen, Filter, check_choice
from cli.many import Verb, Way, _carry_out
from cli.output import Format
from scheduler.core.errors import Conflict, InvalidArgument, ScheddError, Unavailable

WAY = Way(dry_run=False, yes=True, rate=1000.0, shown=Format())


def chosen(count: int) -> list[Chosen]:
    return [Chosen(f"a.{number}", "failed") for number in range(count)]


def verb(*problems: ScheddError | None) -> tuple[Verb, list[str]]:
    """Fails in this order, then works."""
    left, met = list(problems), list[str]()

    async def act(each: Chosen) -> bytes:
        met.append(each.id)
        problem = left.pop(0) if left else None
        if problem is not None:
            raise problem
        return b"{}"

    return Verb("retry", "retried", act), met


async def test_it_goes_on_through_single_failures(capsys: pytest.CaptureFixture[str]) -> None:
    """Each is tried once; those that failed are told at the end, and the exit code says so."""
    doing, met = verb(None, Conflict("it runs"), Unavailable("electing"), None, Unavailable("electing"))
    with pytest.raises(typer.Exit) as ended:
        await _carry_out(doing, chosen(6), WAY)
    told = capsys.readouterr()
    assert (ended.value.exit_code, met) == (1, [f"a.{number}" for number in range(6)])
    assert told.out == "3 executions retried.\n"
    assert told.err == "not retried: a.1: it runs\nnot retried: a.2: electing\nnot retried: a.4: electing\n"


async def test_nobody_answers_any_more(capsys: pytest.CaptureFixture[str]) -> None:
    """Three in a row that nobody carried out: the rest is not tried, and told."""
    doing, met = verb(None, *[Unavailable("electing")] * 9)
    with pytest.raises(typer.Exit):
        await _carry_out(doing, chosen(9), WAY)
    told = capsys.readouterr()
    assert len(met) == 4
    assert told.out == "1 execution retried.\n"
    assert told.err.endswith("5 executions not tried: no daemon answers any more.\n")


async def test_no_faster_than_its_rate() -> None:
    """Twenty a second: five take a fifth of a second, however fast the daemon is."""
    doing, _ = verb()
    before = time.monotonic()
    await _carry_out(doing, chosen(5), Way(dry_run=False, yes=True, rate=20.0, shown=Format()))
    assert time.monotonic() - before >= 0.19
    await asyncio.sleep(0)


@pytest.mark.parametrize(("ids", "wanted"), [([], Filter()), (["a"], Filter(state="failed"))])
def test_ids_or_a_filter(ids: list[str], wanted: Filter) -> None:
    """Neither is nothing to go by, both are two answers to one question."""
    with pytest.raises(InvalidArgument):
        check_choice(ids, wanted, "--state failed")


def test_nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only who names a filter has to say yes; ids, a dry run and --yes are words enough."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(InvalidArgument, match="--yes"):
        Way(dry_run=False, yes=False, rate=1.0, shown=Format()).check([])
    Way(dry_run=False, yes=False, rate=1.0, shown=Format()).check(["a"])
    Way(dry_run=True, yes=False, rate=1.0, shown=Format()).check([])
