"""What a task function raises to say how its attempt ends; any other exception is a failure that is tried again.

raise Retry("the mail server is busy", after="5m")
raise Fail("there is no such customer")
raise Cancel("the campaign is over")
"""

from __future__ import annotations

from scheduler.worker.backoff import Span, span_s


class Retry(Exception):
    """Try again, if a try is left: after `after` ("5m", seconds, a timedelta) in place of the backoff.

    Raises InvalidArgument for an `after` that is no positive duration.
    """

    def __init__(self, message: str = "", *, after: Span | None = None) -> None:
        super().__init__(message or "the function asked for another try")
        self.after_s = None if after is None else span_s(after, field="after")


class Fail(Exception):
    """It has failed and no further try would help: the execution ends as failed, whatever tries are left."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or "the function gave up")


class Cancel(Exception):
    """It need not be done any more: the execution ends as cancelled."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or "the function cancelled itself")


Ask = Retry | Fail | Cancel
