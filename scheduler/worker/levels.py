"""What a `ctx.log` has in common, of a task and of an action: the levels, and values beside the message."""

from __future__ import annotations

import logging
import traceback
from typing import Any


class Levels:
    """`log.info("sent %d mails", 3, campaign="autumn")`: arguments as in `logging`, keyword values are kept."""

    def debug(self, message: str, /, *args: object, **values: Any) -> None:
        self.log(logging.DEBUG, message, *args, **values)

    def info(self, message: str, /, *args: object, **values: Any) -> None:
        self.log(logging.INFO, message, *args, **values)

    def warning(self, message: str, /, *args: object, **values: Any) -> None:
        self.log(logging.WARNING, message, *args, **values)

    def error(self, message: str, /, *args: object, **values: Any) -> None:
        self.log(logging.ERROR, message, *args, **values)

    def exception(self, message: str, /, *args: object, **values: Any) -> None:
        """As `error`, with the traceback of the exception being handled."""
        self.log(logging.ERROR, message, *args, **{**values, "traceback": traceback.format_exc()})

    def log(self, level: int, message: str, /, *args: object, **values: Any) -> None:
        raise NotImplementedError
