"""Fields of the schedule JSON whose behaviour is not built yet: checked like all others, then refused.

A schedule must never run as if a field were not there. Whoever builds one takes its entry out of here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from scheduler.core.errors import InvalidArgument
from scheduler.core.model.schedule import Schedule


def check_built(schedule: Schedule) -> None:
    """Refuse the first field whose behaviour is not built. Raises InvalidArgument."""
    for field, asks in NOT_BUILT.items():
        if asks(schedule):
            raise InvalidArgument(f"{_NAMES.get(field, field)} is not supported yet", field=field)


NOT_BUILT: Final[Mapping[str, Callable[[Schedule], bool]]] = {}
_NAMES: Final[Mapping[str, str]] = {}
