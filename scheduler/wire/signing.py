"""Signatures of webhooks: Standard Webhooks 1.0 (https://www.standardwebhooks.com), symmetric, `v1`.

What is signed is `<webhook-id>.<webhook-timestamp>.<body>`, with HMAC-SHA256, by a key of 24 to 64 bytes, which is
written as `whsec_` and its base64. With two secrets there are two signatures, so that one can follow the other.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from scheduler.core.errors import InvalidArgument

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
PREFIX = "whsec_"
KEY_MIN, KEY_MAX = 24, 64


def read_secret(text: str, *, field: str) -> bytes:
    """The key in a secret. Raises InvalidArgument, which never shows it."""
    problem = f"{field}: no secret of Standard Webhooks: write whsec_ and the base64 of {KEY_MIN} to {KEY_MAX} bytes"
    try:
        key = base64.b64decode(text.strip().removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument(problem, field=field) from None
    if not text.strip().startswith(PREFIX) or not KEY_MIN <= len(key) <= KEY_MAX:
        raise InvalidArgument(problem, field=field)
    return key


def message_id(source: str, event_id: str) -> str:
    """The webhook-id of an event: the same for every try, and without the dots that the signed text is divided by."""
    return "msg_" + hashlib.sha256(f"{source}\n{event_id}".encode()).hexdigest()[:32]


def signed_headers(keys: Sequence[bytes], message: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The headers of one try, the signature left out where there is no key."""
    headers = {ID: message, TIMESTAMP: str(timestamp_s)}
    if keys:
        text = f"{message}.{timestamp_s}.".encode() + body
        headers[SIGNATURE] = " ".join(_signature(key, text) for key in keys)
    return headers


def _signature(key: bytes, text: bytes) -> str:
    return "v1," + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
