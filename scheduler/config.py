"""The settings of one replica: what `schedd run` takes as flags, and tunables that only have environment names.

A flag wins over the environment, the environment over the default. Every setting `x` is `SCHEDD_X`; an empty value
counts as not set. Spans are text ("2s", "1h30m") or plain seconds ("2.5"). Whatever is wrong is one InvalidArgument
that names the flag and the environment name.

Flags (contract, part 8):
    --nats (environment: NATS_URL), --context (NATS_CONTEXT), --namespace, --monitor, --admin, --stream-replicas,
    --replica, --horizon, --webhooks, --log-format

Tunables, environment only:
    SCHEDD_LEASE  SCHEDD_LEASE_RENEW_DEADLINE  SCHEDD_LEASE_RETRY     who leads: give SCHEDD_LEASE, the others follow it
    SCHEDD_SLICE  SCHEDD_MINIMUM_INTERVAL  SCHEDD_WATERMARK_COPY      planning
    SCHEDD_BATCH  SCHEDD_DUE_ACK_WAIT  SCHEDD_CLAIM_FLOOR  SCHEDD_PAYLOAD_MAX                   dispatch
    SCHEDD_ACK_WAIT  SCHEDD_MAX_DELIVER  SCHEDD_MAX_ACK_PENDING  SCHEDD_MAX_PENDING             new queues
    SCHEDD_RECONCILE_EVERY  SCHEDD_RECONCILE_GRACE  SCHEDD_MARKER_AGE repair, and what is left of the deleted
    SCHEDD_CONNECT_TIMEOUT  SCHEDD_START_TIMEOUT  SCHEDD_SHUTDOWN  SCHEDD_APPLY_WAIT  SCHEDD_RECENT_EXECUTIONS
    SCHEDD_CLOCK_SKEW_MAX  SCHEDD_LOG_LEVEL
"""

from __future__ import annotations

import difflib
import re
import socket
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from msgspec import Struct

from scheduler.core.errors import InvalidArgument
from scheduler.wire.addresses import Address, parse_address
from scheduler.wire.ids import check_namespace
from scheduler.wire.instants import parse_duration
from scheduler.wire.names import DEFAULT_NAMESPACE

PREFIX = "SCHEDD_"
ADMIN = Address("127.0.0.1", 8088)
FLAGS = (
    "nats",
    "context",
    "namespace",
    "monitor",
    "admin",
    "stream_replicas",
    "replica",
    "horizon",
    "webhooks",
    "log_format",
)
_OWN_ENV = {"nats": "NATS_URL", "context": "NATS_CONTEXT"}
_REPLICA = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
_SERVICE_LINK = re.compile(r".*_(?:SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT(?:_.*)?)", re.ASCII)
_OTHER_NAMES = ("SCHEDD_DEBUG", "SCHEDD_TEST_STOP")  # read elsewhere: by the commands, and by checkpoints of tests
_LEASE_S = {False: 15.0, True: 30.0}  # by "more than one stream replica"
_RENEW_SHARE = 2 / 3
_RETRY_SHARE = {False: 2 / 15, True: 1 / 10}


