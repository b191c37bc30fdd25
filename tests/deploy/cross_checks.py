"""What a cluster would find wrong with objects and no schema tells: they do not fit each other, or not our program.

Each check yields sentences; none means that all fits.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import typer

from cli.schedctl import app as schedctl
from cli.schedd import app as schedd
from scheduler.config import Settings
from scheduler.core.errors import InvalidArgument
from scheduler.jetstream.connection import _AUTH_ENV, _TLS_ENV
from scheduler.web.monitor import Health, monitor_app
from scheduler.wire.schedule import parse_schedule
from scheduler.wire.webhooks import read_webhooks
from tests.deploy.tools import NAMESPACE, Object, of_kind

APPS = {"schedd": schedd, "schedctl": schedctl}
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
NATS_ENV = {"NATS_URL", "NATS_CONTEXT", *_AUTH_ENV, *_TLS_ENV.values()}


def problems(objects: list[Object]) -> list[str]:
    """Everything that does not fit."""
    checks = (_names, _selectors, _ports, _volumes, _accounts, _security, _probes, _programs, _schedules)
    return [problem for check in checks for problem in check(objects)]


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Every pod there will be, as (who makes it, its template: metadata and spec)."""
    for each in objects:
        name = f"{each['kind']} {each['metadata']['name']}"
        if each["kind"] in {"Deployment", "Job"}:
            yield name, each["spec"]["template"]
        elif each["kind"] == "Pod":
            yield name, each


