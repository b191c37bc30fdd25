"""The verdict on a soak: a clean history is clean, and each thing that can be wrong with it is found and named."""

from __future__ import annotations

from xml.etree import ElementTree

import msgspec
import pytest
from msgspec.structs import replace

from tests.acceptance.evidence import Delivery, id_of
from tests.faults.soak.__main__ import parsed
from tests.faults.soak.history import Audited, Outcome, Sample, Soak, Strike
from tests.faults.soak.judging import Verdict, excused, judge
from tests.faults.soak.levels import allowance, levels_of
from tests.faults.soak.picture import picture
from tests.faults.soak.report import report
from tests.faults.soak.resources import stream_levels
from tests.faults.storm.figures import Term
from tests.unit.faults.soak_histories import (
    LEVELS,
    PLAN,
    SERVER,
    at,
    deliveries,
    history,
    operation,
    operations,
    samples,
    without,
)

TICK = id_of("tick-000", at(30))
PARKED = id_of("parked", at(13.1)) + "-mp1"


def grown(who: str, **levels: float) -> list[Sample]:
    """One process with other levels from the middle of the soak on."""
    return [
        replace(each, levels={**each.levels, **levels}) if each.who == who and each.at > at(30) else each
        for each in samples()
    ]


def delivered(id_: str, **told: object) -> Delivery:
    made = Delivery(id=id_, seq=9999, delivered=1, at=at(31), nominal_at=at(30))
    return replace(made, **told)


def test_a_clean_soak_is_clean() -> None:
    """Everything owed came, nothing else did, and every level is back."""
    verdict = judge(history(), deliveries())
    assert verdict.broken == []
    assert verdict.findings.expected > 800
    assert verdict.parked.expected == 1
    assert verdict.take_overs == 1
    assert verdict.quiet_share == pytest.approx(58 / 60)
    assert verdict.operations["schedule.trigger"]["done"] == 3


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (without(deliveries(), TICK), "lost: 1"),
        ([*deliveries(), delivered(TICK)], "doubled: 1"),
        ([*deliveries(), delivered("moody-0.20261121T120023000Z", nominal_at=at(23))], "phantom: 1"),
        ([*deliveries(), delivered(PARKED)], "parked, phantom: 1"),
        ([each for each in deliveries() if not each.id.startswith("parked")], "parked, lost: 1"),
    ],
)
def test_each_fault_of_a_delivery_is_found(found: list[Delivery], told: str) -> None:
    """What fires while it is paused, or comes although it was cancelled, is a phantom."""
    assert told in judge(history(), found).broken


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"audits": [Audited("tick-000", at(1), at(20), 20, {"fired": 19}, 1)]},
            "audits with something unexplained: 1",
        ),
        ({"audits": [Audited("tick-000", at(1), at(20), 0, {}, 0, "no")]}, "audits with something unexplained: 1"),
        ({"audits": []}, "the run proves nothing: nothing was audited"),
        ({"terms": [Term(5, "a", at(1), at(2)), Term(5, "b", at(3), at(4))]}, "epochs do not increase: [5, 5]"),
        ({"survivor_exits": ["1"]}, "the run proves nothing: the survivor ended with 1"),
        ({"samples": grown("far", rss_mb=90.0)}, "far rss_mb: 50.0 before, 90.0 after"),
        ({"samples": grown("far", files=15.0)}, "far files: 8.0 before, 15.0 after"),
        ({"samples": grown("n1", consumers=21.0)}, "nats consumers: 19.0 before, 21.0 after"),
        (
            {"samples": grown("n1", **{"bytes.KV_schedd-executions": 90_000.0})},
            "n1 bytes.KV_schedd-executions: 1000.0 before, 90000.0 after",
        ),
        (
            {"samples": [each for each in samples() if each.who == "n1" or each.at < at(100)]},
            "the run proves nothing: far has no samples in a rest",
        ),
    ],
)
def test_each_thing_that_is_wrong_is_named(changes: dict[str, object], told: str) -> None:
    """Audits, epochs, levels, and what makes the run worth nothing."""
    assert told in judge(history(**changes), deliveries()).broken


def test_a_record_of_its_own_is_a_phantom_and_a_verdict_is_none() -> None:
    """That something was superseded may be said of what nobody was owed; that it ran may not."""
    clean = history()
    ghost = id_of("moody-0", at(23))
    clean.records[ghost] = {"state": "superseded"}
    assert judge(clean, deliveries()).broken == []
    clean.records[ghost] = {"state": "succeeded"}
    assert "phantom: 1" in judge(clean, deliveries()).broken


def test_what_is_left_behind_is_named_unless_nobody_knows_how_long_to_keep_it() -> None:
    """Records of what was superseded since its schedule was deleted stay for seven days; nothing else may."""
    orphan, stray = id_of("moody-0", at(21)), id_of("tick-000", at(21))
    told = {"KV_schedd-executions": [f"$KV.schedd-executions.{orphan}"], "SCHEDD_TIMELINE": ["schedd.epoch"]}
    clean = history(leftovers=told, samples=grown("n1", **{"bytes.KV_schedd-executions": 9900.0}))
    clean.records[orphan] = {"state": "superseded", "reason": "deleted"}
    assert judge(clean, deliveries()).broken == []
    clean.leftovers["KV_schedd-executions"].append(f"$KV.schedd-executions.{stray}")
    assert judge(clean, deliveries()).broken == [f"left in KV_schedd-executions: 1, {stray} for one"]
    clean = history(leftovers={"SCHEDD_TASKS": ["schedd.task.herd.x"]})
    assert judge(clean, deliveries()).broken == ["left in SCHEDD_TASKS: 1, schedd.task.herd.x for one"]


