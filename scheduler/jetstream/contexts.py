"""Contexts of the NATS command line tool: named connections, in its own files.

They lie in `$XDG_CONFIG_HOME/nats` (else `~/.config/nats`): `context/NAME.json` each, and `context.txt` with the name
of the selected one. Unknown keys are ignored, as newer tools add some; a key that would change where we connect to and
that schedd does not support is refused, because ignoring it would reach another system.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from scheduler.core.errors import InvalidArgument

_UNSUPPORTED = ("nsc", "socks_proxy", "jetstream_domain", "jetstream_api_prefix", "windows_cert_store")
_FILES = ("creds", "nkey", "ca", "cert", "key")


class Context(Struct, frozen=True):
    """What one file says. Empty text: not set. `creds`, `nkey`, `ca`, `cert` and `key` are paths of files."""

    url: str = ""
    user: str = ""
    password: str = ""
    token: str = ""
    creds: str = ""
    nkey: str = ""
    user_jwt: str = ""
    user_seed: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""
    tls_first: bool = False
    inbox_prefix: str = ""
    nsc: str = ""
    socks_proxy: str = ""
    jetstream_domain: str = ""
    jetstream_api_prefix: str = ""
    windows_cert_store: str = ""

    def __repr__(self) -> str:
        return "Context(...)"  # nearly all of it is secret, or leads to secrets


def load_context(name: str, env: Mapping[str, str]) -> Context:
    """The context of that name. Raises InvalidArgument if it is missing, unreadable or needs what schedd cannot do."""
    place = _folder(env) / "context" / f"{name}.json"
    if name != Path(name).name or name.startswith("."):
        raise InvalidArgument(f"{name!r:.80} is not the name of a NATS context", field="context")
    try:
        context = msgspec.json.decode(place.read_bytes(), type=Context)
    except FileNotFoundError:
        raise InvalidArgument(_missing(name, place), field="context") from None
    except (OSError, msgspec.MsgspecError, UnicodeError) as problem:
        raise InvalidArgument(f"cannot read NATS context {name!r} in {place}: {problem}", field="context") from None
    _check(name, context)
    paths = {word: expand_path(getattr(context, word), env) for word in _FILES}
    return msgspec.structs.replace(context, **paths)


def selected_context(env: Mapping[str, str]) -> str | None:
    """Name of the context that `nats context select` chose, or None."""
    try:
        return (_folder(env) / "context.txt").read_text().strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as problem:
        raise InvalidArgument(f"cannot read which NATS context is selected: {problem}", field="context") from None


def expand_path(text: str, env: Mapping[str, str]) -> str:
    """The path with `~` and `$NAME` resolved, as the tool does it."""
    if text == "~" or text.startswith("~/"):
        text = env.get("HOME", "~") + text[1:]
    return string.Template(text).safe_substitute(env)


def _folder(env: Mapping[str, str]) -> Path:
    home = env.get("XDG_CONFIG_HOME")
    return Path(home) / "nats" if home else Path(env.get("HOME") or Path.home()) / ".config" / "nats"


def _missing(name: str, place: Path) -> str:
    known = sorted(found.stem for found in place.parent.glob("*.json"))
    hint = f"there are {', '.join(known[:20])}" if known else "there are none"
    return f"no NATS context {name!r} in {place.parent}: {hint} (make one with `nats context add`)"


def _check(name: str, context: Context) -> None:
    for word in _UNSUPPORTED:
        if getattr(context, word):
            raise InvalidArgument(f"NATS context {name!r} sets {word}, which schedd does not support", field="context")
    if "://" in context.creds:
        raise InvalidArgument(f"NATS context {name!r}: creds has to be the path of a file", field="context")
