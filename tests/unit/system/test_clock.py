"""The real clock: server time, whatever happens to the wall clock of this machine."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from scheduler.ports.clock import Clock
from scheduler.system.clock import SystemClock, read_boottime_s

START = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)


class Machine:
    """Two readings that a test sets."""

    def __init__(self) -> None:
        self.wall_s = START.timestamp()
        self.boot_s = 1000.0

    def pass_time(self, seconds: float) -> None:
        self.wall_s += seconds
        self.boot_s += seconds


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def clock(machine: Machine) -> SystemClock:
    made: SystemClock = SystemClock(wall_s=lambda: machine.wall_s, boottime_s=lambda: machine.boot_s)
    as_port: Clock = made
    assert as_port is made
    return made


def answer(clock: SystemClock, machine: Machine, server_at: datetime) -> None:
    """The server tells its time in a round trip of 2 ms that ends now."""
    clock.observe_server(server_at, machine.boot_s - 0.002, machine.boot_s)


def test_the_wall_clock_until_a_server_has_answered(clock: SystemClock) -> None:
    """Before the first answer `now` is the wall clock and the offset is 0.0."""
    assert clock.now() == START
    assert clock.offset_s() == 0.0


def test_server_time_afterwards(clock: SystemClock, machine: Machine) -> None:
    """Server time is own time plus the offset, and it runs on with the boot clock."""
    answer(clock, machine, START + timedelta(seconds=42))
    assert clock.offset_s() == pytest.approx(42, abs=0.003)
    machine.pass_time(10)
    assert abs(clock.now() - (START + timedelta(seconds=52))) <= timedelta(milliseconds=3)


def test_setting_the_wall_clock_shifts_only_the_offset(clock: SystemClock, machine: Machine) -> None:
    """An hour's jump of the wall clock shows as skew and moves no decision."""
    answer(clock, machine, START)
    before = clock.now()
    machine.wall_s += 3600
    assert clock.now() == before
    assert clock.offset_s() == pytest.approx(-3600, abs=0.003)


def test_small_corrections_never_turn_time_back(clock: SystemClock, machine: Machine) -> None:
    """A finer estimate that lies 200 ms before the last `now` is waited out."""
    clock.observe_server(START, machine.boot_s - 0.5, machine.boot_s)
    before = clock.now()
    answer(clock, machine, START)
    machine.boot_s += 0.001
    assert clock.now() >= before


def test_a_large_correction_is_applied_at_once(clock: SystemClock, machine: Machine) -> None:
    """A machine that runs ten minutes ahead of the server does not freeze for ten minutes."""
    clock.now()
    answer(clock, machine, START - timedelta(minutes=10))
    assert clock.now() < START - timedelta(minutes=9)


def test_now_is_aware_utc_cut_to_milliseconds() -> None:
    """Every instant of the program has this shape."""
    now = SystemClock().now()
    assert now.tzinfo is UTC
    assert now.microsecond % 1000 == 0
    assert abs(now.timestamp() - time.time()) < 5


def test_boottime_never_runs_backwards() -> None:
    """Two readings in a row."""
    first = read_boottime_s()
    assert read_boottime_s() >= first
