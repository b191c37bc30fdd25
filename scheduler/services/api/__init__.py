"""The use cases of the API, free of any transport: one file per noun, bodies as in `scheduler.wire.api`.

Guarantees: a write that is answered with success is applied, on every replica, for whatever is due more than a second
later; a write is a compare-and-set, and one that lost its race is decided again; reads are proven fresh. Every answer
is bounded in time and size. Failures are the classes of `core.errors`; an answer that did not come may be asked for
again (mechanisms.md, parts 2 and 5).
"""

from __future__ import annotations

from scheduler.services.api.answering import Api
from scheduler.services.api.health import HealthLimits
from scheduler.services.api.nouns import Backing

__all__ = ["Api", "Backing", "HealthLimits"]
