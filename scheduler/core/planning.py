"""Which occurrences lie in a window of nominal time. Pure and deterministic: planning twice is harmless.

Windows are half-open, (after, until], and *nominal*: with `start_delay` a nominal time that has passed may fire later
than now. Nothing is planned at or before the instant from which a definition holds, so an edit is never retroactive.
Nor is what would fire by then, though its nominal time is still to come (`previous_business_day` moves backwards).
The one exception is a one-shot (`at`) that was already past when it was put: it is late, not retroactive, and comes
out of `plan_edit` as long as it lies within the catch-up window. A pause is part of the plan: its nominals are
counted, not planned.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from scheduler.core.firing import occurrence_of
from scheduler.core.model.occurrence import Occurrence
from scheduler.core.model.schedule import At, Definition
from scheduler.core.triggers import EPOCH, CompiledTrigger


class PlanLimits(Struct, frozen=True):
    """How much one call deals with before it stops and says so; what is left comes out of the next call."""

    nominals_max: int = 10_000
    """Nominal times dealt with per call, planned or paused."""


DEFAULT_LIMITS = PlanLimits()


class Plan(Struct, frozen=True, kw_only=True):
    """What a window holds for one schedule.

    `occurrences` ascend. `paused` counts nominals that fall in a pause. `next_nominal` is the first one that was not
    dealt with (None: the trigger is exhausted). `dealt_until` is the end of what was dealt with: the window's end, or
    the last nominal that was, if a limit stopped it (`truncated`); going on from there misses and repeats nothing.
    """

    occurrences: tuple[Occurrence, ...]
    paused: int
    next_nominal: datetime | None
    dealt_until: datetime
    truncated: bool


def plan_window(
    definition: Definition,
    trigger: CompiledTrigger,
    *,
    after: datetime,
    until: datetime,
    limits: PlanLimits = DEFAULT_LIMITS,
) -> Plan:
    """The occurrences with after < nominal <= until, none at or before `definition.effective_at`."""
    planned: list[Occurrence] = []
    paused = dealt = 0
    dealt_until = after
    nominal = trigger.next_after(max(after, definition.effective_at))
    while nominal is not None and nominal <= until:
        if dealt == limits.nominals_max:
            break
        if definition.schedule.is_paused_at(nominal):
            paused += 1
        elif (occurrence := occurrence_of(definition, trigger, nominal)).fire_at > definition.effective_at:
            planned.append(occurrence)
        dealt, dealt_until = dealt + 1, nominal
        nominal = trigger.next_after(nominal)
    truncated = nominal is not None and nominal <= until
    return Plan(
        occurrences=tuple(planned),
        paused=paused,
        next_nominal=nominal,
        dealt_until=dealt_until if truncated else until,
        truncated=truncated,
    )


def plan_edit(
    definition: Definition,
    trigger: CompiledTrigger,
    *,
    until: datetime,
    previous: Definition | None = None,
    not_before: datetime = EPOCH,
    limits: PlanLimits = DEFAULT_LIMITS,
) -> Plan:
    """What an edit has to arm: everything in (effective, until], and before it the one-shots that are late.

    `not_before` is the first start of schedd: what was put earlier owes nothing for the time up to then, one-shots
    within their window excepted.

    Late are `at` instants in [effective - catch_up.window, effective] that the `previous` definition, where the
    caller knows it, did not have: those were dealt with when they were due. If the limit truncates the plan, go on
    with `plan_window` from `dealt_until`; late one-shots are never cut off (an `at` has a limited list).
    """
    late = late_one_shots(definition, trigger, previous=previous)
    paused = [nominal for nominal in late if definition.schedule.is_paused_at(nominal)]
    window = plan_window(definition, trigger, after=_earliest(definition, not_before), until=until, limits=limits)
    return Plan(
        occurrences=(
            *(occurrence_of(definition, trigger, nominal) for nominal in late if nominal not in paused),
            *window.occurrences,
        ),
        paused=len(paused) + window.paused,
        next_nominal=window.next_nominal,
        dealt_until=window.dealt_until,
        truncated=window.truncated,
    )


def late_one_shots(
    definition: Definition, trigger: CompiledTrigger, *, previous: Definition | None = None
) -> tuple[datetime, ...]:
    """The `at` instants that were already past when the definition was put, but not by more than its window."""
    rule = definition.schedule.trigger
    if not isinstance(rule, At):
        return ()
    known = frozenset(_instants(previous)) if previous is not None else frozenset()
    oldest = definition.effective_at - definition.schedule.catch_up.window
    past = (at for at in rule.instants if oldest <= at <= definition.effective_at and at not in known)
    return tuple(at for at in past if trigger.yields(at))


def owes_until(definition: Definition, trigger: CompiledTrigger, until: datetime) -> bool:
    """Whether a definition that was in force up to then owed anything at all, be it a nominal time in a pause."""
    first = trigger.next_after(definition.effective_at)
    return (first is not None and first <= until) or bool(late_one_shots(definition, trigger))


def still_yields(definition: Definition, trigger: CompiledTrigger, nominal: datetime) -> bool:
    """Whether the definition as it is now has this nominal time at all.

    For the dispatcher, which decides again at the instant, and for disarming. When the definition took effect plays
    no part here, nor does a pause: ask `definition.schedule.is_paused_at(nominal)` beside it.
    """
    return trigger.yields(nominal)


def next_nominal(definition: Definition, trigger: CompiledTrigger, after: datetime) -> datetime | None:
    """The first nominal time after `after` at which the definition is in force, paused or not."""
    return trigger.next_after(max(after, definition.effective_at))


def _earliest(definition: Definition, not_before: datetime) -> datetime:
    is_one_shot = isinstance(definition.schedule.trigger, At) and not_before > EPOCH
    return max(definition.effective_at, not_before - definition.schedule.catch_up.window if is_one_shot else not_before)


def _instants(definition: Definition) -> tuple[datetime, ...]:
    rule = definition.schedule.trigger
    return rule.instants if isinstance(rule, At) else ()
