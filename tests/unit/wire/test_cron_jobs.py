"""CronJobs as definitions: the same times, limits and policies, and every other thing told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.wire.cron_jobs import read_cron_jobs
from scheduler.wire.imports import Import, Terms
from scheduler.wire.schedule import parse_document


def job(name: str = "report", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name, "namespace": "crm"},
        "spec": {"schedule": "*/5 * * * *", "timeZone": "Europe/Berlin", **spec},
    }  # fmt: skip


def template(container: dict[str, Any], pod: dict[str, Any] | None = None, **job_spec: Any) -> dict[str, Any]:
    return {"spec": {**job_spec, "template": {"spec": {"containers": [container], **(pod or {})}}}}


def read(*manifests: Any) -> Import:
    values = [(manifest, number) for number, manifest in enumerate(manifests, start=1)]
    return read_cron_jobs(values, Terms("k8s", "container"))


def test_all_of_it() -> None:
    """Everything that has a counterpart is carried over."""
    manifest = job(
        concurrencyPolicy="Forbid", startingDeadlineSeconds=120, suspend=True, failedJobsHistoryLimit=3,
        jobTemplate=template(
            {"name": "c", "image": "crm:1", "command": ["run"], "args": ["-v"], "resources": {},
             "env": [{"name": "A", "value": "1"}, {"name": "S", "valueFrom": {"secretKeyRef": {}}}]},
            {"restartPolicy": "OnFailure", "volumes": [], "serviceAccountName": "x"},
            backoffLimit=2, activeDeadlineSeconds=600, ttlSecondsAfterFinished=3600, parallelism=2,
        ),
    )  # fmt: skip
    manifest["metadata"]["labels"] = {"team": "crm"}
    [entry] = read(manifest).found
    assert entry.document == {
        "cron": "*/5 * * * *", "timezone": "Europe/Berlin", "queue": "k8s", "type": "container",
        "payload": {"name": "report", "namespace": "crm", "image": "crm:1", "command": ["run"], "args": ["-v"],
                    "env": {"A": "1"}},
        "overlap": "skip", "catch_up": {"window": "120s"}, "max_tries": 3, "deadline": "600s",
        "retention": {"age": "3600s"}, "paused": True, "pause_note": "suspended in Kubernetes",
        "labels": {"team": "crm"},
    }  # fmt: skip
    told = " ".join(entry.notes)
    for word in ("serviceAccountName", "volumes", "resources", "S", "failedJobsHistoryLimit", "parallelism", "start"):
        assert word in told
    parse_document(entry.id, entry.document)


@pytest.mark.parametrize(("policy", "overlap"), [("Allow", "allow"), ("Forbid", "skip"), ("Replace", "cancel_other")])
def test_policies(policy: str, overlap: str) -> None:
    """Each concurrency policy has its overlap; Kubernetes' own defaults hold where nothing is said."""
    assert read(job(concurrencyPolicy=policy)).found[0].document["overlap"] == overlap
    plain = read(job()).found[0].document
    assert (plain["overlap"], plain["max_tries"]) == ("allow", 7)


def test_lists_and_other_kinds() -> None:
    """A List is what it holds; what is no CronJob is counted; names that repeat get their namespace."""
    found = read({"kind": "List", "items": [job("a"), {"kind": "Service"}, job("a")]}, {"kind": "Deployment"})
    assert [entry.id for entry in found.found] == ["a", "crm.a"]
    assert found.notes == [(0, "2 other objects are no CronJob and left alone")]


def test_zones() -> None:
    """A zone in the expression counts; without any, it is told that UTC is meant."""
    manifest = job(timeZone=None, schedule="TZ=Asia/Tokyo 0 9 * * *")
    assert read(manifest).found[0].notes[0].startswith("0 containers")
    assert "UTC" in read(job(timeZone=None)).found[0].notes[0]


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ({"kind": "CronJob"}, "without metadata.name"),
        ({"kind": "CronJob", "metadata": {"name": "x"}, "spec": {"schedule": 5}}, "spec.schedule"),
        (job(schedule="61 * * * *"), "no minute"),
        (job(timeZone="Mars/Base"), "Mars/Base"),
    ],
)
def test_left_out(manifest: dict[str, Any], told: str) -> None:
    """What cannot be a schedule is left out, with its line and the reason."""
    found = read(manifest)
    assert found.found == []
    assert found.left_out[0][0] == 1
    assert told in found.left_out[0][1]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 200) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)
SPEC = st.dictionaries(
    st.sampled_from(["schedule", "timeZone", "concurrencyPolicy", "suspend", "startingDeadlineSeconds", "jobTemplate"]),
    ANY,
)


@given(SPEC, ANY)
def test_any_manifest(spec: dict[str, Any], metadata: Any) -> None:
    """Nothing but valid definitions comes out, whatever goes in."""
    inner = {"spec": {"backoffLimit": metadata, "template": {"spec": {"containers": metadata}}}}
    for manifest in (metadata, {**job(), "metadata": metadata}, job(**{"jobTemplate": inner, **spec})):
        for entry in read(json.loads(json.dumps(manifest))).found:
            parse_document(entry.id, entry.document)
