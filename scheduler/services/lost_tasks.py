"""Tasks that went with the end of their stream: a damaged block cost the server everything behind the damage.

A claim stands right before its task, and the damage may lie between the two. Then the claim is there still, which
elsewhere proves that there was a task to work on, and the task left without a word: it would be taken for done.
"""

from __future__ import annotations

from collections import deque

CUTS_MAX = 16


class LostTasks:
    """Known to every replica that ran when it happened."""

    def __init__(self) -> None:
        self._cuts: deque[range] = deque(maxlen=CUTS_MAX)

    def note(self, after: int, until: int) -> None:
        """What stood behind one sequence is lost, up to another; nothing of it is given again."""
        self._cuts.append(range(after + 1, until + 1))

    def __contains__(self, task_seq: int) -> bool:
        return any(task_seq in each for each in self._cuts)
