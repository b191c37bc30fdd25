"""What only the commands can raise; everything else is in `scheduler.core.errors`."""

from __future__ import annotations


class ReaderGone(Exception):
    """Whoever read our output has closed it (`schedctl list | head`): stop, quietly."""