class Settings(Struct, frozen=True, kw_only=True):
    """Checked when made: every value by itself, and the relations between them. Raises InvalidArgument."""

    nats: str | None = None
    """Server URLs, separated by commas; None: the context decides, then 127.0.0.1:4222."""
    context: str | None = None
    """Name of a context of the NATS CLI; None: the selected one, if there is one."""
    namespace: str = DEFAULT_NAMESPACE
    """Begins every subject, stream and bucket."""
    monitor: Address | None = Address("", 8080)
    """Where /metrics, /healthz and /readyz are; None: nowhere."""
    admin: Address | None = ADMIN
    """Where the Admin center is; a loopback address, since it has no sign-in yet. None: nowhere."""
    stream_replicas: int = 1
    """Copies of every stream and bucket: 1, 3 or 5."""
    replica: str = "schedd"
    """Label of this process in the lease, in metrics and in `schedctl status`; default: the host name."""
    horizon_s: float = 120.0
    """How far ahead of now occurrences are armed. Longer than a take-over, or a dead leader makes some late."""
    webhooks: str | None = None
    """A file that says which endpoints get which events: `scheduler.wire.webhooks`. None: none."""
    log_format: str = "text"
    """text for people, json for machines."""
    log_level: str = "info"
    """debug, info, warning or error."""

    lease_s: float = 15.0
    """How long a lease that nobody renews keeps others out. Default: 15 s, with several stream replicas 30 s."""
    lease_renew_deadline_s: float = 10.0
    """A leader that could not renew for this long steps down. Default: 2/3 of the lease."""
    lease_retry_s: float = 2.0
    """Between two renewals, or two attempts to become leader. Default: 2/15 (1/10) of the lease."""

    slice_s: float = 10.0
    """Nominal time planned in one go; at most the horizon."""
    minimum_interval_s: float = 1.0
    """The shortest distance between two occurrences that a schedule may ask for."""
    watermark_copy_s: float = 10.0
    """The watermark is copied to the control bucket at least this often."""

    batch: int = 256
    """Due messages, reports or signals pulled at once."""
    due_ack_wait_s: float = 5.0
    """A due message that a replica sat on for this long is given to another."""
    claim_floor_s: float = 1800.0
    """How long claim and record outlive the creation of the record at least; half of it bounds every repair."""
    payload_max: int = 65_536
    """Bytes of payload that a schedule may have."""

    ack_wait_s: float = 30.0
    """Of a new queue: a task that its worker was silent about for this long is delivered again."""
    max_deliver: int = 20
    """Of a new queue: deliveries of one task."""
    max_ack_pending: int = 1000
    """Of a new queue: tasks delivered and not acknowledged."""
    max_pending: int = 100_000
    """Of a queue: tasks waiting; above, occurrences are skipped with reason queue_full."""

    reconcile_every_s: float = 30.0
    """Between two rounds of the reconciler."""
    reconcile_grace_s: float = 30.0
    """The reconciler leaves alone what is younger than this."""
    marker_age_s: float = 3600.0
    """How long the mark of a deleted schedule stays: no replica may be out of touch for longer, and come back."""

    clock_skew_max_s: float = 30.0
    """A replica whose wall clock is further off the server's neither leads nor is ready."""
    connect_timeout_s: float = 5.0
    """How long a replica looks for a NATS server at the start; in Kubernetes long, as it may well come later."""
    start_timeout_s: float = 60.0
    """How long provisioning may take at the start."""
    shutdown_s: float = 10.0
    """How long a stop may take before what still runs is cut."""
    apply_wait_s: float = 5.0
    """How long an edit through the API waits until it is applied."""
    recent_executions: int = 10_000
    """Executions kept in memory for `execution.list` without a schedule."""

    def __post_init__(self) -> None:
        for name, option in OPTIONS.items():
            problem = option.kind.problem(getattr(self, option.field))
            if problem:
                raise _refused(name, problem)
        self._check_relations()

    def _check_relations(self) -> None:
        if not self.lease_s > self.lease_renew_deadline_s:
            raise _refused("lease_renew_deadline", f"must be shorter than the lease of {self.lease_s:g} s")
        if not self.lease_renew_deadline_s > 1.2 * self.lease_retry_s:
            raise _refused("lease_retry", f"times 1.2 must be below the deadline of {self.lease_renew_deadline_s:g} s")
        if self.slice_s > self.horizon_s:
            raise _refused("slice", f"must not be longer than the horizon of {self.horizon_s:g} s")
        if self.claim_floor_s / 2 <= self.reconcile_every_s + self.reconcile_grace_s:
            raise _refused("claim_floor", "must be more than twice SCHEDD_RECONCILE_EVERY + SCHEDD_RECONCILE_GRACE")
        if self.admin is not None and not self.admin.is_loopback:
            problem = f"{self.admin} is no loopback address and the Admin center has no sign-in yet; use {ADMIN} or off"
            raise _refused("admin", problem)

    @classmethod
    def load(cls, flags: Mapping[str, object], env: Mapping[str, str]) -> Settings:
        """The settings from flags (by name without dashes, None for those not given) and an environment."""
        unknown = flags.keys() - set(FLAGS)
        if unknown:
            raise InvalidArgument(f"there is no setting {min(unknown)!r}", field=min(unknown))
        given = {**_connection(flags, env), **_given(flags, env)}
        values: dict[str, Any] = {OPTIONS[name].field: _read(name, text) for name, text in given.items()}
        return cls(**{**_derived(values), **values})

    def warnings(self, env: Mapping[str, str]) -> list[str]:
        """What is allowed and yet worth a line in the log: a short horizon, an environment name that means nothing."""
        return [*self._short_horizon(), *_unknown_names(env)]

    def _short_horizon(self) -> list[str]:
        take_over_s = self.lease_s + 2.2 * self.lease_retry_s
        if self.horizon_s > take_over_s:
            return []
        text = f"a horizon of {self.horizon_s:g} s is shorter than a take-over ({take_over_s:g} s)"
        return [f"{text}: occurrences may be late when a leader dies"]


