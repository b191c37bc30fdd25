"""What services rely on of a bucket, on the memory twin and on NATS alike (ports.stores)."""

from __future__ import annotations

import asyncio

import pytest

from scheduler.core.errors import Conflict, InvalidArgument, Unavailable, Unsure
from scheduler.ports.stores import Entry, Write
from tests.contracts.bucket_stages import MANY, BucketStage, MemoryBucketStage, written

# --- one key


async def test_an_empty_bucket(place: BucketStage) -> None:
    """Nothing is there, and nothing has been written."""
    assert await place.bucket.get("a") is None
    assert await place.bucket.keys() == []
    assert await place.bucket.last_revision() == 0
    assert await place.bucket.changes_since(0) == []


async def test_changes_reach_what_was_told_before(place: BucketStage) -> None:
    """Who knows less than the newest revision that was told tells the past: refused, and not taken for no change."""
    newest = await place.bucket.put("a", b"1")
    assert [each.revision for each in await place.bucket.changes_since(0, newest)] == [newest]
    with pytest.raises(Unavailable, match="past"):
        await place.bucket.changes_since(newest, newest + 1)


async def test_put_and_get(place: BucketStage) -> None:
    """What was put is read back with its revision and the server's time, which never goes back."""
    revision = await place.bucket.put("a", b"one")
    entry = await place.bucket.get("a")
    assert entry is not None
    assert (entry.key, entry.value, entry.revision, entry.deleted) == ("a", b"one", revision, False)
    assert entry.at.tzinfo is not None
    assert entry.at.microsecond % 1000 == 0
    later = await place.bucket.put("b", b"two")
    second = await place.bucket.get("b")
    assert later > revision
    assert second is not None
    assert second.at >= entry.at


async def test_create_only_once(place: BucketStage) -> None:
    """Expecting 0 creates; a second create conflicts and changes nothing."""
    await place.bucket.put("a", b"one", expect=0)
    with pytest.raises(Conflict):
        await place.bucket.put("a", b"two", expect=0)
    entry = await place.bucket.get("a")
    assert entry is not None
    assert entry.value == b"one"


async def test_update_expects_the_revision(place: BucketStage) -> None:
    """An update of the revision read succeeds, of any other conflicts; without an expectation it overwrites."""
    first = await place.bucket.put("a", b"1")
    second = await place.bucket.put("a", b"2", expect=first)
    for stale in (first, second + 1, 0):
        with pytest.raises(Conflict):
            await place.bucket.put("a", b"3", expect=stale)
    third = await place.bucket.put("a", b"4")
    entry = await place.bucket.get("a")
    assert entry is not None
    assert (entry.value, entry.revision) == (b"4", third)


