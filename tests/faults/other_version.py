"""Another release of schedd, made of this one: a copy of the package with some lines changed.

There is no earlier release to take; what a later one may do is known (mechanisms.md, part 10), so this is one: it
calls itself 0.2.0, knows schema 2, writes a field more into everything it stores, and asks every 3 s whether all know
the next schema, so that a test need not wait for half a minute.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.acceptance.processes import ROOT

VERSION = "0.2.0"
FIELD = "from_the_future"
NEW_FIELD = f'    {FIELD}: str = "yes"\n'
LATER = {
    "__init__.py": {'__version__ = "0.1.0"': f'__version__ = "{VERSION}"'},
    "services/schema.py": {"SCHEMA = 1\n": "SCHEMA = 2\n", "\nEVERY_S = 30.0\n": "\nEVERY_S = 3.0\n"},
    "wire/record.py": {"    history: list[HistoryLine] = []\n": f"    history: list[HistoryLine] = []\n{NEW_FIELD}"},
    "wire/status.py": {
        "    fires: int = 0\n": f"    fires: int = 0\n{NEW_FIELD}",
        "    lease_s: float = 0.0\n": f"    lease_s: float = 0.0\n{NEW_FIELD}",
    },
    "wire/timeline.py": {
        "class Armed(Struct, frozen=True, kw_only=True):\n": "class Armed(Struct, frozen=True, kw_only=True):\n"
        + NEW_FIELD,
        "class WatermarkBody(Struct, frozen=True, kw_only=True):\n": (
            "class WatermarkBody(Struct, frozen=True, kw_only=True):\n" + NEW_FIELD
        ),
    },
}


def later_release(folder: Path) -> dict[str, str]:
    """Make it there; the environment of a replica that is of it."""
    shutil.copytree(ROOT / "scheduler", folder / "scheduler", ignore=shutil.ignore_patterns("__pycache__"))
    for name, changes in LATER.items():
        place = folder / "scheduler" / name
        text = place.read_text()
        for old, new in changes.items():
            assert text.count(old) == 1, f"{name} has {text.count(old)} times {old!r}: follow it in {__file__}"
            text = text.replace(old, new)
        place.write_text(text)
    return {"PYTHONPATH": str(folder)}
