"""What applying a set of definitions comes to: created, changed, unchanged, pruned. Pure.

`wanted` is what files say, `stored` what the daemon holds. Nothing is decided about a schedule that is not wanted
unless it is among the prunable ones, and of those the ones that a program declares (they carry its label) stay, unless
the selector names that very label. Every decision carries the revision it was made from, and is to be carried out
only if that still holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct

from scheduler.wire.differences import Difference, differences
from scheduler.wire.schedule_json import STATE_FIELDS, keep_pause

OWNER_LABEL: Final = "schedd-worker"
"""Marks a schedule that the code of a worker of that name declares."""


class Kind(StrEnum):
    """What becomes of one schedule; `kept`: not wanted any more, and left alone for a reason."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    PRUNED = "pruned"
    KEPT = "kept"


class Stored(Struct, frozen=True):
    """What the daemon holds under an id: `document` is None where the value is no JSON object, `error` says why it is
    invalid."""

    revision: int
    document: Mapping[str, Any] | None
    error: str | None = None


class Change(Struct, frozen=True):
    """`revision` is what is stored (0: nothing), `error` why that is invalid.

    `before` and `after` are the definitions, the kept pause included; `wanted` is what is to be written.
    """

    kind: Kind
    id: str
    revision: int = 0
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    wanted: Mapping[str, Any] | None = None
    differences: tuple[Difference, ...] = ()
    reason: str = ""
    error: str | None = None

    @property
    def is_write(self) -> bool:
        return self.kind in {Kind.CREATED, Kind.CHANGED, Kind.PRUNED}


def change_of(schedule_id: str, wanted: Mapping[str, Any], stored: Stored | None) -> Change:
    """What writing this definition does. A stored pause stays, unless the definition says something about state."""
    if stored is None:
        return Change(Kind.CREATED, schedule_id, after=wanted, wanted=wanted)
    if stored.document is None:
        return Change(Kind.CHANGED, schedule_id, stored.revision, after=wanted, wanted=wanted)
    after = keep_pause(wanted, json.dumps(dict(stored.document)).encode())
    found = tuple(differences(stored.document, after))
    kind = Kind.CHANGED if found else Kind.UNCHANGED
    return Change(kind, schedule_id, stored.revision, stored.document, after, wanted, found, error=stored.error)


def changes_of(wanted: Mapping[str, Mapping[str, Any]], stored: Mapping[str, Stored]) -> list[Change]:
    """One change for each wanted definition, in their order."""
    return [change_of(schedule_id, document, stored.get(schedule_id)) for schedule_id, document in wanted.items()]


def pruned(wanted: Iterable[str], prunable: Mapping[str, Stored], *, owned_too: bool = False) -> list[Change]:
    """What is prunable and not wanted, by id. `owned_too`: also what the code of a worker declares."""
    gone = sorted(set(prunable) - set(wanted))
    return [_prune(schedule_id, prunable[schedule_id], owned_too=owned_too) for schedule_id in gone]


def _prune(schedule_id: str, stored: Stored, *, owned_too: bool) -> Change:
    if stored.document is None:
        reason = "its value is no JSON object, so it could not be exported: delete it by its id"
        return Change(Kind.KEPT, schedule_id, stored.revision, reason=reason)
    owner = owner_of(stored.document)
    if owner is not None and not owned_too:
        reason = f"the code of worker {owner!r:.60} declares it: see `schedctl worker prune`"
        return Change(Kind.KEPT, schedule_id, stored.revision, stored.document, reason=reason)
    return Change(Kind.PRUNED, schedule_id, stored.revision, stored.document)


def owner_of(document: Mapping[str, Any]) -> str | None:
    """The worker whose code declares it, if one does."""
    labels = document.get("labels")
    owner = labels.get(OWNER_LABEL) if isinstance(labels, dict) else None
    return owner if isinstance(owner, str) else None


def is_only_state(change: Change) -> bool:
    """Whether nothing but a pause would change."""
    return all(each.path in STATE_FIELDS for each in change.differences)
