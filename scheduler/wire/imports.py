"""What an import from another scheduler comes to: definitions, and what about them could not be kept. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from scheduler.core.errors import InvalidArgument
from scheduler.wire.ids import is_schedule_id
from scheduler.wire.schedule import parse_document

ID_MAX: Final = 100  # room for a number behind it
_NOT_IN_IDS: Final = re.compile(r"[^A-Za-z0-9._-]+")


class Imported(Struct, frozen=True):
    """One definition, the line it comes from, and in one sentence each what is not as it was there."""

    id: str
    document: Mapping[str, Any]
    line: int
    notes: tuple[str, ...] = ()


class Import(Struct):
    """`left_out` and `notes` are (line, sentence); `notes` concern the whole file."""

    found: list[Imported] = []
    left_out: list[tuple[int, str]] = []
    notes: list[tuple[int, str]] = []

    def add(self, imported: Imported) -> None:
        """Keep it if it is a valid definition, else leave it out and say why."""
        try:
            parse_document(imported.id, imported.document)
        except InvalidArgument as problem:
            self.left_out.append((imported.line, problem.sentence))
        else:
            self.found.append(imported)

    def note(self, line: int, sentence: str) -> None:
        """Once for each sentence."""
        if sentence not in {told for _, told in self.notes}:
            self.notes.append((line, sentence))


class Terms(Struct, frozen=True):
    """What the source does not say and the definitions need."""

    queue: str
    type: str
    timezone: str | None = None
    prefix: str = ""
    labels: Mapping[str, str] = {}


def id_of(text: str, terms: Terms, taken: Iterable[str], fallback: str) -> str:
    """A schedule id made of the text, behind the prefix, and of a number where it is taken already."""
    plain = _NOT_IN_IDS.sub("-", text)[:ID_MAX]
    while ".." in plain:
        plain = plain.replace("..", ".")
    base = f"{terms.prefix}{plain.strip('._-') or fallback}"
    known, number, found = set(taken), 1, base
    while found in known:
        number += 1
        found = f"{base}-{number}"
    if not is_schedule_id(found):
        raise InvalidArgument(f"{found!r:.80} is no schedule id: choose another --prefix", field="prefix")
    return found
