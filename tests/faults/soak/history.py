"""What was seen of a soak: everything that the verdict follows from, as it is kept in `history.json`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from msgspec import Struct, field

from tests.faults.storm.figures import Term


class Plan(Struct, frozen=True, kw_only=True):
    """What was asked for. `calm`: the same load and the same clients without a fault."""

    nodes: int
    rate: int
    length_s: float
    seed: int
    calm: bool = False
    warm_s: float = 60.0
    rest_s: float = 240.0
    late_max_s: float = 60.0


class Outcome(StrEnum):
    """What a client knows of an operation. `unknown`: no answer, or one that leaves it open."""

    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Operation(Struct, frozen=True, kw_only=True):
    """One operation of a client. `fires`: of a turn, whether the schedule fires from then on. `execution`: of a trigger
    and of a cancel. `due`: of a one-shot."""

    kind: str
    schedule: str
    sent: datetime
    answered: datetime
    outcome: Outcome
    fires: bool | None = None
    execution: str | None = None
    nonce: str | None = None
    due: datetime | None = None


class Strike(Struct, frozen=True):
    """A fault, from when it began to when it was mended. `happened`: by what was seen of it from outside."""

    name: str
    began: datetime
    ended: datetime
    happened: bool


class Sample(Struct, frozen=True):
    """The levels of one process at one time, by name: `rss_mb`, `files`, `consumers`, `bytes.KV_schedd-status`, ..."""

    at: datetime
    who: str
    pid: int
    levels: Mapping[str, float]


class Rest(Struct, frozen=True):
    """The end of a rest, in which levels are taken."""

    began: datetime
    ended: datetime


class Window(Struct, frozen=True):
    """Nothing fires outside (began, ended): in that time the load is in force."""

    began: datetime
    ended: datetime


class Audited(Struct, frozen=True):
    """What `schedule.audit` said of one schedule and one part of the run."""

    schedule: str
    since: datetime
    until: datetime
    expected: int
    verdicts: Mapping[str, int]
    unexplained: int
    problem: str = ""


class Soak(Struct, kw_only=True):
    """All of a run but the deliveries, which stay in the files of the workers."""

    plan: Plan
    warm: Window
    soak: Window
    rests: list[Rest] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    strikes: list[Strike] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    records: dict[str, dict[str, object]] = field(default_factory=dict)
    audits: list[Audited] = field(default_factory=list)
    terms: list[Term] = field(default_factory=list)
    leftovers: dict[str, list[str]] = field(default_factory=dict)
    """The subjects that are left at the end, by stream, of those that are to be empty."""
    survivor_exits: list[str] = field(default_factory=list)
    """What the replica that is never killed ended with, if it ended."""
