"""How an entry leaves a bucket for good, so that no crash of a server brings its value back.

What a newer entry replaced stays on the disk of nats-server until its block is written anew, and nothing there says
that it is gone: only the newer entry outdoes it. If that one is removed and the server dies (kill -9, power), the
older one is there again (measured on 2.15.1: a deleted schedule would live again). So a marker is never removed right
from above a value: it is written once more, and the second one removed. What can come back then is the first.
"""

from __future__ import annotations

import contextlib

from scheduler.core.errors import Conflict
from scheduler.ports.stores import Bucket, Entry


async def bury(bucket: Bucket, entry: Entry) -> None:
    """Remove the key if this is what stands there still. A write that comes first, or in between, stands.

    Raises Unsure, Unavailable: then it is to be repeated with what stands there by then.
    """
    with contextlib.suppress(Conflict):
        marker = entry.revision if entry.deleted else await bucket.delete(entry.key, expect=entry.revision)
        await bucket.expire(await bucket.delete(entry.key, expect=marker))
