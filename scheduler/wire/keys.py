"""Keys of buckets, as any client may write them (ADR-8 allows fewer characters than a server lets through)."""

from __future__ import annotations

import re

from scheduler.core.errors import InvalidArgument

_PLAIN = re.compile(r"[A-Za-z0-9_=/-]+(?:\.[A-Za-z0-9_=/-]+)*", re.ASCII)  # nearly every key, and quick to tell
CUT_KEY = "_cut"
"""No id of ours: deletions of it raise the sequences of a bucket that has lost its end."""
KEY_MAX = 1024  # bytes; the server ends connections that send control lines above 4096 by default


def is_key(text: str) -> bool:
    """Whether it can stand in a subject as it is: no wildcard, no empty token, no white space, not too long."""
    if len(text) <= KEY_MAX and _PLAIN.fullmatch(text):
        return True
    return (
        all(token and token not in {"*", ">"} for token in text.split("."))
        and not any(char.isspace() or char == "\x00" for char in text)
        and len(text.encode("utf-8", "surrogatepass")) <= KEY_MAX
    )


def check_key(text: str, bucket: str) -> str:
    """The key itself, or InvalidArgument."""
    if not is_key(text):
        raise InvalidArgument(f"{text!r:.80} cannot be a key of bucket {bucket}", field="key")
    return text


def check_ttl(seconds: float, key: str) -> int:
    """Whole seconds, at least one, or InvalidArgument: the server refuses less and cuts fractions off."""
    if seconds < 1 or seconds != int(seconds):
        raise InvalidArgument(f"{key}: a TTL is a whole number of seconds, at least 1", field="ttl_s")
    return int(seconds)
