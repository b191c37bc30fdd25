"""Bodies to bytes and back; errors to headers and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec
from msgspec import Struct

from scheduler.core.errors import Internal, InvalidArgument, ScheddError, error_of
from scheduler.wire import headers as h
from scheduler.wire.api.replies import ErrorBody

T = TypeVar("T", bound=Struct)
_JSON_WORDS = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false",
               "object": "an object", "array": "a list"}  # fmt: skip


def encode(body: Struct) -> bytes:
    return msgspec.json.encode(body)


def decode_request(body: bytes, kind: type[T]) -> T:
    """The request in `body`; an empty body is `{}`. Raises InvalidArgument that names the field."""
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.ValidationError as problem:
        raise _invalid(str(problem)) from None
    except (ValueError, RecursionError) as problem:
        raise InvalidArgument(f"the request is not JSON: {problem}") from None


def decode_reply(body: bytes, kind: type[T]) -> T:
    """The reply in `body`. Raises Internal where the daemon's answer makes no sense to this client."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as problem:
        raise Internal(f"the answer is not understood, are client and daemon of one version? {problem}") from None


def _invalid(problem: str) -> InvalidArgument:
    """From msgspec's sentence to one that names the field first."""
    reason, _, path = problem.partition(" - at `$")
    quoted = reason.split("`")
    if "unknown field" in reason:
        return InvalidArgument(f"{quoted[1]}: no such field in this request", field=quoted[1])
    if "missing required field" in reason:
        return InvalidArgument(f"{quoted[1]}: required", field=quoted[1])
    name = path.rstrip("`").lstrip(".").removesuffix("[...]")
    plain = re.sub("`([^`]*)`", _in_words, reason)
    sentence = plain[:1].lower() + plain[1:]
    return InvalidArgument(f"{name}: {sentence}" if name else f"the request: {sentence}", field=name or None)


def _in_words(quoted: re.Match[str]) -> str:
    """`int | null` for people."""
    return " or ".join(_JSON_WORDS.get(word, word) for word in quoted[1].split(" | "))


def encode_error(error: ScheddError) -> bytes:
    return encode(ErrorBody(code=error.code, message=error.message, field=error.field))


def error_headers(error: ScheddError) -> dict[str, str]:
    """Headers of an error reply of the micro service (ADR-32): the number and the code word."""
    return {h.SERVICE_ERROR_CODE: str(error.status), h.SERVICE_ERROR: error.code}


def decode_error(headers: Mapping[str, str] | None, body: bytes) -> ScheddError | None:
    """The error that a reply stands for; None for a success. The body decides, the headers where there is none."""
    if not headers or h.SERVICE_ERROR_CODE not in headers:
        return None
    try:
        found = msgspec.json.decode(body, type=ErrorBody)
    except ValueError:
        word = headers.get(h.SERVICE_ERROR) or "internal"
        return error_of(word, f"the daemon answered {word} ({headers[h.SERVICE_ERROR_CODE]})")
    return error_of(found.code, found.message, found.field)
