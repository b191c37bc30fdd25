"""One interleaving that mechanisms.md names: in our own words, and the tests that force it."""

from __future__ import annotations


class Interleaving:
    """`place`: part of mechanisms.md and a number within it. `what`: who comes between which two steps of whom, and
    what must hold. `tests`: node ids as pytest takes them, without parameters; each forces that very order."""

    def __init__(self, place: str, what: str, *tests: str) -> None:
        self.place, self.what, self.tests = place, what, tests