def test_a_skip_needs_a_verdict() -> None:
    """Of one that may skip, what was not delivered has to be on record as skipped."""
    id_, clean = id_of("busy-0", at(30)), history()
    clean.records[id_] = {"state": "skipped"}
    assert judge(clean, without(deliveries(), id_)).broken == []
    del clean.records[id_]
    assert judge(clean, without(deliveries(), id_)).broken == ["unexplained: 1"]
    clean.audits.append(Audited("busy-0", at(1), at(60), 59, {"fired": 57, "paused": 2}, 0))
    assert judge(clean, without(deliveries(), id_)).broken == [], "a pause is one range, which audit knows"


def test_a_server_that_was_killed_may_forget_what_it_delivered() -> None:
    """The same task again as if for the first time: a redelivery around a kill of NATS, a double at any other time."""
    first = deliveries()[0]
    again = replace(first, at=at(33))
    strikes = history().strikes
    assert [each.delivered for each in excused([first, again], strikes)] == [1, 2]
    assert [each.delivered for each in excused([first, again], [])] == [1, 1]
    other = replace(again, seq=first.seq + 1)
    assert [each.delivered for each in excused([first, other], strikes)] == [1, 1]


def test_a_long_run_has_to_have_had_everything() -> None:
    """Every kind of fault, seen to happen, every kind of operation, and a redelivery."""
    plan = replace(PLAN, length_s=300)
    strikes = [Strike("kill_nats", at(30), at(32), happened=False)]
    few = [each for each in operations() if each.kind != "edit"]
    broken = judge(history(plan=plan, strikes=strikes, operations=few), deliveries()).broken
    assert "the run proves nothing: kill_nats never happened" in broken
    assert "the run proves nothing: only 1 kinds of faults had their turn" in broken
    assert "the run proves nothing: no edit was ever done" in broken
    assert "the run proves nothing: nothing was ever redelivered" in broken
    refused = [operation("edit", "edited-0", 5, outcome=Outcome.REFUSED)]
    calm = judge(history(plan=replace(plan, calm=True), strikes=[], operations=refused), deliveries()).broken
    assert "the run proves nothing: no edit was ever done" in calm
    assert not [each for each in calm if "fault" in each]


def test_levels_are_medians_of_the_rests() -> None:
    """What happens between the rests does not count, nor does a single peak in one; logs are shown, not judged."""
    clean = history()
    peak = replace(clean.samples[-1], levels={**SERVER, "consumers": 99.0})
    levels = {(each.who, each.name): each for each in levels_of([*clean.samples[:-1], peak], clean.rests)}
    assert levels["nats", "consumers"].end == 19
    assert levels["nats", "consumers"].limit == 20
    assert levels["far", "rss_mb"].limit == pytest.approx(67)
    assert allowance("bytes.SCHEDD_EVENTS", is_server=True) is None
    assert allowance("messages.KV_schedd-status", is_server=True) is None
    assert set(LEVELS) <= {name for _, name in levels}


def test_levels_of_a_server_are_read() -> None:
    """Bytes and messages of every stream, consumers of all."""
    detail = [
        {"name": "A", "state": {"bytes": 10, "messages": 1, "consumer_count": 2}},
        {"name": "B", "state": {"bytes": 20, "messages": 2, "consumer_count": 3}},
    ]
    found = stream_levels({"account_details": [{"stream_detail": detail}]})
    assert found == {"consumers": 5.0, "bytes.A": 10.0, "messages.A": 1.0, "bytes.B": 20.0, "messages.B": 2.0}
    assert stream_levels({}) == {"consumers": 0.0}


def page(verdict: Verdict) -> str:
    return report(verdict, command="python -m x", where=["2 cores"], picture="soak.svg")


def test_the_page() -> None:
    """Verdict, seed, faults, clients, findings and levels on one page; what is broken is named."""
    good = page(judge(history(), deliveries()))
    assert "**Everything held and came back.**" in good
    assert "seed 7" in good
    assert "1 kill nats" in good
    assert "| far | rss_mb | 50 | 50 | 67 | back |" in good
    assert "## What is broken" not in good
    assert len(good.splitlines()) < 90
    bad = page(judge(history(samples=grown("far", files=15.0)), without(deliveries(), TICK)))
    assert "**BROKEN: lost: 1" in bad
    assert f"`{TICK}`" in bad
    assert "**NOT BACK**" in bad


def test_the_picture() -> None:
    """Well formed; a red window where something is lost; a bar a fault."""
    clean = history()
    drawn = picture(judge(clean, deliveries()), clean.samples, clean.rests)
    assert drawn.count('class="red"') == 0
    assert drawn.count('class="green"') == 60
    assert drawn.count('class="strike"') == 2
    assert "everything held and came back" in drawn
    ElementTree.fromstring(drawn)
    bad = picture(judge(clean, without(deliveries(), TICK)), clean.samples, clean.rests)
    assert bad.count('class="red"') == 1


def test_a_history_survives_its_file() -> None:
    """What is kept can be judged again."""
    kept = msgspec.json.decode(msgspec.json.encode(history()), type=Soak)
    assert judge(kept, deliveries()).broken == []


def test_the_command() -> None:
    """As it is told; without a place it is refused."""
    asked = parsed(["--for", "1800s", "--nodes", "3", "--out", "x", "--seed", "5"])
    assert (asked.length_s, asked.nodes, asked.seed, asked.calm) == (1800, 3, 5, False)
    for wrong in ([], ["--out", "x", "--judge", "y"], ["--out", "x", "--nodes", "2"]):
        with pytest.raises(SystemExit) as problem:
            parsed(wrong)
        assert problem.value.code == 2
