"""What the settings of a queue become, and what its consumer and the copy of its settings should be. Pure.

The consumer is the truth: what it says is in force, whoever wrote it. The copy (control bucket) is there so that a
consumer which somebody deletes comes back as it was. Every edit has a number, which both carry. The copy is written
first, so a consumer with a lower number has missed an edit; one with the same number and other settings, or without a
number, was changed by an operator's own tools, and that holds.
"""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from enum import Enum
from typing import TypeVar

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from scheduler.core.durations import format_duration
from scheduler.core.errors import InvalidArgument
from scheduler.core.model.queue import Pause, QueueEdit, QueueSettings

T = TypeVar("T")


class QueueChanges(Struct, frozen=True, kw_only=True):
    """What somebody wants changed: UNSET stays as it is, None goes back to the default."""

    ack_wait: timedelta | UnsetType | None = UNSET
    max_deliver: int | UnsetType | None = UNSET
    max_ack_pending: int | UnsetType | None = UNSET
    max_pending: int | UnsetType | None = UNSET
    backoff: tuple[timedelta, ...] | UnsetType | None = UNSET
    paused: bool | UnsetType = UNSET
    pause_note: str | UnsetType | None = UNSET
    paused_until: datetime | UnsetType | None = UNSET


class Found(Struct, frozen=True):
    """A consumer as it is. `edit` None: it carries no number of ours."""

    settings: QueueSettings
    edit: int | None
    made_at: datetime
    is_empty: bool


class Upkeep(Enum):
    """What has to be done about a queue."""

    NOTHING = "nothing"
    RESTORE = "restore"
    """Make the consumer, by the copy or by the defaults."""
    APPLY = "apply"
    """Bring the consumer to the edit that it missed."""
    ADOPT = "adopt"
    """Copy what the consumer says."""
    DELETE = "delete"
    """Finish a deletion that stopped half-way."""


# --- edits


def changed(current: QueueSettings, changes: QueueChanges, defaults: QueueSettings, now: datetime) -> QueueSettings:
    """The settings after the changes. Raises InvalidArgument that names the field."""
    current = at(current, now)
    backoff = _given(changes.backoff, current.backoff, ())
    max_deliver = _given(changes.max_deliver, current.max_deliver, defaults.max_deliver)
    _check_backoff(backoff, max_deliver)
    return QueueSettings(
        ack_wait=_ack_wait(current, changes, defaults, backoff),
        max_deliver=max_deliver,
        max_ack_pending=_given(changes.max_ack_pending, current.max_ack_pending, defaults.max_ack_pending),
        max_pending=_given(changes.max_pending, current.max_pending, defaults.max_pending),
        backoff=backoff,
        pause=_pause(current.pause, changes, now),
    )


def at(settings: QueueSettings, now: datetime) -> QueueSettings:
    """The settings at that moment: a pause that is over is none."""
    over = settings.pause is not None and settings.pause.is_over(now)
    return replace(settings, pause=None) if over else settings


def _given(change: T | UnsetType | None, current: T, default: T) -> T:
    if isinstance(change, UnsetType):
        return current
    return default if change is None else change


def _ack_wait(
    current: QueueSettings, changes: QueueChanges, defaults: QueueSettings, backoff: tuple[timedelta, ...]
) -> timedelta:
    """JetStream takes the first entry of a backoff for the ack wait, whatever that says: two truths are refused."""
    wanted = _given(changes.ack_wait, current.ack_wait, defaults.ack_wait)
    if not backoff:
        return wanted
    if isinstance(changes.ack_wait, timedelta) and wanted != backoff[0]:
        first = format_duration(backoff[0])
        text = f"ack_wait is the first entry of the backoff ({first}) where there is one: leave it out, or the backoff"
        raise InvalidArgument(text, field="ack_wait")
    return backoff[0]


def _check_backoff(backoff: tuple[timedelta, ...], max_deliver: int) -> None:
    if any(later < earlier for earlier, later in itertools.pairwise(backoff)):
        raise InvalidArgument("backoff must not get shorter from one entry to the next", field="backoff")
    if 0 < max_deliver < len(backoff):
        text = f"backoff has {len(backoff)} entries, more than the {max_deliver} deliveries of max_deliver"
        raise InvalidArgument(text, field="backoff")


def _pause(current: Pause | None, changes: QueueChanges, now: datetime) -> Pause | None:
    note, until = changes.pause_note, changes.paused_until
    named = [field for field, value in (("pause_note", note), ("paused_until", until)) if value not in (UNSET, None)]
    if changes.paused is False:
        if named:
            raise InvalidArgument(f"{named[0]}: a queue that is not paused has none", field=named[0])
        return None
    if isinstance(until, datetime) and until <= now:
        raise InvalidArgument("paused_until is past: a pause ends in the future, or leave it out", field="paused_until")
    if current is None and changes.paused is UNSET and not isinstance(until, datetime):
        if named:
            raise InvalidArgument("pause_note: the queue is not paused, give paused as well", field="pause_note")
        return None
    before = current or Pause()
    return Pause(until=_given(until, before.until, None), note=_given(note, before.note, None))


# --- upkeep


def in_force(found: Found | None, copy: QueueEdit | None, defaults: QueueSettings) -> QueueEdit:
    """What holds, or will once an edit under way is through."""
    if found is None:
        return copy or QueueEdit(defaults)
    number = max(found.edit or 0, 0 if copy is None else copy.number)
    if copy is None or (found.edit is not None and found.edit >= copy.number):
        return QueueEdit(found.settings, number)
    if found.edit is None:  # made or edited by other hands: what these cannot have said stays as it was
        return QueueEdit(replace(found.settings, max_pending=copy.settings.max_pending), number)
    return copy


def decide_upkeep(
    found: Found | None, copy: QueueEdit | None, *, deleted_at: datetime | None, is_used: bool, now: datetime
) -> Upkeep:
    """`deleted_at`: when the copy was deleted, if it was; `is_used`: a schedule or an open execution names it."""
    if found is None:
        return Upkeep.RESTORE if copy is not None or is_used else Upkeep.NOTHING
    if copy is None:
        unfinished = deleted_at is not None and found.made_at <= deleted_at
        return Upkeep.DELETE if unfinished and found.is_empty and not is_used else Upkeep.ADOPT
    if found.edit is not None and found.edit < copy.number:
        return Upkeep.APPLY
    is_same = found.edit == copy.number and at(found.settings, now) == at(copy.settings, now)
    return Upkeep.NOTHING if is_same else Upkeep.ADOPT
