"""The one place that wires: settings and adapters in, every service of a replica out."""

from __future__ import annotations

from scheduler.wiring.replica import Wiring

__all__ = ["Wiring"]
