"""CronJobs of Kubernetes (batch/v1) as definitions: when, how often at once, how many tries. Pure.

What runs is a container, and starting one is the worker's business: image, command, arguments and plain variables go
into the payload. Whatever else a pod may have is told as not carried over, never dropped silently.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from scheduler.wire.imports import Import, Imported, Terms, id_of

_OVERLAP: Final = {"Allow": "allow", "Forbid": "skip", "Replace": "cancel_other"}
_POD_KNOWN: Final = frozenset({"containers", "restartPolicy", "activeDeadlineSeconds"})
_CONTAINER_KNOWN: Final = frozenset({"name", "image", "command", "args", "env", "workingDir"})
_POD_SILENT: Final = frozenset(
    {"dnsPolicy", "schedulerName", "securityContext", "terminationGracePeriodSeconds"}  # set by every API server
)
_CONTAINER_SILENT: Final = frozenset({"imagePullPolicy", "terminationMessagePath", "terminationMessagePolicy"})
_BACKOFF_LIMIT: Final = 6
_TRIES_MAX: Final = 100


def read_cron_jobs(values: Iterable[tuple[Any, int]], terms: Terms) -> Import:
    """Manifests with the lines they begin in; a List is what it holds. Other kinds are counted and left alone."""
    found = Import()
    others = 0
    for manifest, line in _manifests(values):
        if _text(manifest, "kind") != "CronJob":
            others += 1
            continue
        name = _text(_map(manifest, "metadata"), "name")
        if not name or not isinstance(_map(manifest, "spec").get("schedule"), str):
            found.left_out.append((line, "a CronJob without metadata.name or spec.schedule"))
            continue
        found.add(_imported(found, manifest, name, line, terms))
    if others:
        found.note(0, f"{others} other {'object is' if others == 1 else 'objects are'} no CronJob and left alone")
    return found


def _manifests(values: Iterable[tuple[Any, int]]) -> Iterator[tuple[Mapping[str, Any], int]]:
    for value, line in values:
        if isinstance(value, dict) and isinstance(value.get("items"), list):
            yield from _manifests((item, line) for item in value["items"])
        else:
            yield (value if isinstance(value, dict) else {}), line


def _imported(found: Import, manifest: Mapping[str, Any], name: str, line: int, terms: Terms) -> Imported:
    metadata, spec = _map(manifest, "metadata"), _map(manifest, "spec")
    job = _map(_map(spec, "jobTemplate"), "spec")
    notes: list[str] = []
    document: dict[str, Any] = {"cron": spec["schedule"]}
    zone = _text(spec, "timeZone") or terms.timezone
    if zone:
        document["timezone"] = zone
    elif "TZ=" not in spec["schedule"]:
        notes.append("Kubernetes reads the schedule in the zone of its controller, here it is UTC")
    document |= {"queue": terms.queue, "type": terms.type, "payload": _payload(metadata, name, job, notes)}
    document["overlap"] = _OVERLAP.get(_text(spec, "concurrencyPolicy") or "Allow", "allow")
    document |= _limits(spec, job, notes)
    if spec.get("suspend") is True:
        document |= {"paused": True, "pause_note": "suspended in Kubernetes"}
    labels = {key: value for key, value in _map(metadata, "labels").items() if isinstance(value, str)}
    if labels or terms.labels:
        document["labels"] = {**labels, **terms.labels}
    histories = [field for field in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit") if field in spec]
    if histories:
        notes.append(f"{', '.join(histories)}: executions are kept by age, see retention")
    schedule_id = id_of(_wanted_id(found, metadata, name), terms, (each.id for each in found.found), "cronjob")
    return Imported(schedule_id, document, line, tuple(notes))


def _wanted_id(found: Import, metadata: Mapping[str, Any], name: str) -> str:
    """The name; with the namespace in front where two have one name."""
    is_taken = any(each.id.endswith(name) for each in found.found)
    space = _text(metadata, "namespace")
    return f"{space}.{name}" if is_taken and space else name


def _limits(spec: Mapping[str, Any], job: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if (window := _count(spec, "startingDeadlineSeconds")) is not None:
        limits["catch_up"] = {"window": f"{window}s"}
    tries = (_count(job, "backoffLimit") if "backoffLimit" in job else _BACKOFF_LIMIT) or 0
    limits["max_tries"] = min(tries + 1, _TRIES_MAX)
    if tries + 1 > _TRIES_MAX:
        notes.append(f"backoffLimit {tries}: at most {_TRIES_MAX} tries here")
    if (deadline := _count(job, "activeDeadlineSeconds")) is not None:
        limits["deadline"] = f"{deadline}s"
        notes.append("activeDeadlineSeconds: counted from the fire time here, not from the start")
    if (age := _count(job, "ttlSecondsAfterFinished")) is not None:
        limits["retention"] = {"age": f"{age}s"}
    several = [field for field in ("completions", "parallelism") if (_count(job, field) or 1) > 1]
    if several:
        notes.append(f"{', '.join(several)} above 1: one task at each fire here")
    return limits


def _payload(metadata: Mapping[str, Any], name: str, job: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    pod = _map(_map(job, "template"), "spec")
    containers = [each for each in _list(pod, "containers") if isinstance(each, dict)]
    first = containers[0] if containers else {}
    if len(containers) != 1:
        notes.append(f"{len(containers)} containers: the payload has the first")
    left = sorted(set(pod) - _POD_KNOWN - _POD_SILENT) + sorted(set(first) - _CONTAINER_KNOWN - _CONTAINER_SILENT)
    if left:
        notes.append(f"not carried over: {', '.join(map(str, left))}")
    payload = {"name": name, "namespace": _text(metadata, "namespace"), "image": first.get("image")}
    payload |= {field: first.get(field) for field in ("command", "args", "workingDir")}
    payload["env"] = _env(first, notes)
    return {field: value for field, value in payload.items() if value}


def _env(container: Mapping[str, Any], notes: list[str]) -> dict[str, str]:
    variables = [each for each in _list(container, "env") if isinstance(each, dict) and "name" in each]
    secret = [str(each["name"]) for each in variables if "valueFrom" in each]
    if secret:
        notes.append(f"variables from elsewhere are left out: {', '.join(secret)}")
    return {str(each["name"]): str(each.get("value", "")) for each in variables if "valueFrom" not in each}


def _map(value: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    found = value.get(field)
    return found if isinstance(found, dict) else {}


def _list(value: Mapping[str, Any], field: str) -> list[Any]:
    found = value.get(field)
    return found if isinstance(found, list) else []


def _text(value: Mapping[str, Any], field: str) -> str:
    found = value.get(field)
    return found if isinstance(found, str) else ""


def _count(value: Mapping[str, Any], field: str) -> int | None:
    found = value.get(field)
    return found if type(found) is int and found >= 0 else None
