"""Counting nominal times, however many: generators that pause every `STEPS`, for the event loop's sake."""

from __future__ import annotations

from collections.abc import Generator
from datetime import datetime
from typing import TypeVar

from scheduler.core.triggers import CompiledTrigger
from scheduler.core.triggers.interval import Interval

T = TypeVar("T")
Counting = Generator[None, None, T]
"""Pauses now and then, and returns a T."""

STEPS = 2000  # nominal times between two pauses


def counted(trigger: CompiledTrigger, first: datetime, last: datetime) -> Counting[int]:
    """How many nominal times there are from `first` to `last`, two of them. A plain interval costs nothing."""
    if isinstance(trigger, Interval):
        return (last - first) // trigger.interval + 1
    count, nominal = 1, trigger.next_after(first)
    while nominal is not None and nominal <= last:
        count, nominal = count + 1, trigger.next_after(nominal)
        if count % STEPS == 0:
            yield
    return count


def drained(counting: Counting[T]) -> T:
    """What a counting generator returns, without any pause."""
    while True:
        try:
            next(counting)
        except StopIteration as end:
            result: T = end.value
            return result