def containers(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    for name, pod in pods(objects):
        for container in pod["spec"]["containers"]:
            yield f"{name}, container {container['name']}", container


def environment(container: Object) -> dict[str, str]:
    """Its environment; what comes from elsewhere stands in angle brackets."""
    return {each["name"]: each.get("value", f"<{each['name']}>") for each in container.get("env", [])}


def _names(objects: list[Object]) -> Iterator[str]:
    seen = Counter((each["kind"], each["metadata"]["name"]) for each in objects)
    yield from (f"{kind} {name} is there {count} times" for (kind, name), count in seen.items() if count > 1)
    for each in objects:
        metadata = each["metadata"]
        if not NAME.fullmatch(metadata["name"]):
            yield f"{metadata['name']!r} is no name of a {each['kind']}"
        if metadata.get("namespace") != NAMESPACE:
            yield f"{each['kind']} {metadata['name']} is in the namespace {metadata.get('namespace')}"
        yield from _labels(f"{each['kind']} {metadata['name']}", metadata.get("labels", {}))
    for name, pod in pods(objects):
        yield from _labels(f"the pod of {name}", pod["metadata"]["labels"])


def _labels(what: str, labels: dict[str, Any]) -> Iterator[str]:
    for key, value in labels.items():
        if not isinstance(value, str) or not LABEL.fullmatch(value):
            yield f"{what}: label {key} has the value {value!r}"


def _selectors(objects: list[Object]) -> Iterator[str]:
    daemons = [pod["metadata"]["labels"] for name, pod in pods(objects) if name.startswith("Deployment")]
    others = [pod["metadata"]["labels"] for name, pod in pods(objects) if not name.startswith("Deployment")]
    for name, selector in _daemon_selectors(objects):
        if not selector or not all(selector.items() <= labels.items() for labels in daemons):
            yield f"{name} does not select the daemon: {selector}"
        if any(selector.items() <= labels.items() for labels in others):
            yield f"{name} selects more than the daemon: {selector}"
    for policy in of_kind(objects, "NetworkPolicy"):
        selector = policy["spec"]["podSelector"]["matchLabels"]
        if not all(selector.items() <= labels.items() for labels in daemons + others):
            yield f"the NetworkPolicy leaves pods of the release out: {selector}"
    for monitor in of_kind(objects, "ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"]
        if not any(selector.items() <= each["metadata"]["labels"].items() for each in of_kind(objects, "Service")):
            yield f"the ServiceMonitor selects no Service: {selector}"


def _daemon_selectors(objects: list[Object]) -> Iterator[tuple[str, dict[str, str]]]:
    for each in objects:
        if each["kind"] == "Service":
            yield "the Service", each["spec"]["selector"]
        if each["kind"] in {"Deployment", "PodDisruptionBudget"}:
            yield f"the {each['kind']}", each["spec"]["selector"]["matchLabels"]
        if each["kind"] == "Deployment":
            for spread in each["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
                yield f"the spread over {spread['topologyKey']}", spread["labelSelector"]["matchLabels"]


def _ports(objects: list[Object]) -> Iterator[str]:
    ports = {port["name"] for _, container in containers(objects) for port in container.get("ports", [])}
    service_ports = {port["name"] for each in of_kind(objects, "Service") for port in each["spec"]["ports"]}
    for what, port in _named_ports(objects):
        if isinstance(port, str) and port not in ports:
            yield f"{what}: no container has a port {port!r}"
    for monitor in of_kind(objects, "ServiceMonitor"):
        if {each["port"] for each in monitor["spec"]["endpoints"]} - service_ports:
            yield "the ServiceMonitor names a port that the Service has not"


def _named_ports(objects: list[Object]) -> Iterator[tuple[str, Any]]:
    for each in of_kind(objects, "Service"):
        yield from (("the Service", port["targetPort"]) for port in each["spec"]["ports"])
    for each in of_kind(objects, "NetworkPolicy"):
        rules = [*each["spec"].get("ingress", []), *each["spec"].get("egress", [])]
        yield from (("the NetworkPolicy", port["port"]) for rule in rules for port in rule.get("ports", []))
    for name, container in containers(objects):
        yield from ((name, probe["httpGet"]["port"]) for probe in _probes_of(container).values())


def _volumes(objects: list[Object]) -> Iterator[str]:
    maps = {each["metadata"]["name"] for each in of_kind(objects, "ConfigMap")}
    for name, pod in pods(objects):
        volumes = Counter(volume["name"] for volume in pod["spec"].get("volumes", []))
        mounts = [mount for container in pod["spec"]["containers"] for mount in container.get("volumeMounts", [])]
        yield from (f"{name}: two volumes {volume}" for volume, count in volumes.items() if count > 1)
        yield from (f"{name}: nothing to mount as {mount['name']}" for mount in mounts if mount["name"] not in volumes)
        yield from (f"{name}: {left} is mounted nowhere" for left in volumes.keys() - {each["name"] for each in mounts})
        for container in pod["spec"]["containers"]:
            paths = Counter(mount["mountPath"] for mount in container.get("volumeMounts", []))
            yield from (f"{name}: two mounts at {path}" for path, count in paths.items() if count > 1)
        used = {volume["configMap"]["name"] for volume in pod["spec"].get("volumes", []) if "configMap" in volume}
        yield from (f"{name}: there is no ConfigMap {missing}" for missing in used - maps)


def _accounts(objects: list[Object]) -> Iterator[str]:
    made = {each["metadata"]["name"] for each in of_kind(objects, "ServiceAccount")} | {"default"}
    for name, pod in pods(objects):
        if pod["spec"].get("serviceAccountName", "default") not in made:
            yield f"{name}: there is no ServiceAccount {pod['spec']['serviceAccountName']}"
        if pod["spec"].get("automountServiceAccountToken") is not False:
            yield f"{name} gets a token"
    yield from (f"a Secret is in the release: {each['metadata']['name']}" for each in of_kind(objects, "Secret"))


def _security(objects: list[Object]) -> Iterator[str]:
    """Pod Security Standards, level "restricted", plus a root that nobody writes to."""
    for name, pod in pods(objects):
        security = pod["spec"].get("securityContext", {})
        if security.get("runAsNonRoot") is not True or security.get("runAsUser") == 0:
            yield f"{name} may run as root"
        if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{name} has no seccomp profile"
        yield from (f"{name} has {word}" for word in ("hostNetwork", "hostPID", "hostIPC") if pod["spec"].get(word))
        yield from (f"{name} mounts a folder of the node" for each in pod["spec"]["volumes"] if "hostPath" in each)
    for name, container in containers(objects):
        security = container.get("securityContext", {})
        if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
            yield f"{name} may gain privileges"
        if security.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name} keeps capabilities"
        if security.get("readOnlyRootFilesystem") is not True:
            yield f"{name} may write to its root"
        if not {"cpu", "memory"} <= container.get("resources", {}).get("requests", {}).keys():
            yield f"{name} requests no resources"


def _probes_of(container: Object) -> dict[str, Object]:
    return {kind: container[kind] for kind in ("startupProbe", "readinessProbe", "livenessProbe") if kind in container}


def _probes(objects: list[Object]) -> Iterator[str]:
    app = monitor_app(render_metrics=lambda _: (b"", ""), health=lambda: Health({}), readiness=lambda: Health({}))
    paths = {route.path for route in app.routes}  # type: ignore[attr-defined]  # each is a Route
    for name, pod in pods(objects):
        if not name.startswith("Deployment"):
            continue
        [container] = pod["spec"]["containers"]
        probes = {kind: probe["httpGet"]["path"] for kind, probe in _probes_of(container).items()}
        if probes != {"startupProbe": "/healthz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}:
            yield f"{name}: probes ask {probes}"
        yield from (f"{name}: the app has no {path}" for path in {*probes.values(), "/metrics"} - paths)
        monitor = next(each for each in container["args"] if each.startswith("--monitor="))
        ports = {each["containerPort"] for each in container["ports"]}
        if {int(monitor.rpartition(":")[2])} != ports:
            yield f"{name}: {monitor}, but the container's ports are {ports}"


def _programs(objects: list[Object]) -> Iterator[str]:
    for name, container in containers(objects):
        env = environment(container)
        words = [*container.get("command", ["schedd"]), *container.get("args", [])]
        twice = [
            word for word, count in Counter(each["name"] for each in container.get("env", [])).items() if count > 1
        ]
        yield from (f"{name}: {word} is given twice" for word in twice)
        yield from (f"{name}: nobody reads {word}" for word in env if word.startswith("NATS_") and word not in NATS_ENV)
        if words[:2] == ["python3", "-c"]:
            ast.parse(words[2])
        elif words[0] in APPS:
            yield from (f"{name}: {problem}" for problem in _command(words, env))
        else:
            yield f"{name}: the image has no {words[0]}"


def _command(words: list[str], env: dict[str, str]) -> Iterator[str]:
    program, verb, *arguments = words
    command: Any = typer.main.get_command(APPS[program])
    if verb not in command.commands:
        yield f"there is no command {program} {verb}"
        return
    parsed = command.commands[verb].make_context(verb, arguments, resilient_parsing=False)  # raises on a wrong flag
    if verb == "run":
        flags = {key: value for key, value in parsed.params.items() if value is not None}
        real = {key: value for key, value in env.items() if not value.startswith("<")}
        settings = Settings.load(flags, real)
        yield from settings.warnings(real)


def _schedules(objects: list[Object]) -> Iterator[str]:
    for each in of_kind(objects, "ConfigMap"):
        if "webhooks.json" in each["data"]:
            read_webhooks(json.loads(each["data"]["webhooks.json"]), lambda *source: f"whsec_{'A' * 43}=")  # raises
        for definition in json.loads(each["data"].get("schedules.json", "[]")):
            identity = definition.pop("id")
            try:
                parse_schedule(identity, json.dumps(definition).encode())
            except InvalidArgument as refusal:
                yield f"schedule {identity}: {refusal.message}"
