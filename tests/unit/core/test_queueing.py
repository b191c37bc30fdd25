"""What a queue's settings become by an edit, and what has to be done about its consumer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.queue import Pause, QueueEdit, QueueSettings
from scheduler.core.queueing import Found, QueueChanges, Upkeep, changed, decide_upkeep, in_force

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
DEFAULTS = QueueSettings()
TEN, MINUTE = timedelta(seconds=10), timedelta(minutes=1)


def edited(current: QueueSettings = DEFAULTS, **changes: Any) -> QueueSettings:
    return changed(current, QueueChanges(**changes), DEFAULTS, NOW)


def test_what_is_not_given_stays() -> None:
    """An edit touches what it names; None is the default again; an empty one changes nothing."""
    current = QueueSettings(ack_wait=TEN, max_deliver=3, max_ack_pending=1, max_pending=7, pause=Pause(note="x"))
    assert edited(current) == current
    assert edited(current, max_deliver=4) == replace(current, max_deliver=4)
    assert edited(current, max_deliver=None, max_pending=None) == replace(current, max_deliver=20, max_pending=None)
    assert edited(current, ack_wait=MINUTE) == replace(current, ack_wait=MINUTE)


def test_a_backoff_begins_with_the_ack_wait() -> None:
    """JetStream takes its first entry for the ack wait: so do we, and two truths are refused."""
    backed = edited(backoff=(TEN, MINUTE))
    assert (backed.ack_wait, backed.backoff) == (TEN, (TEN, MINUTE))
    assert edited(backoff=(TEN, MINUTE), ack_wait=TEN) == backed
    with pytest.raises(InvalidArgument, match="ack_wait is the first entry of the backoff"):
        edited(backed, ack_wait=MINUTE)
    assert edited(backed, backoff=None, ack_wait=MINUTE) == replace(DEFAULTS, ack_wait=MINUTE)
    assert edited(backed, backoff=()) == replace(DEFAULTS, ack_wait=TEN)
    assert edited(backed, ack_wait=None) == backed


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"backoff": (MINUTE, TEN)}, "backoff"),
        ({"backoff": (TEN,) * 3, "max_deliver": 2}, "backoff"),
        ({"paused_until": NOW}, "paused_until"),
        ({"paused": True, "paused_until": NOW - TEN}, "paused_until"),
        ({"pause_note": "why"}, "pause_note"),
        ({"paused": False, "pause_note": "why"}, "pause_note"),
        ({"paused": False, "paused_until": LATER}, "paused_until"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], field: str) -> None:
    """Each with the field it is about."""
    with pytest.raises(InvalidArgument) as refused:
        edited(**changes)
    assert refused.value.field == field
    assert field in refused.value.message


def test_pauses() -> None:
    """An end alone is a pause; a pause keeps what an edit does not name; one that is over is none."""
    assert edited(paused=True).pause == Pause()
    assert edited(paused_until=LATER).pause == Pause(LATER)
    noted = replace(DEFAULTS, pause=Pause(LATER, "why"))
    assert edited(noted, paused=True).pause == Pause(LATER, "why")
    assert edited(noted, paused_until=None).pause == Pause(None, "why")
    assert edited(noted, pause_note=None).pause == Pause(LATER)
    assert edited(noted, max_deliver=5).pause == Pause(LATER, "why")
    assert edited(noted, paused=False).pause is None
    over = replace(DEFAULTS, pause=Pause(NOW, "why"))
    assert edited(over).pause is None
    assert edited(over, paused=True).pause == Pause()
    assert edited(DEFAULTS, paused=False, pause_note=UNSET).pause is None


# --- upkeep

OLD, NEW = QueueSettings(max_deliver=2), QueueSettings(max_deliver=3)


def found(settings: QueueSettings = NEW, edit: int | None = 1, *, empty: bool = True, made_at: datetime = NOW) -> Found:
    return Found(settings, edit, made_at, empty)


@pytest.mark.parametrize(
    ("consumer", "copy", "deleted_at", "is_used", "expected"),
    [
        (None, None, None, False, Upkeep.NOTHING),
        (None, None, None, True, Upkeep.RESTORE),
        (None, QueueEdit(OLD, 1), None, False, Upkeep.RESTORE),
        (None, None, NOW, True, Upkeep.RESTORE),
        (None, None, NOW, False, Upkeep.NOTHING),
        (found(), QueueEdit(NEW, 1), None, True, Upkeep.NOTHING),
        (found(), None, None, True, Upkeep.ADOPT),
        (found(OLD, 1), QueueEdit(NEW, 2), None, True, Upkeep.APPLY),
        (found(OLD, 1), QueueEdit(NEW, 1), None, True, Upkeep.ADOPT),
        (found(OLD, None), QueueEdit(NEW, 2), None, True, Upkeep.ADOPT),
        (found(NEW, 3), QueueEdit(NEW, 2), None, True, Upkeep.ADOPT),
        (found(made_at=NOW - TEN), None, NOW, False, Upkeep.DELETE),
        (found(made_at=NOW - TEN), None, NOW, True, Upkeep.ADOPT),
        (found(made_at=NOW - TEN, empty=False), None, NOW, False, Upkeep.ADOPT),
        (found(made_at=NOW + TEN), None, NOW, False, Upkeep.ADOPT),
        (
            found(replace(NEW, pause=Pause(NOW - TEN)), 1),
            QueueEdit(replace(NEW, pause=Pause(NOW)), 1),
            None,
            True,
            Upkeep.NOTHING,
        ),
    ],
)
def test_upkeep(
    consumer: Found | None, copy: QueueEdit | None, deleted_at: datetime | None, is_used: bool, expected: Upkeep
) -> None:
    """Case by case: what is missing comes back, a missed edit is made up for, an operator's hand holds."""
    assert decide_upkeep(consumer, copy, deleted_at=deleted_at, is_used=is_used, now=NOW) is expected


def test_in_force() -> None:
    """The consumer, unless it missed an edit; of one that other hands made, max_pending is the copy's."""
    assert in_force(None, None, DEFAULTS) == QueueEdit(DEFAULTS, 0)
    assert in_force(None, QueueEdit(OLD, 3), DEFAULTS) == QueueEdit(OLD, 3)
    assert in_force(found(OLD, 1), QueueEdit(NEW, 2), DEFAULTS) == QueueEdit(NEW, 2)
    assert in_force(found(OLD, 2), QueueEdit(NEW, 2), DEFAULTS) == QueueEdit(OLD, 2)
    assert in_force(found(OLD, None), None, DEFAULTS) == QueueEdit(OLD, 0)
    kept = QueueEdit(replace(NEW, max_pending=9), 2)
    assert in_force(found(OLD, None), kept, DEFAULTS) == QueueEdit(replace(OLD, max_pending=9), 2)
