"""Errors of schedd: one tree, one table from code to HTTP status and exit code (contract, part 7).

ScheddError
├── InvalidArgument      the caller's input; names the field and the fix
│   └── PayloadTooLarge
├── NotFound             no such schedule, execution, queue
├── Conflict             a compare-and-set lost: read again, decide again
│   └── Fenced           a planning write of a past epoch, refused by the storage
├── PermissionDenied
├── Unavailable          NATS is away, slow or still electing; the same call may succeed later
│   └── Unsure           sent, no answer: it may have happened; read back before repeating
└── Internal
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple


class Outcome(NamedTuple):
    """How one error code shows outside: the HTTP (and micro service) status and the exit code of the commands."""

    status: int
    exit_code: int


OUTCOMES: Mapping[str, Outcome] = {
    "invalid_argument": Outcome(400, 2),
    "not_found": Outcome(404, 3),
    "conflict": Outcome(409, 4),
    "unavailable": Outcome(503, 5),
    "payload_too_large": Outcome(413, 2),
    "permission_denied": Outcome(403, 1),
    "internal": Outcome(500, 1),
}


class ScheddError(Exception):
    """Base of everything schedd raises on purpose. `message` is one sentence for a person; `field` names the input."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field

    @property
    def status(self) -> int:
        return OUTCOMES[self.code].status

    @property
    def exit_code(self) -> int:
        return OUTCOMES[self.code].exit_code


class InvalidArgument(ScheddError):
    code = "invalid_argument"

    @property
    def sentence(self) -> str:
        """The message, with the field in front where it does not name it itself."""
        told = not self.field or self.field.rpartition(".")[2] in self.message
        return self.message if told else f"{self.field}: {self.message}"


class PayloadTooLarge(InvalidArgument):
    code = "payload_too_large"


class NotFound(ScheddError):
    code = "not_found"


class Conflict(ScheddError):
    code = "conflict"


class Fenced(Conflict):
    """The storage refused a planning write: its epoch or its watermark is not the one in force."""


class PermissionDenied(ScheddError):
    code = "permission_denied"


class Unavailable(ScheddError):
    code = "unavailable"


class Unsure(Unavailable):
    """No answer in time: the write may have landed. Never treat it as failed; read back or repeat idempotently."""


class Internal(ScheddError):
    code = "internal"


def error_of(code: str, message: str, field: str | None = None) -> ScheddError:
    """The error that a reply's `code` word stands for; an unknown word becomes `Internal`."""
    kinds = (InvalidArgument, NotFound, Conflict, Unavailable, PayloadTooLarge, PermissionDenied)
    by_code: dict[str, type[ScheddError]] = {kind.code: kind for kind in kinds}
    return by_code.get(code, Internal)(message, field=field)
