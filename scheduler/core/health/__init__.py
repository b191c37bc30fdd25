"""Is all well? Facts about a whole schedd in, checks out: each ok, warn or crit, in words, with what to do. Pure.

`facts` what is looked at · `thresholds` from where on it is worth a warning, in one table · `judging` the checks ·
`told` numbers in words.
"""

from __future__ import annotations

from scheduler.core.health.facts import Facts, QueueFacts, ReplicaFacts, StoreFacts, Unknown
from scheduler.core.health.judging import Check, Level, judge, worst

__all__ = ["Check", "Facts", "Level", "QueueFacts", "ReplicaFacts", "StoreFacts", "Unknown", "judge", "worst"]
