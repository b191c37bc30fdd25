"""One example for the help of each command; a test holds that each has one, and that it is one."""

from __future__ import annotations

from collections.abc import Iterator

import typer
from typer.models import CommandInfo

EXAMPLES = {
    "schedctl action invoke": "schedctl action invoke nightly 'Rebuild index' --payload '{\"full\": true}'",
    "schedctl action list": "schedctl action list --schedule nightly",
    "schedctl add": "schedctl add nightly --cron '0 3 * * *' --timezone Europe/Berlin --queue mail --type mail:report",
    "schedctl apply": "schedctl apply -f schedules/ --dry-run",
    "schedctl audit": "schedctl audit nightly --since 7d --verdict missed",
    "schedctl backfill": "schedctl backfill nightly --from 2026-11-01T00:00:00Z --to 2026-11-08T00:00:00Z --dry-run",
    "schedctl calendar add": "schedctl calendar add xmas --yearly 12-25 --yearly 12-26",
    "schedctl calendar apply": "schedctl calendar apply -f calendars.yaml",
    "schedctl calendar delete": "schedctl calendar delete xmas",
    "schedctl calendar get": "schedctl calendar get xmas",
    "schedctl calendar import": "schedctl calendar import holidays holidays.ics --timezone Europe/Berlin",
    "schedctl calendar list": "schedctl calendar list",
    "schedctl completion": "source <(schedctl completion bash)",
    "schedctl delete": "schedctl delete nightly",
    "schedctl diff": "schedctl diff -f schedules/",
    "schedctl edit": "schedctl edit nightly",
    "schedctl events": "schedctl events",
    "schedctl executions cancel": "schedctl executions cancel nightly.20261121T020000000Z --grace 5s",
    "schedctl executions list": "schedctl executions list --schedule nightly --state failed",
    "schedctl executions logs": "schedctl executions logs nightly.20261121T020000000Z -f",
    "schedctl executions retry": "schedctl executions retry nightly.20261121T020000000Z",
    "schedctl executions show": "schedctl executions show nightly.20261121T020000000Z",
    "schedctl export": "schedctl export --output backup.jsonl",
    "schedctl get": "schedctl get nightly",
    "schedctl import backup": "schedctl import backup backup.jsonl --dry-run",
    "schedctl import cronjobs": "schedctl import cronjobs cronjobs.yaml --queue jobs",
    "schedctl import crontab": "schedctl import crontab /etc/crontab --system",
    "schedctl list": "schedctl list --state paused",
    "schedctl pause": "schedctl pause nightly --note 'migration' --until 2026-11-22T06:00:00Z",
    "schedctl preview": "schedctl preview --cron '0 3 * * 1-5' --timezone Europe/Berlin --count 5",
    "schedctl queue delete": "schedctl queue delete mail",
    "schedctl queue get": "schedctl queue get mail",
    "schedctl queue list": "schedctl queue list",
    "schedctl queue pause": "schedctl queue pause mail --note 'relay is down'",
    "schedctl queue purge": "schedctl queue purge mail --dry-run",
    "schedctl queue put": "schedctl queue put mail --max-ack-pending 5",
    "schedctl queue resume": "schedctl queue resume mail",
    "schedctl resume": "schedctl resume nightly",
    "schedctl simulate": "schedctl simulate schedules.yaml --from 2026-12-01T00:00:00Z --to 2027-01-01T00:00:00Z",
    "schedctl status": "schedctl status --detailed",
    "schedctl top": "schedctl top --every 1",
    "schedctl trigger": 'schedctl trigger nightly --payload \'{"only": "ann"}\'',
    "schedctl worker exec": "schedctl worker exec --queue pictures --timeout 5m -- ./resize.sh",
    "schedctl worker list": "schedctl worker list --queue mail",
    "schedctl worker prune": "schedctl worker prune tasks:worker --dry-run",
    "schedctl worker run": "schedctl worker run tasks:worker",
    "schedd demo": "schedd demo --for 30s",
    "schedd dev": "schedd dev --data ./data",
    "schedd run": "schedd run --nats nats://n1:4222,nats://n2:4222 --stream-replicas 3",
    "schedd webhooks": "schedd webhooks webhooks.yaml",
}


def give(app: typer.Typer, name: str) -> None:
    """Put the examples below the help of every command of `app`."""
    for path, command in commands_of(app, name):
        if path in EXAMPLES:
            command.epilog = f"Example: {EXAMPLES[path]}"


def commands_of(app: typer.Typer, name: str) -> Iterator[tuple[str, CommandInfo]]:
    """Every command with what one types for it."""
    for command in app.registered_commands:
        own = command.name or getattr(command.callback, "__name__", "").replace("_", "-")
        yield f"{name} {own}", command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from commands_of(group.typer_instance, f"{name} {group.name}")
