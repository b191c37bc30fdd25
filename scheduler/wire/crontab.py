"""Crontabs, of users and of the system (crontab(5) of Vixie cron, cronie and Debian), as definitions. Pure.

What cron does is kept: runs overlap, what was missed while the machine was off stays missed, nothing is tried again.
The command goes into the payload as `command`, with `stdin` (what follows the first `%`), `env` (the variables set
above it) and `user`; which shell runs it is the worker's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from scheduler.wire.imports import Import, Imported, Terms, id_of

_VARIABLE: Final = re.compile(r"""\s*(['"]?)([A-Za-z_][A-Za-z0-9_]*)\1\s*=\s*(.*?)\s*$""")
_RANDOM: Final = re.compile(r"(\d*)~(\d*)")
_UNESCAPED: Final = re.compile(r"(?<!\\)%")
_SKIPPED: Final = frozenset(
    {
        "sudo",
        "nice",
        "ionice",
        "nohup",
        "exec",
        "env",
        "flock",
        "timeout",
        "chronic",
        "sh",
        "bash",
        "dash",
        "perl",
        "php",
    }
)
_INTERPRETER: Final = re.compile(r"(?:python|ruby|node)[0-9.]*")
_RANGES: Final = ((0, 59), (0, 23), (1, 28), (1, 12), (0, 6))
_LONGEST_NAME: Final = 60


class _Entry(Struct):
    """A line of times and a command; `user` only in the system's crontabs."""

    times: str
    user: str | None
    command: str


def read_crontab(text: str, terms: Terms, *, is_system: bool = False) -> Import:
    """Every entry as a definition; what cannot be one is left out, with the reason."""
    found = Import()
    env: dict[str, str] = {}
    comment = ""
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        variable = _VARIABLE.match(line)
        if not stripped:
            comment = ""
        elif stripped.startswith("#"):
            comment = stripped.lstrip("# ").strip()
        elif variable is not None:
            _set(env, variable[2], _unquoted(variable[3]), number, found)
            comment = ""
        else:
            _read_entry(found, stripped, number, env, comment, terms, is_system=is_system)
            comment = ""
    if found.found and terms.timezone is None and any("timezone" not in each.document for each in found.found):
        found.note(0, "cron reads its times in the zone of its host, here they are UTC: --timezone says otherwise")
    return found


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def _set(env: dict[str, str], name: str, value: str, number: int, found: Import) -> None:
    env[name] = value
    if name in {"MAILTO", "MAILFROM"} and value:
        found.note(number, f"{name}: no mail is sent; a webhook can tell of failures")


def _read_entry(
    found: Import, line: str, number: int, env: Mapping[str, str], comment: str, terms: Terms, *, is_system: bool
) -> None:
    entry = _split(line, is_system=is_system)
    if entry is None:
        found.left_out.append((number, f"{line[:60]!r} is no entry: five fields of time and a command"))
    elif entry.times.lower() == "@reboot":
        found.left_out.append((number, f"@reboot {entry.command[:60]!r}: schedd knows no boot; let systemd start it"))
    else:
        found.add(_imported(found, entry, number, env, comment, terms))


def _split(line: str, *, is_system: bool) -> _Entry | None:
    """The entry in a line; None if it is none. A `-` in front (no log line, says cron) means nothing here."""
    words = line.removeprefix("-").split(None, 1 if line.lstrip("-").startswith("@") else 5)
    count = 1 if words and words[0].startswith("@") else 5
    if len(words) <= count:
        return None
    user, command = None, words[count]
    if is_system:
        user, _, command = command.partition(" ") if " " in command else command.partition("\t")
        command = command.strip()
    return _Entry(" ".join(words[:count]), user, command) if command else None


def _imported(
    found: Import, entry: _Entry, number: int, env: Mapping[str, str], comment: str, terms: Terms
) -> Imported:
    notes: list[str] = []
    command, stdin = _parts(entry.command)
    payload: dict[str, Any] = {"command": command}
    if stdin is not None:
        payload["stdin"] = stdin
    variables = {name: value for name, value in env.items() if name not in {"MAILTO", "MAILFROM", *_OURS}}
    if variables:
        payload["env"] = variables
    if entry.user is not None:
        payload["user"] = entry.user
        notes.append(f"it ran as {entry.user}; here it runs as its worker does")
    document: dict[str, Any] = {"cron": _cron(entry.times, notes)}
    zone = env.get("CRON_TZ") or terms.timezone
    if zone:
        document["timezone"] = zone
    document |= {"queue": terms.queue, "type": terms.type, "payload": payload}
    document |= {"overlap": "allow", "catch_up": {"mode": "none"}, "max_tries": 1}
    delay = env.get("RANDOM_DELAY", "")
    if delay.isdigit() and int(delay):
        document["jitter"] = f"{int(delay)}m"
    if comment:
        document["description"] = "".join(char for char in comment if char.isprintable())[:1000]
    if terms.labels:
        document["labels"] = dict(terms.labels)
    schedule_id = id_of(name_of(command), terms, (each.id for each in found.found), "command")
    return Imported(schedule_id, document, number, tuple(notes))


_OURS: Final = ("CRON_TZ", "RANDOM_DELAY")


def _parts(command: str) -> tuple[str, str | None]:
    """The command, and what it reads: the first % that is not escaped ends the one, further ones end lines."""
    first, *rest = _UNESCAPED.split(command, maxsplit=1)
    stdin = None
    if rest:
        stdin = _UNESCAPED.sub("\n", rest[0]).replace("\\%", "%")
        stdin = stdin if stdin.endswith("\n") else f"{stdin}\n"
    return first.replace("\\%", "%").strip(), stdin


def _cron(times: str, notes: list[str]) -> str:
    if "~" not in times:
        return times.lower() if times.startswith("@") else times
    notes.append(f"{times!r}: cron draws a value anew whenever it starts; here it is drawn once, from the id")
    fields = times.split(" ")
    return " ".join(_hashed(field, low, high) for field, (low, high) in zip(fields, _RANGES, strict=False))


def _hashed(field: str, low: int, high: int) -> str:
    return _RANDOM.sub(lambda drawn: f"H({drawn[1] or low}-{drawn[2] or high})", field)


def name_of(command: str) -> str:
    """The name of the program that a command line is about: past `cd x &&`, variables, `sudo`, interpreters."""
    last = re.sub(r"^\s*(?:cd\s+[^;&|]+(?:&&|;)\s*)+", "", command)
    for word in re.split(r"[\s;|&<>()]+", last):
        bare = word.strip("'\"`[]{}$").rpartition("/")[2]
        is_about = bare and not word.startswith("-") and "=" not in word and not bare.isdigit()
        if is_about and bare not in _SKIPPED and not _INTERPRETER.fullmatch(bare):
            return bare[:_LONGEST_NAME]
    return ""
