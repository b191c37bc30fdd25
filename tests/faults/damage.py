"""Damage to the files of a stream on one NATS node: what a bad disk does. Each asserts that the bytes differ."""

from __future__ import annotations

import random
from pathlib import Path

FLIP, CUT, DELETE, INDEX = "flip", "cut", "delete", "index"


def newest_block(folder: Path, stream: str) -> Path:
    blocks = list(folder.rglob(f"streams/{stream}/msgs/*.blk"))
    assert blocks, f"{stream} has no block under {folder}"
    return max((block for block in blocks if block.stat().st_size), key=lambda block: int(block.stem))


def damage(folder: Path, stream: str, how: str, dice: random.Random) -> str:
    """Flip one bit in the second half of the newest block, cut a third off it, delete it, or flip a bit of the index
    that a server writes when it is stopped. What was done, in words. The server must not run."""
    place = newest_block(folder, stream)
    if how == INDEX:
        place = place.with_name("index.db")
    before = place.read_bytes()
    if how == DELETE:
        place.unlink()
        return f"{stream}: {place.name} with {len(before)} bytes deleted"
    data = bytearray(before)
    at = dice.randrange(len(data) // 2, len(data))
    if how == CUT:
        at = len(data) * 2 // 3
        del data[at:]
    else:
        data[at] ^= 1 << dice.randrange(8)
    place.write_bytes(data)
    assert place.read_bytes() != before
    return f"{stream}: {how} at byte {at} of {len(before)} of {place.name}"
