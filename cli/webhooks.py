"""`schedd webhooks FILE`: is it right, and does an endpoint take events? As a replica would do it, from here."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping

from cli.output import say
from scheduler import __version__
from scheduler.core.errors import InvalidArgument, NotFound, Unavailable
from scheduler.services.webhooks import request_of
from scheduler.system.clock import SystemClock
from scheduler.system.posting import HttpPoster
from scheduler.system.webhook_file import load_webhooks
from scheduler.wire.events import Kind, encode_event
from scheduler.wire.names import Names
from scheduler.wire.webhooks import Webhook, WebhookSettings


def check(file: str | None, test: str | None, namespace: str, env: Mapping[str, str]) -> int:
    """The exit code. Raises InvalidArgument, NotFound, Unavailable."""
    if file is None:
        raise InvalidArgument("give the file, or set SCHEDD_WEBHOOKS", field="file")
    settings = load_webhooks(file, env)
    if test is not None:
        asyncio.run(_send(_named(settings, test), Names(namespace)))
        return 0
    for each in settings.webhooks:
        signed = "signed" if each.keys else "not signed"
        say(f"{each.name}: {', '.join(each.kinds)}; {signed}")
    say(f"{len(settings.webhooks)} webhooks; late after {settings.late_after.total_seconds():g} s")
    return 0


def _named(settings: WebhookSettings, name: str) -> Webhook:
    for each in settings.webhooks:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in settings.webhooks) or "none"
    raise NotFound(f"there is no webhook {name!r:.60}; there are {known}")


async def _send(webhook: Webhook, names: Names) -> None:
    now, event_id = SystemClock().now(), f"test-{secrets.token_hex(8)}"
    data = {"test": True, "webhook": webhook.name}
    body = encode_event(names, event_id=event_id, kind=Kind.ADMIN, schedule_id=None, at=now, data=data)
    request = request_of(
        webhook,
        source=names.event_source,
        event_id=event_id,
        body=body,
        at_s=int(now.timestamp()),
        agent=f"schedd/{__version__}",
    )
    answer = await HttpPoster().post(request)
    if not answer.is_good:
        raise Unavailable(f"{webhook.name} does not take the event: {answer.reason}")
    say(f"{webhook.name} took the event: status {answer.status}, webhook-id {request.headers['webhook-id']}")
