"""The figures of the storm: each kind of fault is found in a history that has it, and shows in its window."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from tests.acceptance.evidence import Findings
from tests.faults.storm.figures import Audit, Figures, History, Lateness, fault_instants, figures_of, percentiles
from tests.unit.faults.storm_histories import LOAD, PLAN, added, after, clean, moved, without

HUNDREDTH = clean().deliveries[100]


def judged(history: History) -> Figures:
    return figures_of(PLAN, history)


def red(figures: Figures) -> list[int]:
    return [number for number, window in enumerate(figures.windows) if window.faults]


def test_a_clean_history_breaks_nothing() -> None:
    """All owed, delivered and audited; windows of a second, none of them red."""
    figures = judged(clean())
    assert figures.broken == []
    assert (figures.findings.expected, figures.findings.delivered) == (398, 398)
    assert len(figures.windows) == 20
    assert sum(window.owed for window in figures.windows) == 398
    assert red(figures) == []
    assert figures.take_overs == 3
    assert figures.lateness == Lateness(0.010, 0.010, 0.010)


@pytest.mark.parametrize(
    ("history", "told"),
    [
        (without(clean(), 100), "lost: 1"),
        (added(clean(), seq=9999), "doubled: 1"),
        (added(clean(), seq=9999, delivered=2), "doubled: 1"),
        (added(clean()), "doubled: 1"),
        (moved(clean(), 100, -0.5), "early: 1"),
        (moved(clean(), 100, 10.5), "late: 1"),
        (added(clean(), id="nobody-0001.20261121T120005000Z"), "phantom: 1"),
    ],
)
def test_each_fault_of_a_delivery_is_found_in_its_window(history: History, told: str) -> None:
    """The guarantee is broken, and the window in which it was due is the red one."""
    figures = judged(history)
    assert told in figures.broken
    window = figures.windows[red(figures)[0]]
    assert window.began <= HUNDREDTH.nominal_at + timedelta(seconds=0.01) < window.ended


def test_unmatched_instants_show_where_no_id_tells_more() -> None:
    """Of a schedule that lost one only that one is shown; a bare instant of another schedule is shown as it is."""
    lost, bare = HUNDREDTH.id, f"nobody-0001 at {after(3).isoformat()}"
    same = f"{lost.partition('.')[0]} at {after(19).isoformat()}"
    found = fault_instants(clean(), Findings(lost=[lost], unmatched=[same, bare]))
    assert found == [LOAD.owed().must[lost], after(3)]


def test_a_redelivery_is_legal() -> None:
    """The same task again, marked as such by the server."""
    figures = judged(added(clean(), delivered=2))
    assert not figures.broken
    assert len(figures.findings.redelivered) == 1


def test_what_schedd_says_has_to_agree() -> None:
    """A record that is missing, one that has not ended, one that nobody owes."""
    history = clean()
    id_ = HUNDREDTH.id
    others = {key: value for key, value in history.records.items() if key != id_}
    assert "unrecorded: 1" in judged(replace(history, records=others)).broken
    assert "unsettled: 1" in judged(replace(history, records={**others, id_: {"state": "queued"}})).broken
    stray = {**history.records, "second-0000.20261121T110000000Z": {"state": "missed"}}
    assert "phantom: 1" in judged(replace(history, records=stray)).broken


@pytest.mark.parametrize(
    ("expected", "verdicts", "unexplained"),
    [(20, {"fired": 19}, 1), (19, {"fired": 19}, 0), (20, {"fired": 19, "missed": 1}, 0), (21, {"fired": 21}, 0)],
)
def test_an_audit_below_the_whole_is_a_broken_guarantee(
    expected: int, verdicts: dict[str, int], unexplained: int
) -> None:
    """Unexplained, forgotten, missed, or more than was owed."""
    history = clean()
    torn = Audit("second-0000", 20, expected, verdicts, unexplained)
    figures = judged(replace(history, audits=[torn, *history.audits[1:]]))
    assert [each for each in figures.broken if each.startswith("audit below 100 %: 1 of")]
    assert figures.torn_audits[0].startswith("second-0000: 20 owed")


def test_epochs_only_grow() -> None:
    """A later term with an epoch that is not higher is found."""
    history = clean()
    terms = [*history.terms[:-1], replace(history.terms[-1], epoch=history.terms[0].epoch)]
    assert any(each.startswith("epochs do not increase") for each in judged(replace(history, terms=terms)).broken)


def test_a_run_without_its_fault_proves_nothing() -> None:
    """Too few kills, or kills of somebody who did not lead."""
    history = clean()
    few = judged(replace(history, kills=history.kills[:1]))
    assert few.broken == ["the run proves nothing: 1 kills, at least 2 were wanted"]
    idle = judged(replace(history, terms=history.terms[:1]))
    assert idle.broken == ["the run proves nothing: 3 leaders killed, but only 1 epochs were taken"]
    calm = replace(PLAN, kill_every_s=0)
    assert figures_of(calm, replace(history, kills=[], terms=history.terms[:1])).broken == []


def test_a_run_that_owed_or_audited_nothing_proves_nothing() -> None:
    """An empty history is no clean one."""
    history = clean()
    assert judged(replace(history, audits=[])).broken == ["the run proves nothing: nothing was audited"]
    empty = replace(history, expected=replace(history.expected, must={}), deliveries=[], records={})
    assert "the run proves nothing: nothing was owed" in judged(empty).broken


def test_percentiles_are_figures_that_occurred() -> None:
    """Nearest rank: of a hundred the fiftieth, the ninety-ninth, the last; nothing at all is zero."""
    assert percentiles(number / 100 for number in range(100, 0, -1)) == Lateness(0.5, 0.99, 1.0)
    assert percentiles([3.0]) == Lateness(3.0, 3.0, 3.0)
    assert percentiles([]) == Lateness()


def test_lateness_is_told_per_window() -> None:
    """One slow delivery shows in the window it was due in, and in no other."""
    figures = judged(moved(clean(), 100, 2.0))
    assert not figures.broken
    slow = [window for window in figures.windows if window.lateness.max_s > 1]
    assert len(slow) == 1
    assert slow[0].lateness.p50_s == pytest.approx(0.01)
    assert figures.lateness.max_s == pytest.approx(2.01)


def test_a_long_run_has_no_more_windows_than_can_be_seen() -> None:
    """Ten minutes come to windows of five seconds."""
    history = replace(clean(), ended=after(600))
    windows = judged(history).windows
    assert len(windows) == 120
    assert (windows[0].ended - windows[0].began).total_seconds() == 5
    assert len(LOAD.owed().must) == sum(window.owed for window in windows)