async def test_of_many_writers_one_wins(place: BucketStage) -> None:
    """Of twenty that replace the same revision at once, exactly one succeeds and the others conflict."""
    revision = await place.bucket.put("a", b"0")
    tries = [place.bucket.put("a", b"%d" % number, expect=revision) for number in range(20)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(result, int) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 19


async def test_delete_leaves_a_marker(place: BucketStage) -> None:
    """A deleted key is still read, as deleted and empty; its marker is the revision to create it on again."""
    revision = await place.bucket.put("a", b"1")
    with pytest.raises(Conflict):
        await place.bucket.delete("a", expect=revision + 7)
    marker = await place.bucket.delete("a", expect=revision)
    entry = await place.bucket.get("a")
    assert entry is not None
    assert (entry.value, entry.revision, entry.deleted) == (b"", marker, True)
    assert await place.bucket.keys() == ["a"]
    with pytest.raises(Conflict):
        await place.bucket.put("a", b"2", expect=0)
    await place.bucket.put("a", b"2", expect=marker)
    again = await place.bucket.get("a")
    assert again is not None
    assert not again.deleted


@pytest.mark.parametrize("headers", [{"KV-Operation": "PURGE"}, {"Nats-Marker-Reason": "MaxAge"}])
async def test_foreign_markers(place: BucketStage, headers: dict[str, str]) -> None:
    """A purge by another client and a marker that the server wrote at an expiry are deletions too."""
    await place.put_raw("a", b"", headers)
    entry = await place.bucket.get("a")
    assert entry is not None
    assert entry.deleted
    assert [change.deleted for change in await place.bucket.changes_since(0)] == [True]


async def test_expire_removes_one_entry(place: BucketStage) -> None:
    """Housekeeping removes exactly the revision named, twice is harmless, and a newer value stays."""
    await place.bucket.put("a", b"1")
    marker = await place.bucket.delete("a")
    await place.bucket.expire(marker)
    await place.bucket.expire(marker)
    assert await place.bucket.get("a") is None
    old = await place.bucket.delete("b")
    new = await place.bucket.put("b", b"2")
    await place.bucket.expire(old)
    entry = await place.bucket.get("b")
    assert entry is not None
    assert entry.revision == new
    assert await place.bucket.last_revision() == new


async def test_a_walk_through_everything(place: BucketStage) -> None:
    """Leaf by leaf, over gaps of any width: each entry once, markers too, and at the end it says so."""
    for number in range(60):
        await place.bucket.put(f"k{number % 40}", b"%d" % number)
    await place.bucket.delete("k30")
    for most in (1, 7, 1200):
        seen: list[Entry] = []
        after: int | None = 0
        while after is not None:
            leaf = await place.bucket.leaf(after, most)
            assert len(leaf.entries) <= most
            seen += leaf.entries
            after = leaf.until
        assert seen == await place.bucket.changes_since(0)


async def test_ttl(place: BucketStage) -> None:
    """A value with a TTL goes by itself, can be created anew, and lives on when rewritten without one."""
    await place.bucket.put("a", b"1", ttl_s=1)
    await place.bucket.put("b", b"1", ttl_s=1)
    await place.bucket.put("b", b"2")
    await place.sleep(2.0)
    assert await place.bucket.get("a") is None
    kept = await place.bucket.get("b")
    assert kept is not None
    assert kept.value == b"2"
    await place.bucket.put("a", b"3", expect=0)


@pytest.mark.parametrize("ttl_s", [0, -1, 1.5])
async def test_ttl_is_whole_seconds(place: BucketStage, ttl_s: int) -> None:
    """A TTL that the server would refuse or cut is refused with the key's name, and nothing is written."""
    with pytest.raises(InvalidArgument, match="key-7"):
        await place.bucket.put("key-7", b"1", ttl_s=ttl_s)
    assert await place.bucket.last_revision() == 0


# --- strange keys and values


@pytest.mark.parametrize("key", ["", "a b", "a.*", "a.>", ">", ".a", "a.", "a..b", "a\tb", "a\n", "x" * 1025, "a\x00"])
async def test_impossible_keys(place: BucketStage, key: str) -> None:
    """A key that would be another subject, or none, is refused before it reaches the server."""
    with pytest.raises(InvalidArgument):
        await place.bucket.get(key)
    with pytest.raises(InvalidArgument):
        await place.bucket.put(key, b"1")
    (result,) = await place.bucket.put_many([Write(key, b"1")])
    assert isinstance(result, InvalidArgument)
    assert await place.bucket.last_revision() == 0


@pytest.mark.parametrize("key", ["a.b.c", "_nonce.a.b-c", "ümläut", "a=b/c", "%41", "a*b", "x" * 900, "😀"])
async def test_odd_keys_are_kept(place: BucketStage, key: str) -> None:
    """Whatever can be a subject is read back under the same key, by every way of reading."""
    await place.put_raw(key, b"1")
    entry = await place.bucket.get(key)
    assert entry is not None
    assert entry.key == key
    assert await place.bucket.keys() == [key]
    assert await place.bucket.changes_since(0) == [entry]


@pytest.mark.parametrize("value", [b"", b"\xff\xfe\x00", b"{", b"null", b"x" * 500_000])
async def test_values_are_bytes(place: BucketStage, value: bytes) -> None:
    """A value is never interpreted: garbage comes back as it was written, and an empty one is no deletion."""
    await place.bucket.put("a", value)
    entry = await place.bucket.get("a")
    assert entry is not None
    assert (entry.value, entry.deleted) == (value, False)
    (change,) = await place.bucket.changes_since(0)
    assert change == entry


# --- many keys


async def test_get_many_in_order(place: BucketStage) -> None:
    """Answers stand in the order of the keys asked for, None where there is nothing."""
    written(await place.bucket.put_many([Write(f"k{number}", b"%d" % number) for number in range(1200)]))
    keys = [f"k{number}" for number in range(1199, -1, -1)] + ["missing"]
    found = await place.bucket.get_many(keys)
    assert [entry and entry.value for entry in found] == [*(b"%d" % number for number in range(1199, -1, -1)), None]


async def test_put_many_answers_each(place: BucketStage) -> None:
    """Each write of a batch succeeds or fails on its own, and a later one sees an earlier one."""
    await place.bucket.put("taken", b"0")
    results = await place.bucket.put_many(
        [Write("a", b"1", expect=0), Write("taken", b"1", expect=0), Write("a", b"2", expect=0), Write("b", b"1")]
    )
    assert [type(result) for result in results] == [int, Conflict, Conflict, int]
    assert await place.bucket.put_many([]) == []
    assert await place.bucket.get_many([]) == []


async def test_keys_by_pattern(place: BucketStage) -> None:
    """A pattern counts in whole tokens: `a` and `a.b` are both ids, and `a.*` finds the children of `a` only."""
    for key in ("a", "a.1", "a.2", "a.b.1", "b.1"):
        await place.bucket.put(key, b"x")
    assert sorted(await place.bucket.keys("a.*")) == ["a.1", "a.2"]
    assert sorted(await place.bucket.keys("a.>")) == ["a.1", "a.2", "a.b.1"]
    assert sorted(await place.bucket.keys("*.1")) == ["a.1", "b.1"]
    assert sorted(await place.bucket.keys()) == ["a", "a.1", "a.2", "a.b.1", "b.1"]


async def test_changes_are_complete(place: BucketStage) -> None:
    """Of 5,000 keys, some rewritten and some deleted, every key's newest entry comes once, ascending."""
    written(await place.bucket.put_many([Write(f"k{number}", b"1") for number in range(MANY)]))
    written(await place.bucket.put_many([Write(f"k{number}", b"2") for number in range(0, MANY, 3)]))
    for number in range(0, MANY, 250):
        await place.bucket.delete(f"k{number}")
    changes = await place.bucket.changes_since(0)
    assert {entry.key for entry in changes} == {f"k{number}" for number in range(MANY)}
    assert len(changes) == MANY
    assert [entry.revision for entry in changes] == sorted(entry.revision for entry in changes)
    assert sum(entry.deleted for entry in changes) == MANY / 250
    newest = {entry.key: entry for entry in changes}
    assert newest["k0"].deleted
    assert newest["k3"].value == b"2"
    assert newest["k1"].value == b"1"
    assert changes[-1].revision == await place.bucket.last_revision()


async def test_changes_behind_a_revision(place: BucketStage) -> None:
    """Only what was written after the revision comes, whether that is little or much."""
    revisions = written(await place.bucket.put_many([Write(f"k{number}", b"1") for number in range(2000)]))
    for behind in (revisions[-1], revisions[-2], revisions[-400], revisions[500], revisions[-1] + 10):
        expected = [revision for revision in revisions if revision > behind]
        assert [entry.revision for entry in await place.bucket.changes_since(behind)] == expected


async def test_changes_when_most_are_gone(place: BucketStage) -> None:
    """Large holes in the sequence, at the end too, neither hide an entry nor end the reading early."""
    for _ in range(4):
        written(await place.bucket.put_many([Write("hot", b"1")] * 400))
    cold = await place.bucket.put("cold", b"1")
    last = written(await place.bucket.put_many([Write("hot", b"2")] * 1500))[-1]
    assert [entry.revision for entry in await place.bucket.changes_since(0)] == [cold, last]
    await place.bucket.expire(last)
    assert [entry.key for entry in await place.bucket.changes_since(0)] == ["cold"]
    assert await place.bucket.last_revision() == last


async def test_changes_while_others_write(place: BucketStage) -> None:
    """Reading until one has caught up with the past finds every key, whatever is written meanwhile."""
    written(await place.bucket.put_many([Write(f"k{number}", b"1") for number in range(3000)]))
    done = False

    async def write() -> None:
        number = 0
        while not done:
            await place.bucket.put(f"k{number % 3000}", b"2")
            await asyncio.sleep(0)
            number += 1

    writer = asyncio.create_task(write())
    try:
        seen: dict[str, Entry] = {}
        newest = await place.bucket.last_revision()
        at = 0
        while at < newest:
            changes = await place.bucket.changes_since(at)
            seen.update((entry.key, entry) for entry in changes)
            at = max([at, *(entry.revision for entry in changes)])
    finally:
        done = True
        await writer
    assert len(seen) == 3000


# --- faults of the twin, which services are tested with


async def test_the_twin_fails_as_told() -> None:
    """A lost acknowledgement lands and is Unsure; a refusal does not land; a failing read raises what was asked for."""
    stage = MemoryBucketStage()
    stage.server.lose_ack_next()
    with pytest.raises(Unsure):
        await stage.bucket.put("a", b"1")
    assert await stage.bucket.get("a") is not None
    stage.server.refuse_in_flight_next()
    with pytest.raises(Unavailable, match="10164"):
        await stage.bucket.put("b", b"1")
    assert await stage.bucket.get("b") is None
    stage.twin.fail_next(Unavailable("electing"), Conflict("raced"))
    with pytest.raises(Unavailable, match="electing"):
        await stage.bucket.get("a")
    (result,) = await stage.bucket.put_many([Write("c", b"1")])
    assert isinstance(result, Conflict)
    assert await stage.bucket.get("c") is None
