"""What services rely on of a bucket's watch, on the memory twin and on NATS alike (ports.stores)."""

from __future__ import annotations

from scheduler.ports.stores import Write
from tests.contracts.bucket_stages import MANY, BucketStage, Delivered, MemoryBucketStage, written

# --- watching


async def test_watch_delivers_in_order(place: BucketStage) -> None:
    """Everything behind the revision comes in ascending order, each once: what is there, what follows, and markers."""
    await place.bucket.put("old", b"0")
    start = await place.bucket.put("a", b"1")
    delivered = Delivered()
    second = await place.bucket.put("b", b"2")
    watch = place.bucket.watch(start, delivered)
    third = await place.bucket.delete("b")
    fourth = await place.bucket.put("ümläut", b"4")
    await place.until(lambda: fourth in delivered.revisions)
    await watch.stop()
    assert delivered.revisions in ([second, third, fourth], [third, fourth])  # history 1: `second` may be gone by then
    assert [entry.key for entry in delivered.entries][-2:] == ["b", "ümläut"]
    assert [entry.deleted for entry in delivered.entries][-2:] == [True, False]
    assert delivered.entries[-1] == await place.bucket.get("ümläut")


async def test_watch_of_many(place: BucketStage) -> None:
    """A storm of 5,000 writes reaches the watch without a gap."""
    delivered = Delivered()
    watch = place.bucket.watch(0, delivered)
    revisions = written(await place.bucket.put_many([Write(f"k{number}", b"1") for number in range(MANY)]))
    await place.until(lambda: len(delivered.entries) >= MANY)
    await watch.stop()
    assert delivered.revisions == revisions


async def test_watch_restarts_where_it_is_told(place: BucketStage) -> None:
    """A restart delivers everything behind the revision given, again if need be."""
    first = await place.bucket.put("a", b"1")
    second = await place.bucket.put("b", b"1")
    delivered = Delivered()
    watch = place.bucket.watch(0, delivered)
    await place.until(lambda: delivered.revisions == [first, second])
    watch.restart(first)
    await place.until(lambda: delivered.revisions == [first, second, second])
    third = await place.bucket.put("c", b"1")
    await place.until(lambda: delivered.revisions[-1] == third)
    await watch.stop()
    assert delivered.revisions == [first, second, second, third]


async def test_a_stopped_watch_is_silent(place: BucketStage) -> None:
    """After `stop`, which may be called twice, nothing is delivered."""
    delivered = Delivered()
    watch = place.bucket.watch(0, delivered)
    await place.bucket.put("a", b"1")
    await place.until(lambda: len(delivered.entries) == 1)
    await watch.stop()
    await watch.stop()
    await place.bucket.put("b", b"1")
    await place.sleep(0.3)
    assert len(delivered.entries) == 1


async def test_watches_do_not_disturb_each_other(place: BucketStage) -> None:
    """Two watches of one bucket each get everything, from where each began."""
    first = await place.bucket.put("a", b"1")
    early, late = Delivered(), Delivered()
    watches = [place.bucket.watch(0, early), place.bucket.watch(first, late)]
    second = await place.bucket.put("b", b"1")
    await place.until(lambda: early.revisions == [first, second] and late.revisions == [second])
    for watch in watches:
        await watch.stop()


# --- faults of the twin, which services are tested with


async def test_the_twin_stalls_as_told() -> None:
    """A stalled watch of one replica says nothing until it is restarted; the other replica's goes on."""
    stage = MemoryBucketStage()
    mine, other = Delivered(), Delivered()
    replica = stage.twin.replica()
    watches = [stage.twin.watch(0, mine), replica.watch(0, other)]
    stage.twin.stall_watches()
    revision = await stage.bucket.put("a", b"1")
    await stage.until(lambda: other.revisions == [revision])
    assert mine.revisions == []
    watches[0].restart(0)
    await stage.until(lambda: mine.revisions == [revision])
    stage.server.down = True
    stage.twin.put_raw("b", b"1")
    await stage.sleep(5)
    assert len(mine.entries) == 1
    stage.server.down = False
    await stage.until(lambda: len(mine.entries) == 2)
    for watch in watches:
        await watch.stop()
