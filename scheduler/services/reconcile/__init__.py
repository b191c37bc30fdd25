"""What should be against what is, on the leader, every half minute (mechanisms.md, part 9). One file per repair.

Every repair compares incrementally (the open executions of the index, the rows that changed), never everything there
is; leaves alone what is younger than a grace; closes a difference by the same steps as the normal way; and is counted
by its kind. One that fails keeps no other from running and is repeated in the next round.
"""

from __future__ import annotations

from scheduler.core.reconciling import REPAIR_KINDS
from scheduler.services.reconcile.reconciler import Reconciler
from scheduler.services.reconcile.repairs import Ground

__all__ = ["REPAIR_KINDS", "Ground", "Reconciler"]
