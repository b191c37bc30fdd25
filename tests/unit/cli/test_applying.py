"""Carrying out an apply while others write, too: nobody's change is overwritten unseen, and nothing is pruned after."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cli.applying import _Done
from cli.planned import Planned
from scheduler.core.errors import Conflict, NotFound
from scheduler.wire.applying import Change, Kind, Stored, change_of

BASE: dict[str, Any] = {"every": "1h", "queue": "q", "type": "t"}
WANTED = {**BASE, "every": "2h"}


class Store:
    """What the daemon does: a put or a delete of another revision than the stored one is refused."""

    def __init__(self, revision: int = 0, document: dict[str, Any] | None = None) -> None:
        self.revision, self.document = revision, document
        self.schedules = self

    async def put(self, schedule_id: str, document: dict[str, Any], *, expected_revision: int) -> Any:
        self._check(expected_revision)
        self.revision, self.document = self.revision + 1, document
        return SimpleNamespace(warnings=[])

    async def delete(self, schedule_id: str, *, expected_revision: int) -> None:
        if self.document is None:
            raise NotFound("there is no schedule")
        self._check(expected_revision)
        self.document = None

    async def get(self, schedule_id: str) -> Any:
        if self.document is None:
            raise NotFound("there is no schedule")
        status = SimpleNamespace(error=None)
        return SimpleNamespace(
            revision=self.revision, raw_base64=None, schedule=json.dumps(self.document).encode(), status=status
        )

    def _check(self, expected: int) -> None:
        if expected != (self.revision if self.document is not None else 0):
            raise Conflict(f"it is at revision {self.revision}, not {expected}")


async def applied(change: Change, store: Store) -> _Done:
    done = _Done([Planned(change)])
    await done.put_all(store)  # type: ignore[arg-type]  # as much of a client as it needs
    return done


async def test_a_pause_meanwhile_does_not_matter() -> None:
    """The change is written all the same, on top of the pause, which the daemon keeps."""
    change = change_of("a", WANTED, Stored(4, BASE))
    store = Store(5, {**BASE, "paused": True})
    done = await applied(change, store)
    assert done.failures == []
    assert (store.revision, store.document) == (6, WANTED)


@pytest.mark.parametrize("meanwhile", [{**BASE, "every": "5m"}, {**BASE, "payload": 1}])
async def test_another_change_meanwhile_is_told(meanwhile: dict[str, Any]) -> None:
    """It is not overwritten: somebody has to look at it."""
    store = Store(5, meanwhile)
    done = await applied(change_of("a", WANTED, Stored(4, BASE)), store)
    [(schedule_id, problem)] = done.failures
    assert (schedule_id, store.document) == ("a", meanwhile)
    assert "somebody changed it meanwhile; apply again" in problem.message
    with pytest.raises(Conflict):
        done.raise_failures()


async def test_it_was_deleted_or_created_meanwhile() -> None:
    """Neither a deletion nor somebody else's creation is overwritten."""
    gone = Store()
    assert len((await applied(change_of("a", WANTED, Stored(4, BASE)), gone)).failures) == 1
    assert gone.document is None
    made = Store(9, BASE)
    assert len((await applied(change_of("a", WANTED, None), made)).failures) == 1
    assert made.document == BASE


async def test_the_same_was_written_meanwhile() -> None:
    """Two applies of one file: the second finds nothing to do."""
    store = Store(5, dict(WANTED))
    done = await applied(change_of("a", WANTED, Stored(4, BASE)), store)
    assert (done.failures, store.revision) == ([], 5)


async def test_what_changed_since_it_was_shown_is_not_pruned(tmp_path: Path) -> None:
    """A prune deletes what was shown and exported; what is gone already is no failure."""
    change = Change(Kind.PRUNED, "a", 4, BASE)
    for store, failures, left in ((Store(5, WANTED), 1, WANTED), (Store(4, BASE), 0, None), (Store(), 0, None)):
        done = _Done([Planned(change)])
        await done.prune(store, [change], tmp_path / f"{store.revision}.yaml")  # type: ignore[arg-type]  # as above
        assert (len(done.failures), store.document) == (failures, left)
        assert "every: 1h" in (tmp_path / f"{store.revision}.yaml").read_text()
