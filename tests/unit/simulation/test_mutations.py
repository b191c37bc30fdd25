"""Without a mechanism the simulation finds what it is for; else it would prove nothing (issue 6).

Each is switched off on the twin's side: the server then takes what it should refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest import mock

import pytest
from msgspec import structs

from scheduler.memory.messages import Write
from scheduler.memory.server import MemoryServer
from scheduler.memory.timeline import MemoryTimeline
from scheduler.ports.timeline import Office
from scheduler.wire.timeline import encode_epoch
from tests.unit.simulation.playing import play

SEEDS_MAX = 200
Mutation = Callable[[Write], Write]


def _written(mutate: Mutation) -> AbstractContextManager[Any]:
    """Every message of every batch, changed before it gets to the server."""
    write = MemoryServer.write

    def changed(self: MemoryServer, stream: Any, batch: Sequence[Write]) -> int:
        return write(self, stream, [mutate(each) for each in batch])

    return mock.patch.object(MemoryServer, "write", changed)


def _without_expectation(word: str) -> Mutation:
    def mutate(each: Write) -> Write:
        return structs.replace(each, expect=None) if f".{word}" in each.subject else each

    return mutate


def _without_epoch(each: Write) -> Write:
    return structs.replace(each, expect=None) if (each.expect_on or "").endswith(".epoch") else each


_take_office = MemoryTimeline.take_office


async def _epoch_alone(self: MemoryTimeline, **asked: Any) -> Office:
    """The watermark is not written anew, by which the batches of an ex-leader would fail as well."""
    if asked["expect_watermark"] == 0:
        return await _take_office(self, **asked)
    body = encode_epoch(holder=asked["holder"], lease_rev=asked["lease_rev"], at=asked["at"])
    epoch = self._write([Write(self._names.epoch, body, expect=asked["expect_epoch"], rollup=True)])
    return Office(epoch=epoch, watermark_seq=asked["expect_watermark"], watermark=asked["watermark"])


def no_fence() -> Iterator[AbstractContextManager[Any]]:
    yield _written(_without_epoch)
    yield mock.patch.object(MemoryTimeline, "take_office", _epoch_alone)


def no_claim() -> Iterator[AbstractContextManager[Any]]:
    yield _written(_without_expectation("claim."))


def no_watermark() -> Iterator[AbstractContextManager[Any]]:
    yield _written(_without_expectation("watermark"))


Mutated = Callable[[], Iterator[AbstractContextManager[Any]]]


def _first_violations(mutation: Mutated) -> list[str]:
    """All of the first history that has any."""
    for seed in range(SEEDS_MAX):
        with ExitStack() as stack:
            for each in mutation():
                stack.enter_context(each)
            _, found = play(seed, traps=True)
        if found:
            return found
    return []


@pytest.mark.parametrize(
    ("mutation", "symptom"),
    [(no_fence, "is of epoch"), (no_claim, "was queued 2 times"), (no_watermark, "the watermark moved back")],
)
def test_a_missing_mechanism_is_found(mutation: Mutated, symptom: str) -> None:
    """Within 200 seeds, and by the very symptom that the mechanism is there to prevent."""
    assert symptom in "\n".join(_first_violations(mutation))
