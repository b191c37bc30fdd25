"""Webhooks as they are configured: a list of these, or a mapping with the list under `webhooks`, as YAML or JSON.

    late_after: 1m                     # from when on an execution is late; default 60 s
    webhooks:
      - name: ops                      # [a-z][a-z0-9-]*, at most 32: its place is kept under it
        url: https://ops.example/hook  # or {env: NAME}, {file: PATH}: where the path itself is a secret
        secret: {env: OPS_SECRET}      # never in the file itself; a list of two while one follows the other
        events: [failed, missed]       # default: missed, failed, late, recovered, flapping; "*" is every kind
        schedules: [crm.*, billing]    # ids, `*` and `?` as in a shell; default: all
        labels: team=crm,env!=dev      # as in `schedctl list -l`; or a mapping, all of it; default: any
        headers: {Authorization: {env: OPS_TOKEN}}
        timeout: 10s                   # of one try, all of it; 1s to 60s
        max_tries: 20                  # and never longer than 24 h
        allow_http: false              # http to another machine
        allow_link_local: false        # 169.254.0.0/16 and the like, where clouds keep their credentials

Pure: what a reference stands for is asked of `resolve`, which gets ("env", NAME) or ("file", PATH).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any

from msgspec import Struct

from scheduler.core.alerting import AlertKind
from scheduler.core.delivering import Patience
from scheduler.core.errors import InvalidArgument
from scheduler.wire.events import Kind
from scheduler.wire.instants import parse_duration
from scheduler.wire.selectors import Requirement, Selector, parse_selector
from scheduler.wire.signing import read_secret
from scheduler.wire.targets import Target, read_target

HOOKS_MAX = 32
ANY = "*"
LATE_AFTER = timedelta(seconds=60)
TIMEOUT_S = (1.0, 60.0)
TRIES = (1, 100)
SECRETS_MAX = 2
HEADERS_MAX = 10
_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_OWN_PREFIXES = ("webhook-", "content-")
_OWN_HEADERS = frozenset({"host", "connection", "transfer-encoding", "user-agent", "expect", "te", "upgrade"})
_FIELDS = (
    "name", "url", "secret", "events", "schedules", "labels", "headers", "timeout", "max_tries", "allow_http",
    "allow_link_local",
)  # fmt: skip
Resolve = Callable[[str, str], str]


class Webhook(Struct, frozen=True, kw_only=True):
    """One endpoint and what it asks for. Never logged, for url, keys and headers may be secrets: `name` says which."""

    name: str
    target: Target
    keys: tuple[bytes, ...] = ()
    events: frozenset[str] = frozenset(AlertKind)
    schedules: tuple[str, ...] = ()
    labels: Selector = Selector()
    headers: Mapping[str, str] = {}
    timeout_s: float = 10.0
    patience: Patience = Patience()

    def __repr__(self) -> str:
        return f"Webhook({self.name})"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of events it asks for, by name."""
        return tuple(sorted(Kind) if ANY in self.events else sorted(self.events))

    def wants(self, schedule_id: str | None, labels: Mapping[str, str]) -> bool:
        """Whether it asks for events about this schedule, if the kind is one that it asks for."""
        is_named = not self.schedules or any(fnmatchcase(schedule_id or "", pattern) for pattern in self.schedules)
        return is_named and self.labels.matches(labels)


class WebhookSettings(Struct, frozen=True, kw_only=True):
    """All of them."""

    webhooks: tuple[Webhook, ...] = ()
    late_after: timedelta = LATE_AFTER


NO_WEBHOOKS = WebhookSettings()


def read_webhooks(document: Any, resolve: Resolve) -> WebhookSettings:
    """Raises InvalidArgument, one sentence that names the field; no secret is in it."""
    top = {"webhooks": document} if isinstance(document, list) else document
    if not isinstance(top, dict) or not isinstance(top.get("webhooks"), list):
        raise InvalidArgument("webhooks: write a list, or a mapping with a list under webhooks", field="webhooks")
    _check_fields(top, ("webhooks", "late_after"), "")
    if len(top["webhooks"]) > HOOKS_MAX:
        raise InvalidArgument(f"webhooks: {len(top['webhooks'])} are more than {HOOKS_MAX}", field="webhooks")
    found = tuple(_webhook(each, f"webhooks[{number}]", resolve) for number, each in enumerate(top["webhooks"]))
    names = [each.name for each in found]
    for name in names:
        if names.count(name) > 1:
            raise InvalidArgument(f"webhooks: the name {name!r} is given twice", field="name")
    late_after = _duration(top, "late_after", "", (1.0, 86_400.0), LATE_AFTER.total_seconds())
    return WebhookSettings(webhooks=found, late_after=timedelta(seconds=late_after))


def _webhook(value: Any, place: str, resolve: Resolve) -> Webhook:
    if not isinstance(value, dict):
        raise InvalidArgument(f"{place}: write a mapping with name and url", field="webhooks")
    name = value.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{place}.name: write at most 32 small letters, digits and '-', beginning with a letter", field="name"
        )
    _check_fields(value, _FIELDS, f"{name}.")
    seconds = _duration(value, "timeout", f"{name}.", TIMEOUT_S, 10.0)
    return Webhook(
        name=name,
        target=read_target(
            _text(value.get("url"), f"{name}.url", resolve),
            field=f"{name}.url",
            allow_http=_flag(value, "allow_http", name),
            allow_link_local=_flag(value, "allow_link_local", name),
        ),
        keys=_keys(value.get("secret"), f"{name}.secret", resolve),
        events=_events(value.get("events"), f"{name}.events"),
        schedules=tuple(_texts(value.get("schedules"), f"{name}.schedules")),
        labels=_labels(value.get("labels"), f"{name}.labels"),
        headers=_headers(value.get("headers"), f"{name}.headers", resolve),
        timeout_s=seconds,
        patience=Patience(max_tries=_tries(value, name)),
    )


