"""The register of interleavings is held to what there is: none without a test, and no test that is not there."""

from __future__ import annotations

from itertools import groupby

from tests.faults.catalogue import Where, where_of
from tests.unit.interleavings.register import INTERLEAVINGS

NODES = sorted({node for each in INTERLEAVINGS for node in each.tests})
RANDOM = ("test_histories", "test_history", "test_trapped_history", "test_any_history")


def test_none_is_without_a_test() -> None:
    """Each says what comes between what, and names at least one test, none twice."""
    for each in INTERLEAVINGS:
        assert each.tests, each.place
        assert each.what, each.place
        assert len(set(each.tests)) == len(each.tests), each.place


def test_ids_are_counted_by_part() -> None:
    """In the order of mechanisms.md, from 1 in each part, every part but none left out."""
    ids = [tuple(map(int, each.place.split("."))) for each in INTERLEAVINGS]
    for part, found in groupby(ids, key=lambda each: each[0]):
        assert [number for _, number in found] == list(range(1, 1 + sum(each[0] == part for each in ids)))
    assert sorted({part for part, _ in ids}) == list(range(1, 11))
    assert ids == sorted(ids)


def test_each_test_exists_and_ci_runs_it() -> None:
    """By its file and its name; it is directed, and not only run by hand."""
    assert [node for node in NODES if where_of(node) not in {Where.CI, Where.BOTH}] == []
    assert [node for node in NODES if "[" in node or node.rpartition("::")[2].startswith(RANDOM)] == []
