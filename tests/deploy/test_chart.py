"""helm/schedd by the real Helm: it lints, renders in many ways, fits Kubernetes' schemas, itself, and our program."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import kubernetes_validate
import pytest

from scheduler import __version__
from scheduler.config import Settings
from tests.deploy import cross_checks
from tests.deploy.cases import CASES, KUBERNETES, SCHEDULE
from tests.deploy.tools import CHART, Object, helm, of_kind, only, refusal, run, template

CUSTOM = {"ServiceMonitor", "PrometheusRule", "ScaledObject"}  # of operators: no schema here knows them
case = pytest.mark.parametrize("values", CASES.values(), ids=CASES)


@case
def test_it_lints(values: dict[str, Any]) -> None:
    """`helm lint --strict` has nothing to say."""
    done = helm("lint", "--strict", CHART, values=values)
    assert done.returncode == 0, done.stdout
    assert not re.search(r"\[(WARNING|ERROR)\]", done.stdout)


@case
def test_every_object_is_one_that_kubernetes_knows(values: dict[str, Any]) -> None:
    """No unknown field and no wrong type, in any version of Kubernetes that the chart is for."""
    objects = [each for each in template(values) if each["kind"] not in CUSTOM]
    assert len(objects) > 1
    for version in KUBERNETES:
        for each in objects:
            kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_version_renders_the_same(version: str) -> None:
    """The chart asks for no version; each from 1.28 on gets the same objects, in the barest case and the fullest."""
    for name in ("nothing given", "everything"):
        assert template(CASES[name], f"{version}.0") == template(CASES[name])


def test_an_older_kubernetes_is_refused() -> None:
    """1.27 has no stable eviction policy of unhealthy pods."""
    done = helm("template", CHART, "--kube-version", "1.27.9")
    assert done.returncode != 0
    assert "1.28" in done.stderr


@case
def test_everything_fits(values: dict[str, Any]) -> None:
    """Selectors, ports, volumes, accounts, Pod Security, probes, flags, environment, schedules."""
    assert cross_checks.problems(template(values)) == []


def broken(change: str) -> list[Object]:
    """The fullest rendering with one thing wrong."""
    objects = deepcopy(template(CASES["everything"]))
    pod = only(objects, "Deployment")["spec"]["template"]
    [container] = pod["spec"]["containers"]
    match change:
        case "selector":
            only(objects, "Service")["spec"]["selector"]["app.kubernetes.io/component"] = "demon"
        case "selects the test":
            del only(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
        case "port":
            only(objects, "Service")["spec"]["ports"][0]["targetPort"] = "http"
        case "volume":
            pod["spec"]["volumes"].pop()
        case "path":
            container["livenessProbe"]["httpGet"]["path"] = "/readyz"
        case "flag":
            container["args"][1] = "--monitor=:9999"
        case "environment":
            container["env"].append({"name": "SCHEDD_LEESE", "value": "20s"})
        case "root":
            container["securityContext"]["readOnlyRootFilesystem"] = False
        case "account":
            pod["spec"]["serviceAccountName"] = "nobody"
        case "twice":
            objects.append(only(objects, "Service"))
    return objects


CHANGES = ("selector", "selects the test", "port", "volume", "path", "flag", "environment", "root", "account", "twice")


@pytest.mark.parametrize("change", CHANGES)
def test_the_checks_see_what_is_wrong(change: str) -> None:
    """Each check is one that can fail."""
    assert cross_checks.problems(broken(change)) != []


def test_a_flag_that_we_do_not_have_is_seen() -> None:
    """Arguments are parsed by our own command line."""
    objects = broken("none")
    only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"].append("--shards=3")
    with pytest.raises(Exception, match="shards"):
        cross_checks.problems(objects)


def test_a_misspelt_field_is_seen() -> None:
    """The schemas of Kubernetes are applied strictly."""
    deployment = only(broken("none"), "Deployment")
    deployment["spec"]["template"]["spec"]["terminationGracePeriodSecond"] = 3
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriodSecond"):
        kubernetes_validate.validate(deployment, "1.36", strict=True)


# --- what was decided


def test_three_replicas_that_hand_over() -> None:
    """With no value given: 3 replicas, 3 copies, a new one ready before an old one goes, time to hand over."""
    deployment = only(template(), "Deployment")["spec"]
    pod = deployment["template"]["spec"]
    assert deployment["replicas"] == 3
    assert deployment["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert "--stream-replicas=3" in pod["containers"][0]["args"]
    assert pod["terminationGracePeriodSeconds"] >= Settings().shutdown_s + 12
    assert only(template(), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert pod["enableServiceLinks"] is False


def test_each_pod_is_a_replica_of_its_own_name() -> None:
    """The label in the lease and in `schedctl status` is the pod's name."""
    [container] = only(template(), "Deployment")["spec"]["template"]["spec"]["containers"]
    [replica] = [each for each in container["env"] if each["name"] == "SCHEDD_REPLICA"]
    assert replica["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_versions_agree() -> None:
    """The chart installs the version it is kept with."""
    chart = run("helm", "show", "chart", CHART).stdout
    assert f"appVersion: {__version__}\n" in chart.replace('"', "")
    image = only(template(), "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == f"schedd:{__version__}"


def test_the_network_policy_follows_the_servers() -> None:
    """Ports of `nats.url` are open, and only those; a server that names none listens on the usual one."""

    def opened(url: str) -> list[int]:
        policy = only(template({"nats": {"url": url}}), "NetworkPolicy")
        return [port["port"] for port in policy["spec"]["egress"][1]["ports"]]

    assert opened("a:4333,nats://b:4444/,c") == [4333, 4444, 4222]
    assert opened("nats://nats:4222") == opened("tls://user:1234@nats") == opened("a,nats://b") == [4222]
    assert opened("wss://a,wss://b:8443") == [443, 8443]
    assert opened("ws://a/") == [80]


def test_the_scaler_asks_the_queue() -> None:
    """KEDA's nats-jetstream scaler on the consumer that is named as the queue."""
    trigger = only(template(CASES["everything"]), "ScaledObject")["spec"]["triggers"][0]
    assert trigger["type"] == "nats-jetstream"
    wanted = {"stream": "SCHEDD_TASKS", "consumer": "EMAIL", "account": "$G", "lagThreshold": "50"}
    assert wanted.items() <= trigger["metadata"].items()
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    other = only(template(CASES["one of everything"]), "ScaledObject")["spec"]["triggers"][0]
    assert other["metadata"]["stream"] == "TEAM_ONE_TASKS"


def test_large_numbers_stay_numbers() -> None:
    """Helm reads 5000000 as a float; it must not become 5e+06."""
    [container] = only(template(CASES["everything"]), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert {"name": "SCHEDD_MAX_PENDING", "value": "5000000"} in container["env"]


def test_large_ids_and_limits_stay_numbers() -> None:
    """Users and groups as OpenShift numbers them, in every pod, and whatever else may be large."""
    number = 1_000_640_000
    values = {
        "securityContext": {"runAsUser": number, "runAsGroup": number},
        "schedules": {"a": SCHEDULE},
        "applyJob": {"activeDeadlineSeconds": 2_000_000},
        "keda": {"scaledObjects": [{"name": "w", "queue": "Q", "tasksPerReplica": 2_000_000}]},
    }
    done = helm("template", "x", CHART, values=values)
    assert done.stdout.count(f"runAsUser: {number}\n") == done.stdout.count(f"fsGroup: {number}\n") == 3
    assert "e+0" not in done.stdout


def test_the_notes_help() -> None:
    """After an install it says how to wait, check and look, and that the image has to be built first."""
    done = helm("install", "x", CHART, "--dry-run=client", values={"schedules": {"a": SCHEDULE}})
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    assert "schedctl status" in notes
    assert "no registry serves" in notes
    assert "1 schedule(s)" in notes


def test_no_job_without_schedules() -> None:
    """Nothing to apply, no hook that could fail."""
    assert of_kind(template(), "Job") == []
    job = only(template({"schedules": {"a": SCHEDULE}}), "Job")
    assert "post-upgrade" in job["metadata"]["annotations"]["helm.sh/hook"]


# --- refusals

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"replica": 3}, "additional properties 'replica' not allowed"),
    ({"replicas": "three"}, "'/replicas': got string, want integer"),
    ({"schedd": {"streamReplicas": 2}}, "must be one of 1, 3, 5"),
    ({"schedd": {"settings": {"SCHEDD_LEESE": "3s"}}}, "'SCHEDD_LEESE' not allowed"),
    ({"schedd": {"horizon": "2 minutes"}}, "/schedd/horizon"),
    ({"schedd": {"namespace": "Team"}}, "/schedd/namespace"),
    ({"monitor": {"port": 80}}, "'/monitor/port': minimum: got 80"),
    ({"image": {"tag": "a b"}}, "/image/tag"),
    ({"image": {"digest": "latest"}}, "/image/digest"),
    ({"nats": {"url": "http://nats:4222"}}, "/nats/url"),
    ({"nats": {"url": ""}}, "/nats/url"),
    ({"nats": {"creds": {"secret": "x"}}}, "additional properties 'secret' not allowed"),
    ({"nats": {"creds": "user.creds"}}, "'/nats/creds': got string, want object"),
    ({"nats": {"creds": {"secretName": "a"}, "token": {"secretName": "b"}}}, "nats.creds, nats.token: give one way"),
    ({"nats": {"context": {"secretName": "a"}, "urlSecret": {"name": "b"}}}, "a context brings its servers"),
    ({"terminationGracePeriodSeconds": 5}, "5 s is too short"),
    ({"schedd": {"shutdown": "5m"}}, "use 312 or more"),
    ({"nats": {"waitForServer": "90m"}}, "90m is too long: use 1h or less"),
    ({"updateStrategy": {"maxSurge": 0}}, "must not both be 0"),
    ({"podDisruptionBudget": {"maxUnavailable": None}}, "give minAvailable or maxUnavailable"),
    ({"podDisruptionBudget": {"maxUnavailable": "200%"}}, "/podDisruptionBudget/maxUnavailable"),
    ({"securityContext": {"runAsUser": 0}}, "/securityContext/runAsUser"),
    ({"schedules": {"bad id": SCHEDULE}}, "additional properties 'bad id' not allowed"),
    ({"schedules": {"a": {"every": "1s", "type": "t"}}}, "missing property 'queue'"),
    ({"schedules": {"a": {**SCHEDULE, "id": "b"}}}, "/schedules/a/id"),
    ({"keda": {"scaledObjects": [{"name": "w"}]}}, "missing property 'queue'"),
    ({"prometheusRule": {"enabled": True, "disabledAlerts": ["Nope"]}}, 'there is no alert "Nope"; there are Schedd'),
]


@pytest.mark.parametrize(("values", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_a_wrong_value_is_refused(values: dict[str, Any], said: str) -> None:
    """Before anything reaches a cluster, by a message that names the value."""
    assert said in refusal(values)