class Span(NamedTuple):
    """A duration in seconds, from text like "2s" or plain seconds."""

    least_s: float
    most_s: float

    def read(self, text: str) -> float:
        try:
            return float(text)
        except ValueError:
            return parse_duration(text).total_seconds()

    def problem(self, value: float) -> str | None:
        if self.least_s <= value <= self.most_s:
            return None
        return f"{value:g} s is out of range: use {self.least_s:g}s to {self.most_s:g}s"


class Count(NamedTuple):
    least: int
    most: int

    def read(self, text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,12}", text, re.ASCII):
            raise InvalidArgument(f"{text!r:.40} is not a whole number")
        return int(text)

    def problem(self, value: int) -> str | None:
        return None if self.least <= value <= self.most else f"{value} is out of range: use {self.least} to {self.most}"


class Choice(NamedTuple):
    words: tuple[str, ...]

    def read(self, text: str) -> str:
        return text

    def problem(self, value: str) -> str | None:
        return None if value in self.words else f"{value!r:.40} is not one of {', '.join(self.words)}"


class Replicas(NamedTuple):
    allowed: tuple[int, ...] = (1, 3, 5)

    def read(self, text: str) -> int:
        return Count(0, 0).read(text)

    def problem(self, value: int) -> str | None:
        return None if value in self.allowed else f"{value} is not a number of stream replicas: use 1, 3 or 5"


class Listen(NamedTuple):
    """An address, or `off`."""

    def read(self, text: str) -> Address | None:
        return parse_address(text, field="")

    def problem(self, value: Address | None) -> str | None:
        return None


