"""What applying comes to: only what differs is written, a pause stays, and nobody else's schedules are pruned."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.wire.applying import OWNER_LABEL, Kind, Stored, change_of, changes_of, is_only_state, pruned

BASE: dict[str, Any] = {"every": "10m", "queue": "q", "type": "t"}


def test_created_changed_unchanged() -> None:
    """Each has the revision that the decision rests on; what is not wanted is not mentioned."""
    stored = {"a": Stored(3, {**BASE, "max_tries": 3}), "b": Stored(4, BASE), "other": Stored(5, BASE)}
    changes = changes_of({"a": BASE, "b": {**BASE, "every": "1h"}, "c": BASE}, stored)
    assert [(each.id, each.kind, each.revision) for each in changes] == [
        ("a", Kind.UNCHANGED, 3),
        ("b", Kind.CHANGED, 4),
        ("c", Kind.CREATED, 0),
    ]


def test_a_pause_stays() -> None:
    """A stored pause is no difference to a definition that says nothing of it, and is not written into it."""
    paused = Stored(7, {**BASE, "paused": True, "pause_note": "why"})
    assert change_of("a", BASE, paused).kind is Kind.UNCHANGED
    change = change_of("a", {**BASE, "every": "1h"}, paused)
    assert [each.path for each in change.differences] == ["every"]
    assert change.after is not None
    assert change.after["paused"] is True
    assert change.wanted == {**BASE, "every": "1h"}
    resumed = change_of("a", {**BASE, "paused": False}, paused)
    assert resumed.kind is Kind.CHANGED
    assert is_only_state(resumed)


def test_what_is_stored_is_no_definition() -> None:
    """It is replaced, whatever it is."""
    assert change_of("a", BASE, Stored(2, None)).kind is Kind.CHANGED


def test_an_invalid_one_that_is_wanted_so_stays() -> None:
    """What is stored as the file has it is unchanged, and told to be invalid."""
    change = change_of("a", {"evry": "1h"}, Stored(2, {"evry": "1h"}, "no field evry"))
    assert (change.kind, change.error) == (Kind.UNCHANGED, "no field evry")


def test_pruning() -> None:
    """What is prunable and not wanted goes, sorted; what a worker's code declares, or nobody could restore, stays."""
    prunable = {
        "wanted": Stored(1, BASE),
        "z": Stored(2, BASE),
        "owned": Stored(3, {**BASE, "labels": {OWNER_LABEL: "mailer"}}),
        "broken": Stored(4, None),
        "a": Stored(5, {"evry": "1h"}),
    }
    found = pruned(["wanted", "never seen"], prunable)
    assert [(each.id, each.kind, each.revision) for each in found] == [
        ("a", Kind.PRUNED, 5),
        ("broken", Kind.KEPT, 4),
        ("owned", Kind.KEPT, 3),
        ("z", Kind.PRUNED, 2),
    ]
    assert "mailer" in found[2].reason
    assert [each.id for each in pruned(["wanted"], prunable, owned_too=True) if each.kind is Kind.KEPT] == ["broken"]


@pytest.mark.parametrize("labels", [None, [], {OWNER_LABEL: 7}, "x"])
def test_labels_of_any_kind(labels: Any) -> None:
    """Labels that are none own nothing."""
    assert pruned([], {"a": Stored(1, {"labels": labels})})[0].kind is Kind.PRUNED
