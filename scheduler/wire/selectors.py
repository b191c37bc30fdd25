"""Label selectors, as Kubernetes has them: `team=crm,env!=prod,tier in (a,b),!legacy`. All parts must hold.

    name=value, name==value     the label is there and says so
    name!=value                 the label says something else, or is not there
    name in (a, b)              the label is there and says one of them
    name notin (a, b)           the label says none of them, or is not there
    name, !name                 the label is there, is not there

A name or value with blanks or any of `,()=!"` stands in double quotes, where `\\` takes the next character as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from scheduler.core.errors import InvalidArgument

LENGTH_MAX: Final = 4096
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<sign>!=|==|[=!(),])|(?P<word>[^\s=!(),"]+))""", re.DOTALL
)
_EXAMPLE: Final = "write it as in team=crm,env!=prod,tier in (a,b),!legacy"


class Requirement(Struct, frozen=True):
    """One part: the label's value has to be among `values` (None: any), or, if `negated`, must not."""

    name: str
    values: frozenset[str] | None = None
    negated: bool = False

    def holds(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.name)
        found = value is not None and (self.values is None or value in self.values)
        return found is not self.negated


class Selector(Struct, frozen=True):
    """All requirements must hold; without any, everything matches."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.holds(labels) for requirement in self.requirements)

    def names(self) -> frozenset[str]:
        """The labels that it looks at."""
        return frozenset(requirement.name for requirement in self.requirements)


def parse_selector(text: str, *, field: str = "selector") -> Selector:
    """Raises InvalidArgument that says what is wrong, and where."""
    if len(text) > LENGTH_MAX:
        raise InvalidArgument(f"the selector has {len(text)} characters, more than {LENGTH_MAX}", field=field)
    return _Reader(text, field).selector()


def join_selectors(texts: Iterable[str]) -> str:
    """Several selectors as one: all of them must match."""
    return ",".join(texts)


class _Reader:
    """Recursive descent over the tokens; a token is (kind, text)."""

    def __init__(self, text: str, field: str) -> None:
        self._text, self._field = text, field
        self._tokens = self._split()
        self._place = 0

    def selector(self) -> Selector:
        found = [self._requirement()]
        while self._takes(","):
            found.append(self._requirement())
        if self._place < len(self._tokens):
            raise self._problem(f"nothing can follow here, but {self._shown()} does: put a comma between two parts")
        return Selector(tuple(found))

    def _requirement(self) -> Requirement:
        if self._takes("!"):
            return Requirement(self._text_of("the name of a label"), negated=True)
        name = self._text_of("the name of a label")
        for sign in ("=", "==", "!="):
            if self._takes(sign):
                value = self._text_of("a value")
                return Requirement(name, frozenset({value}), negated=sign == "!=")
        for word in ("in", "notin"):
            if self._next() == ("word", word):
                self._place += 1
                return Requirement(name, self._values(), negated=word == "notin")
        return Requirement(name)

    def _values(self) -> frozenset[str]:
        if not self._takes("("):
            raise self._problem(f"values in brackets are expected, not {self._shown()}")
        found = [self._text_of("a value")]
        while self._takes(","):
            found.append(self._text_of("a value"))
        if not self._takes(")"):
            raise self._problem(f"a closing bracket is expected, not {self._shown()}")
        return frozenset(found)

    def _text_of(self, what: str) -> str:
        kind, text = self._next()
        if kind not in {"word", "quoted"}:
            raise self._problem(f"{what} is expected, not {self._shown()}")
        self._place += 1
        return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL) if kind == "quoted" else text

    def _takes(self, sign: str) -> bool:
        found = self._next() == ("sign", sign)
        self._place += found
        return found

    def _next(self) -> tuple[str, str]:
        return self._tokens[self._place] if self._place < len(self._tokens) else ("end", "the end")

    def _shown(self) -> str:
        kind, text = self._next()
        return text if kind == "end" else repr(text[:40])

    def _split(self) -> list[tuple[str, str]]:
        tokens: list[tuple[str, str]] = []
        place, text = 0, self._text.rstrip()
        while place < len(text):
            found = _TOKEN.match(text, place)
            if found is None:
                raise self._problem('a " has no end')
            kind = str(found.lastgroup)
            tokens.append((kind, found[kind]))
            place = found.end()
        return tokens

    def _problem(self, told: str) -> InvalidArgument:
        return InvalidArgument(f"selector {self._text[:80]!r}: {told} ({_EXAMPLE})", field=self._field)
