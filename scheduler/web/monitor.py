"""The monitor port: `/metrics`, `/healthz`, `/readyz`. No sign-in, nothing that changes anything.

`/healthz` is for a liveness probe: 503 means "restart me", so it never asks whether NATS is there.
`/readyz` is for a readiness probe: 503 while this replica can be of no use, with the reason of each failing check.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

_log = logging.getLogger(__name__)
_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_INDEX = "schedd monitor\n/metrics  for Prometheus\n/healthz  is the process well\n/readyz   is it of use\n"


class Health(Struct, frozen=True):
    """Named checks; each is None when it is well, else the problem as a short sentence."""

    checks: Mapping[str, str | None]

    @property
    def ok(self) -> bool:
        return all(problem is None for problem in self.checks.values())

    def body(self) -> dict[str, object]:
        """`{"ok": false, "checks": {"connected": {"ok": false, "problem": "..."}}}`."""
        checks = {name: _check(problem) for name, problem in self.checks.items()}
        return {"ok": self.ok, "checks": checks}


def _check(problem: str | None) -> dict[str, object]:
    return {"ok": True} if problem is None else {"ok": False, "problem": problem}


def monitor_app(
    *,
    render_metrics: Callable[[str], tuple[bytes, str]],
    health: Callable[[], Health],
    readiness: Callable[[], Health],
) -> Starlette:
    """The app. `render_metrics` takes the request's Accept header and returns body and content type."""

    async def metrics(request: Request) -> Response:
        body, content_type = render_metrics(request.headers.get("accept", ""))
        return Response(body, headers={**_HEADERS, "content-type": content_type})

    async def healthz(_: Request) -> Response:
        return _answer(health)

    async def readyz(_: Request) -> Response:
        return _answer(readiness)

    async def index(_: Request) -> Response:
        return PlainTextResponse(_INDEX, headers=_HEADERS)

    routes = [
        Route("/", index, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
    ]
    return Starlette(routes=routes)


def _answer(ask: Callable[[], Health]) -> Response:
    """200 or 503 with the checks as JSON; a check that breaks is a failed check, not a blank 500."""
    try:
        health = ask()
    except Exception:
        _log.exception("a health check broke", extra={"event": "monitor.check_broke"})
        health = Health({"checks": "a health check broke; see the log"})
    body = msgspec.json.encode(health.body())
    return Response(body, 200 if health.ok else 503, headers=_HEADERS, media_type="application/json")
