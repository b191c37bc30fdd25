"""The checker on made-up histories: a good one of any shape has no fault; one corruption of it is found, and named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from tests.acceptance.evidence import Delivery, Expected, Findings, check, grid, id_of, on_grid

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LATE_S = 5.0
Records = Mapping[str, Mapping[str, object]]


class History(Struct, frozen=True):
    """What was owed, what was delivered in order of time, and what is on record."""

    expected: Expected
    deliveries: Sequence[Delivery]
    records: Records

    def judged(self) -> Findings:
        return check(self.expected, self.deliveries, self.records, late_max_s=LATE_S)


def history_of(seed: int) -> History:
    """A good one: some schedules of some period each, lateness of every kind below the limit, redeliveries, and of one
    that may skip some skips on record."""
    dice = Random(seed)
    expected = Expected({})
    for number in range(dice.randint(1, 4)):
        every = dice.choice((1, 2, 7)) * SECOND
        until = NOON + dice.randint(8, 40) * SECOND
        expected |= on_grid(f"s{number}", every, NOON, until, may_until=until + 5 * SECOND)
    busy = {id_of("busy", at): at for at in grid(SECOND, NOON, NOON + dice.randint(4, 20) * SECOND)}
    expected |= Expected({}, {}, busy)
    run = {id_: at for id_, at in busy.items() if dice.random() < 0.5}
    coming = {**expected.must, **run, **{id_: at for id_, at in expected.may.items() if dice.random() < 0.5}}
    deliveries = []
    for seq, (id_, at) in enumerate(sorted(coming.items(), key=lambda item: (item[1], item[0])), start=1):
        first = at + timedelta(seconds=dice.choice((0.0, 0.004, 0.3, LATE_S)) * dice.random())
        times = 1 if dice.random() < 0.9 else 3
        for turn in range(times):
            came = first + turn * 3 * SECOND
            deliveries.append(Delivery(id=id_, seq=seq, delivered=turn + 1, at=came, nominal_at=at))
    records: dict[str, dict[str, object]] = {id_: {"state": "succeeded"} for id_ in coming}
    records |= {id_: {"state": "skipped", "reason": "overlap"} for id_ in busy.keys() - run.keys()}
    return History(expected, deliveries, records)


def owed(history: History, dice: Random) -> str:
    """Any id that had to be delivered."""
    return dice.choice(sorted(history.expected.must))


def of(history: History, id_: str) -> list[Delivery]:
    return [each for each in history.deliveries if each.id == id_]


def dropped(history: History, id_: str, dice: Random) -> History:
    """No worker ever saw it; the record says that all is well."""
    return replace(history, deliveries=[each for each in history.deliveries if each.id != id_])


def doubled(history: History, id_: str, dice: Random) -> History:
    """A second task of the same id."""
    seq = max(each.seq for each in history.deliveries) + 1
    again = replace(of(history, id_)[0], seq=seq)
    return replace(history, deliveries=[*history.deliveries, replace(again, at=again.at + 0.1 * SECOND)])


def first_again(history: History, id_: str, dice: Random) -> History:
    """The same task, as if it had never been delivered."""
    again = replace(of(history, id_)[0], delivered=1)
    return replace(history, deliveries=[*history.deliveries, again])


def shifted(history: History, id_: str, by: timedelta) -> History:
    changed = [replace(each, at=each.nominal_at + by) if each.id == id_ else each for each in history.deliveries]
    return replace(history, deliveries=changed)


def earlier(history: History, id_: str, dice: Random) -> History:
    return shifted(history, id_, -timedelta(milliseconds=dice.randint(1, 3000)))


def later(history: History, id_: str, dice: Random) -> History:
    return shifted(history, id_, timedelta(seconds=LATE_S, milliseconds=dice.randint(1, 60_000)))


def invented(history: History, id_: str, dice: Random) -> History:
    """An instant that no schedule has."""
    at = history.expected.must[id_] + timedelta(milliseconds=dice.randint(1, 999))
    ghost = Delivery(id=id_of(id_.rpartition(".")[0], at), seq=10**6, delivered=1, at=at, nominal_at=at)
    return replace(history, deliveries=[*history.deliveries, ghost])


def ghostly(history: History, id_: str, dice: Random) -> History:
    """On record alone."""
    ghost = id_of("nobody", history.expected.must[id_])
    return replace(history, records={**history.records, ghost: {"state": "succeeded"}})


def forgotten(history: History, id_: str, dice: Random) -> History:
    return replace(history, records={key: each for key, each in history.records.items() if key != id_})


def stuck(history: History, id_: str, dice: Random) -> History:
    return replace(history, records={**history.records, id_: {"state": dice.choice(("queued", "lost"))}})


CORRUPTIONS: Mapping[str, tuple[Callable[[History, str, Random], History], str]] = {
    "dropped": (dropped, "lost"),
    "doubled": (doubled, "doubled"),
    "first_again": (first_again, "doubled"),
    "earlier": (earlier, "early"),
    "later": (later, "late"),
    "invented": (invented, "phantom"),
    "ghostly": (ghostly, "phantom"),
    "forgotten": (forgotten, "unrecorded"),
    "stuck": (stuck, "unsettled"),
}


@given(st.integers(0, 2**32))
def test_a_good_history_has_no_fault(seed: int) -> None:
    """Whatever its schedules, its lateness within the limit, its redeliveries and its skips on record."""
    found = history_of(seed).judged()
    assert found.clean, found


@pytest.mark.parametrize("name", CORRUPTIONS)
@given(seed=st.integers(0, 2**32))
def test_one_corruption_is_found_and_named(name: str, seed: int) -> None:
    """By its own word and its own id, and by no other word of those that go by ids."""
    corrupt, kind = CORRUPTIONS[name]
    history, dice = history_of(seed), Random(seed + 1)
    id_ = owed(history, dice)
    found = corrupt(history, id_, dice).judged()
    named = {word: texts for word, texts in found.faults.items() if word not in {"unmatched", "surplus"}}
    assert named.keys() == {kind}, found
    assert len(named[kind]) == 1
    if kind != "phantom":
        assert named[kind][0].startswith(id_)


@given(st.integers(0, 2**32))
def test_a_skip_without_a_verdict_is_unexplained(seed: int) -> None:
    """It may be skipped, but somebody has to say so: no record of it, or one that is no verdict."""
    history, dice = history_of(seed), Random(seed)
    seen = {each.id for each in history.deliveries}
    skipped = sorted(history.expected.either.keys() - seen)
    if not skipped:
        return
    id_ = dice.choice(skipped)
    told: list[Records] = [
        {key: each for key, each in history.records.items() if key != id_},
        {**history.records, id_: {"state": "queued"}},
        {**history.records, id_: {"state": "lost"}},
    ]
    for records in told:
        found = replace(history, records=records).judged()
        assert found.faults == {"unexplained": [id_]}


@given(st.integers(0, 2**32), st.sampled_from(["dropped", "doubled"]))
def test_intervals_tell_what_ids_hide(seed: int, name: str) -> None:
    """With ids of which none is right, one start too few or too many is found: by windows that are apart."""
    dice = Random(seed)
    expected = on_grid("s", 7 * SECOND, NOON, NOON + dice.randint(30, 200) * SECOND)
    fine = [
        Delivery(id="s.20261121T000000000Z", seq=seq, delivered=1, at=at + 0.01 * SECOND, nominal_at=NOON)
        for seq, at in enumerate(sorted(expected.must.values()), start=1)
    ]
    found = check(expected, fine, late_max_s=LATE_S)
    assert not found.unmatched
    assert not found.surplus
    place = dice.randrange(len(fine))
    if name == "dropped":
        wrong = check(expected, [*fine[:place], *fine[place + 1 :]], late_max_s=LATE_S)
        assert wrong.unmatched == [f"s at {fine[place].at.replace(microsecond=0).isoformat()}"]
        assert not wrong.surplus
    else:
        again = replace(fine[place], seq=999, at=fine[place].at + SECOND)
        wrong = check(expected, [*fine, again], late_max_s=LATE_S)
        assert wrong.surplus == [f"s at {again.at.isoformat()}"]
        assert not wrong.unmatched


@given(st.integers(2, 30), st.data())
def test_a_start_serves_one_instant(count: int, data: st.DataObject) -> None:
    """Windows overlap, and each start lies in several: with one start fewer than instants, one of them has none."""
    expected = on_grid("s", SECOND, NOON, NOON + count * SECOND)
    gone = data.draw(st.sampled_from(sorted(expected.must)))
    fine = [
        Delivery(id=id_, seq=seq, delivered=1, at=at + 0.01 * SECOND, nominal_at=at)
        for seq, (id_, at) in enumerate(sorted(expected.must.items()), start=1)
    ]
    found = check(expected, [each for each in fine if each.id != gone], late_max_s=LATE_S)
    assert found.lost == [gone]
    assert (len(found.unmatched), found.surplus) == (1, [])
