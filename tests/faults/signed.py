"""An operator, an account and users that it signs, for a nats-server in operator mode: JWTs made by nkeys alone.

A token is base64url(header).base64url(claims).base64url(signature), signed with Ed25519 by the one above: the operator
by itself, accounts by the operator, users by their account (ADR-14; nats-io/jwt, version 2).
"""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import nkeys

ALL = {"subs": -1, "data": -1, "payload": -1}
ACCOUNT_LIMITS = {**ALL, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}
STORAGE = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}


class Identity:
    """A key pair of one kind: nkeys.PREFIX_BYTE_OPERATOR, ACCOUNT or USER."""

    def __init__(self, kind: int) -> None:
        self.seed = bytes(nkeys.encode_seed(os.urandom(32), kind)).decode()
        self.public: str = self._pair.public_key.decode()

    @property
    def _pair(self) -> Any:
        return nkeys.from_seed(bytearray(self.seed.encode()))

    def sign(self, name: str, subject: str, claims: dict[str, Any], *, for_s: float | None = None) -> str:
        """A token of this issuer about the subject; `for_s`: it expires so many seconds from now."""
        now_s = int(time.time())
        body = {"jti": f"{name}-{now_s}", "iat": now_s, "iss": self.public, "name": name, "sub": subject}
        expiry = {} if for_s is None else {"exp": int(now_s + for_s)}
        parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, {**body, **expiry, "nats": {**claims, "version": 2}}]
        text = ".".join(_base64(json.dumps(part).encode()) for part in parts)
        return f"{text}.{_base64(self._pair.sign(text.encode()))}"


class Operator:
    """One operator with a system account and an account with JetStream; `config` is what a server needs of it."""

    def __init__(self) -> None:
        self._operator, self._account, system = (
            Identity(kind)
            for kind in (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_ACCOUNT)
        )
        signed = self._operator.sign("operator", self._operator.public, {"type": "operator"})
        limits = {system: ACCOUNT_LIMITS, self._account: {**ACCOUNT_LIMITS, **STORAGE}}
        preload = "\n".join(
            f"{each.public}: {self._operator.sign('account', each.public, {'type': 'account', 'limits': limit})}"
            for each, limit in limits.items()
        )
        self.config = (
            f"operator: {signed}\nsystem_account: {system.public}\nresolver: MEMORY\n"
            f"resolver_preload: {{\n{preload}\n}}\n"
        )

    def write_user(self, place: Path, *, for_s: float | None = None) -> None:
        """A new user of the account, as a file of credentials, put in its place in one step."""
        user = Identity(nkeys.PREFIX_BYTE_USER)
        token = self._account.sign("user", user.public, {"type": "user", **ALL}, for_s=for_s)
        replace(
            place,
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n",
        )


def replace(place: Path, text: str) -> None:
    """As who deploys secrets does it: the file is the old one or the new one, never half of it."""
    new = place.with_suffix(".new")
    new.write_text(text)
    new.replace(place)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
