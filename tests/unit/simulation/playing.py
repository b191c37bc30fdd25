"""A history from a seed: how it is played, what kinds there are, and how a failure is told.

`play(17)` is the history of seed 17, to the last step, in whatever process and however often.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from unittest import mock

from tests.unit.simulation.checks import violations
from tests.unit.simulation.history import History
from tests.unit.simulation.site import Site
from tests.unit.simulation.virtual_time import SimulatedClock, VirtualLoop

TOO_FAR_OFF = "cannot lead: the wall clock is more than 30 s off the server's"
"""What a replica logs whose clock was stepped, and rightly so."""
EVILS = (0.0, 0.3, 1.0, 1.0, 2.0)
KINDS: Mapping[str, Mapping[str, bool]] = {
    "plain": {},
    "retries": {"regret": True},
    "traps": {"traps": True},
    "upheavals": {"upheaval": True},
}
"""What `play` is asked for besides the seed: each kind has dice of its own for what it adds."""


class _Errors(logging.Handler):
    """What was logged as an error: a service that broke, for example."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(self.format(record))


@contextmanager
def seeded(seed: int) -> Iterator[_Errors]:
    """All that is random follows from the seed, and errors are not only logged."""
    rng, state, errors = random.Random(seed), random.getstate(), _Errors()
    log = logging.getLogger("scheduler")
    before = log.level, log.propagate
    log.setLevel(logging.ERROR)
    log.propagate = False
    log.addHandler(errors)
    random.seed(seed)
    try:
        with (
            mock.patch("secrets.token_hex", lambda count=32: rng.randbytes(count).hex()),
            mock.patch("secrets.randbelow", rng.randrange),
        ):
            yield errors
    finally:
        random.setstate(state)
        log.removeHandler(errors)
        log.level, log.propagate = before


def play(
    seed: int,
    *,
    evil: float | None = None,
    regret: bool = False,
    traps: bool = False,
    upheaval: bool = False,
) -> tuple[History, list[str]]:
    """The history of a seed, and what is wrong with it. With traps nothing else goes wrong often."""
    if evil is None:
        evil = 0.3 if traps else random.Random(seed).choice(EVILS)
    with seeded(seed) as errors, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)

        async def run() -> tuple[History, list[str]]:
            site = Site(SimulatedClock(loop), seed)
            history = History(site, evil=evil, regret=regret, traps=traps, upheaval=upheaval)
            await history.run()
            await asyncio.sleep(20)  # what was to land late has landed
            left = asyncio.all_tasks() - {asyncio.current_task()}
            return history, [f"left behind: {task}" for task in left]

        history, left = runner.run(run())
        problems = [each for each in errors.told if not (upheaval and each == TOO_FAR_OFF)]
        history.site.trouble.happened["kept from leading by its clock"] = len(errors.told) - len(problems)
        return history, [*violations(history), *left, *problems, *map(str, loop.broken)]


def told(seed: int, history: History, found: list[str], kind: str = "plain") -> str:
    """What is wrong, and how to see the whole story of it."""
    happened = dict(sorted(history.site.trouble.happened.items()))
    lines = "\n  ".join(found[:30])
    again = f"python -m tests.unit.simulation {seed} --kind {kind}"
    return f"seed {seed}: {len(found)} violations with evil {history.evil}, {happened}:\n  {lines}\n{again}"
