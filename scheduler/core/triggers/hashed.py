"""`H` in cron: a value hashed from the schedule id, so that a thousand nightly schedules do not meet at midnight.

The hash is frozen (a golden test holds it): a change would move every schedule that uses it. Each field hashes on its
own; croniter's shifted checksum would give only 240 of the 1440 minutes of a day to `H H * * *`.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

_H: Final = re.compile(r"h(?:\(([0-9]{1,4})-([0-9]{1,4})\))?(?:/([0-9]{1,4}))?", re.ASCII)


def hash_of(schedule_id: str, field: str) -> int:
    """64 bits, the same for ever and on every machine."""
    digest = hashlib.blake2b(f"{schedule_id}\0{field}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def expand_h(text: str, field: str, lowest: int, highest: int, schedule_id: str) -> str:
    """`h`, `h/15`, `h(0-29)` or `h(0-29)/10` as plain cron within lowest..highest. Raises ValueError.

    `h` becomes one value; `h/15` a start within the first 15 values and every 15th from there.
    """
    match = _H.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a hash: write H, H/15, H(0-29) or H(0-29)/10")
    low, high = (int(match[1]), int(match[2])) if match[1] else (lowest, highest)
    if not lowest <= low < high <= highest:
        raise ValueError(f"{text!r} needs a range within {lowest}-{highest} that ascends")
    number = hash_of(schedule_id, field)
    if match[3] is None:
        return str(low + number % (high - low + 1))
    step = int(match[3])
    if step == 0:
        raise ValueError(f"{text!r} has a step of zero")
    start = low + number % min(step, high - low + 1)
    return f"{start}-{high}/{step}" if start < high else str(start)
