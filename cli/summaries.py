"""Definitions in a few words. They may be invalid: whatever the fields hold, there is a text for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli.output import instant

Definition = Mapping[str, Any]


def when(definition: Definition) -> str:
    """What makes it fire: `0 9 * * 1-5 Europe/Berlin`, `every 10m`, `at 2026-11-21 08:00:00Z (+2)`."""
    zone = definition.get("timezone")
    suffix = f" {zone}" if isinstance(zone, str) and zone != "UTC" else ""
    if "cron" in definition:
        return _several(definition["cron"], " | ") + suffix
    if "rrule" in definition:
        return _several(definition["rrule"], " | ") + suffix
    if "every" in definition:
        return f"every {text(definition['every'])}"
    if "after" in definition:
        return f"{text(definition['after'])} after the last run"
    if "at" in definition:
        return _instants(definition["at"])
    return "manual" if definition.get("manual") is True else "-"


def _several(value: Any, between: str) -> str:
    return between.join(text(part) for part in value) if isinstance(value, list) else text(value)


def _instants(value: Any) -> str:
    instants = value if isinstance(value, list) else [value]
    more = f" (+{len(instants) - 1})" if len(instants) > 1 else ""
    return f"at {instant(text(instants[0]))}{more}" if instants else "-"


def pause(definition: Definition) -> str | None:
    """Until when and why; None if it is not paused."""
    if definition.get("paused", "paused_until" in definition) is not True:
        return None
    until, note = definition.get("paused_until"), definition.get("pause_note")
    told = f"until {instant(text(until))}" if until else "until resumed"
    return f"{told}: {text(note)}" if note else told


def text(value: Any) -> str:
    return "-" if value is None else value if isinstance(value, str) else str(value)
