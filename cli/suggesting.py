"""Did you mean ...? For an id that is not there, the ids that are like it; quickly, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import re

import msgspec
from msgspec import Struct

from cli.connecting import Connection
from scheduler.core.errors import NotFound
from scheduler.wire import api

ASK_S = 1.5
LIKE = 0.7  # how alike, from 0 to 1, an id must be to be offered
_MISSING = re.compile(r"there is no (schedule|calendar) '([^']{1,200})'\Z")


class _Id(Struct):
    id: str


class _Page(Struct):
    items: list[_Id]


async def with_suggestion(connection: Connection, problem: NotFound) -> NotFound:
    """The same error, and what may have been meant. Asks the daemon for ids that begin as the wrong one does."""
    found = _MISSING.match(problem.message)
    if found is None:
        return problem
    noun, wrong = found.groups()
    like = difflib.get_close_matches(wrong, await _ids(connection, noun, wrong[:1]), n=3, cutoff=LIKE)
    if like:
        return NotFound(f"{problem.message}; did you mean {' or '.join(map(repr, like))}?", field=problem.field)
    return NotFound(f"{problem.message}; {_LISTS[noun]} shows those that are", field=problem.field)


async def _ids(connection: Connection, noun: str, prefix: str) -> list[str]:
    kind = {"schedule": api.ListSchedules, "calendar": api.ListCalendars}[noun]
    request: api.Request = kind(prefix=prefix, limit=api.LIMIT_MAX)
    with contextlib.suppress(Exception):
        async with asyncio.timeout(ASK_S), connection.client() as client:
            body = await client.calls.fetch(f"{noun}.list", request)
            return [item.id for item in msgspec.json.decode(body, type=_Page).items]
    return []


_LISTS = {"schedule": "`schedctl list`", "calendar": "`schedctl calendar list`"}