class Text(NamedTuple):
    """Any text that `check` returns without raising."""

    check: Callable[[str], object] = str

    def read(self, text: str) -> str:
        return text

    def problem(self, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            self.check(value)
        except InvalidArgument as refusal:
            return refusal.message
        return None


def _check_replica(text: str) -> None:
    if not _REPLICA.fullmatch(text):
        raise InvalidArgument(f"{text!r:.80} is not a label: use at most 63 letters, digits, '.', '_' and '-'")


class Option(NamedTuple):
    """One setting: the field that holds it and what it may be."""

    field: str
    kind: Any


def _spans(**ranges: tuple[float, float]) -> dict[str, Option]:
    return {name: Option(f"{name}_s", Span(*limits)) for name, limits in ranges.items()}


def _counts(**ranges: tuple[int, int]) -> dict[str, Option]:
    return {name: Option(name, Count(*limits)) for name, limits in ranges.items()}


OPTIONS: Mapping[str, Option] = {
    "nats": Option("nats", Text()),
    "context": Option("context", Text()),
    "namespace": Option("namespace", Text(check_namespace)),
    "monitor": Option("monitor", Listen()),
    "admin": Option("admin", Listen()),
    "stream_replicas": Option("stream_replicas", Replicas()),
    "replica": Option("replica", Text(_check_replica)),
    "webhooks": Option("webhooks", Text()),
    "log_format": Option("log_format", Choice(("text", "json"))),
    "log_level": Option("log_level", Choice(("debug", "info", "warning", "error"))),
    **_spans(
        horizon=(2, 3600),
        lease=(0.5, 600),
        lease_renew_deadline=(0.2, 600),
        lease_retry=(0.05, 60),
        slice=(0.1, 3600),
        minimum_interval=(0.1, 86400),
        watermark_copy=(0.5, 60),
        due_ack_wait=(1, 60),
        claim_floor=(10, 7 * 86400),
        ack_wait=(1, 86400),
        reconcile_every=(0.2, 3600),
        reconcile_grace=(0.2, 3600),
        marker_age=(10, 7 * 86400),
        clock_skew_max=(1, 3600),
        connect_timeout=(1, 86400),
        start_timeout=(1, 3600),
        shutdown=(0.5, 300),
        apply_wait=(0.1, 60),
    ),
    **_counts(
        batch=(1, 256),
        payload_max=(1, 8 * 1024 * 1024),
        max_deliver=(1, 1_000_000),
        max_ack_pending=(1, 1_000_000),
        max_pending=(1, 10_000_000),
        recent_executions=(100, 1_000_000),
    ),
}


def env_name(name: str) -> str:
    """The environment name of a setting: SCHEDD_HORIZON, NATS_URL."""
    return _OWN_ENV.get(name, PREFIX + name.upper())


def _refused(name: str, problem: str) -> InvalidArgument:
    flag = f"--{name.replace('_', '-')} or " if name in FLAGS else ""
    return InvalidArgument(f"{name}: {problem} (set by {flag}{env_name(name)})", field=name)


def _read(name: str, given: object) -> object:
    try:
        return OPTIONS[name].kind.read(str(given).strip())
    except InvalidArgument as refusal:
        raise _refused(name, refusal.message) from None


def _connection(flags: Mapping[str, object], env: Mapping[str, str]) -> dict[str, object]:
    """Server and context: flags if there is one, else the environment, where NATS_URL wins (contract, part 8)."""
    named = {name: flags[name] for name in _OWN_ENV if flags.get(name)}
    if named:
        return named
    return next(({name: env[word]} for name, word in _OWN_ENV.items() if env.get(word)), {})


def _given(flags: Mapping[str, object], env: Mapping[str, str]) -> dict[str, object]:
    given: dict[str, object] = {}
    for name in OPTIONS.keys() - _OWN_ENV.keys():
        value = flags.get(name)
        value = env.get(env_name(name)) if value is None else value
        if value not in (None, ""):
            given[name] = value
    return given


def _derived(values: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults that follow from other settings or from the machine."""
    several = values.get("stream_replicas", 1) > 1
    lease_s = values.get("lease_s", _LEASE_S[several])
    return {
        "lease_s": lease_s,
        "lease_renew_deadline_s": lease_s * _RENEW_SHARE,
        "lease_retry_s": lease_s * _RETRY_SHARE[several],
        "slice_s": min(10.0, values.get("horizon_s", 120.0)),
        "replica": _host_label(),
    }


def _host_label() -> str:
    label = re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname())[:63].strip("._-")
    return label or "schedd"


def _unknown_names(env: Mapping[str, str]) -> list[str]:
    """Names that look like ours and are not; Kubernetes' service links (SCHEDD_PORT_8080_TCP ...) are none of them."""
    known = [env_name(name) for name in OPTIONS]
    strange = sorted(name for name in env if name.startswith(PREFIX) and name not in {*known, *_OTHER_NAMES})
    return [_strange(name, known) for name in strange if not _SERVICE_LINK.fullmatch(name)]


def _strange(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"{name} is no setting of schedd" + (f"; did you mean {close[0]}?" if close else "")