def _check_fields(value: Mapping[str, Any], known: Sequence[str], place: str) -> None:
    for field in value:
        if field not in known:
            raise InvalidArgument(f"{place}{field}: there is no such field; there are {', '.join(known)}", field=field)


def _text(value: Any, field: str, resolve: Resolve) -> str:
    """A text, or what a reference stands for."""
    if isinstance(value, str) and value:
        return value
    return _referred(value, field, resolve, "write a text, {env: NAME} or {file: PATH}")


def _referred(value: Any, field: str, resolve: Resolve, fix: str) -> str:
    if isinstance(value, dict) and len(value) == 1:
        [(how, where)] = value.items()
        if how in {"env", "file"} and isinstance(where, str) and where:
            try:
                found = resolve(how, where).strip()
            except InvalidArgument as problem:
                raise InvalidArgument(f"{field}: {problem.message}", field=field) from None
            if not found:
                raise InvalidArgument(f"{field}: {how} {where} is empty", field=field)
            return found
    raise InvalidArgument(f"{field}: {fix}", field=field)


def _keys(value: Any, field: str, resolve: Resolve) -> tuple[bytes, ...]:
    if value is None:
        return ()
    given = value if isinstance(value, list) else [value]
    if not 0 < len(given) <= SECRETS_MAX:
        raise InvalidArgument(f"{field}: one secret, or two while one follows the other", field=field)
    fix = "never write it into the file itself: {env: NAME} or {file: PATH}"
    return tuple(read_secret(_referred(each, field, resolve, fix), field=field) for each in given)


def _events(value: Any, field: str) -> frozenset[str]:
    if value is None:
        return frozenset(AlertKind)
    kinds = _texts(value, field)
    for kind in kinds:
        if kind != ANY and kind not in set(Kind):
            known = ", ".join(sorted(Kind))
            raise InvalidArgument(f"{field}: {kind!r:.40} is no kind of event: use {known} or *", field=field)
    return frozenset(kinds)


def _texts(value: Any, field: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not value or not all(isinstance(each, str) and each for each in value):
        raise InvalidArgument(f"{field}: write a list of texts", field=field)
    return value


def _labels(value: Any, field: str) -> Selector:
    if value is None:
        return Selector()
    if isinstance(value, str):
        try:
            return parse_selector(value, field=field)
        except InvalidArgument as problem:
            raise InvalidArgument(f"{field}: {problem.message}", field=field) from None
    if not isinstance(value, dict) or not all(isinstance(each, str) for pair in value.items() for each in pair):
        raise InvalidArgument(f"{field}: write a selector, as team=crm, or a mapping of texts", field=field)
    return Selector(tuple(Requirement(name, frozenset({each})) for name, each in value.items()))


def _headers(value: Any, field: str, resolve: Resolve) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > HEADERS_MAX:
        raise InvalidArgument(f"{field}: write a mapping of at most {HEADERS_MAX} headers", field=field)
    found: dict[str, str] = {}
    for name, given in value.items():
        if not isinstance(name, str) or not _HEADER.fullmatch(name) or _is_own(name.lower()):
            raise InvalidArgument(f"{field}: {name!r:.60} cannot be set", field=field)
        text = _text(given, f"{field}.{name}", resolve)
        if not text.isascii() or not text.isprintable() or len(text) > 4096:
            raise InvalidArgument(f"{field}.{name}: no printable ASCII of at most 4096 characters", field=field)
        found[name] = text
    return found


def _is_own(name: str) -> bool:
    return name in _OWN_HEADERS or name.startswith(_OWN_PREFIXES)


def _duration(value: Mapping[str, Any], name: str, place: str, limits: tuple[float, float], default: float) -> float:
    given = value.get(name)
    if given is None:
        return default
    least, most = limits
    try:
        seconds = parse_duration(given).total_seconds() if isinstance(given, str) else float(given)
    except (InvalidArgument, TypeError, ValueError):
        raise InvalidArgument(f"{place}{name}: write a duration, as 10s", field=name) from None
    if isinstance(given, bool) or not least <= seconds <= most:
        raise InvalidArgument(f"{place}{name}: use {least:g}s to {most:g}s", field=name)
    return seconds


def _tries(value: Mapping[str, Any], name: str) -> int:
    given = value.get("max_tries", Patience().max_tries)
    if not isinstance(given, int) or isinstance(given, bool) or not TRIES[0] <= given <= TRIES[1]:
        raise InvalidArgument(f"{name}.max_tries: use {TRIES[0]} to {TRIES[1]}", field="max_tries")
    return given


def _flag(value: Mapping[str, Any], field: str, name: str) -> bool:
    given = value.get(field, False)
    if not isinstance(given, bool):
        raise InvalidArgument(f"{name}.{field}: write true or false", field=field)
    return given
