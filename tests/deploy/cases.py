"""Values that the chart is rendered with: each a way somebody would use it."""

from __future__ import annotations

from typing import Any

KUBERNETES = tuple(f"1.{minor}" for minor in range(28, 37))
SCHEDULE = {"cron": "0 2 * * *", "timezone": "Europe/Berlin", "queue": "REPORTS", "type": "report:nightly"}
MONITORING = {
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "alertLabels": {"team": "jobs"}, "disabledAlerts": ["ScheddQueueBacklog"]},
    "dashboard": {"enabled": True, "annotations": {"grafana_folder": "Jobs"}},
}
SIGN_IN = {
    "creds": {"secretName": "nats-creds"},
    "tls": {"ca": {"secretName": "nats-ca"}, "client": {"secretName": "nats-client"}},
}
SCALED = {"name": "mail", "queue": "EMAIL", "target": "mail-worker", "maxReplicas": 20, "tasksPerReplica": 50}
HOOKS = {"webhooks": [{"name": "ops", "url": "https://ops.example/hook", "secret": {"env": "OPS_SECRET"}}]}
PLACED = {
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "jobs", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}}
    ]}},
    "priorityClassName": "system-cluster-critical",
    "topologySpread": {"whenUnsatisfiable": "DoNotSchedule", "topologyKeys": ["kubernetes.io/hostname"]},
}  # fmt: skip
EXTRAS = {
    "extraEnv": [{"name": "TZ", "value": "UTC"}],
    "extraEnvFrom": [{"configMapRef": {"name": "more", "optional": True}}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "jobs"},
    "imagePullSecrets": [{"name": "registry"}],
}
FENCED_IN = {
    "monitorFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
    "natsTo": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "nats"}}}],
    "natsPorts": [4222, 4443],
    "extraEgress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
}

CASES: dict[str, dict[str, Any]] = {
    "nothing given": {},
    "everything": {
        **MONITORING, **PLACED, **EXTRAS,
        "nats": {"url": "tls://nats-0.nats:4222,tls://nats-1.nats:4223", **SIGN_IN},
        "networkPolicy": FENCED_IN,
        "schedules": {"nightly-report": SCHEDULE, "tick": {"every": "10s", "queue": "q", "type": "t", "payload": 1e6}},
        "keda": {"scaledObjects": [SCALED]},
        "applyJob": {"prune": True},
        "webhooks": {"config": HOOKS, "envFromSecret": "hook-secrets", "ports": [443, 8443]},
        "schedd": {"settings": {"SCHEDD_LEASE": "20s", "SCHEDD_MAX_PENDING": 5_000_000, "SCHEDD_BATCH": 128}},
        "image": {"repository": "registry.example/schedd", "digest": "sha256:" + "0" * 64, "pullPolicy": "Always"},
    },
    "context": {"nats": {"context": {"secretName": "nats-context"}}},
    "servers from a Secret": {"nats": {"urlSecret": {"name": "nats-url"}}},
    "nkey": {"nats": {"nkey": {"secretName": "seed", "key": "schedd.nk"}, "tls": {"ca": {"secretName": "ca"}}}},
    "user and password": {"nats": {"user": {"secretName": "nats-user"}}},
    "token": {"nats": {"token": {"secretName": "nats-token"}}},
    "one of everything": {
        "replicas": 1,
        "schedd": {"streamReplicas": 1, "namespace": "team-one", "horizon": "1m30s", "logFormat": "text"},
        "podDisruptionBudget": {"minAvailable": 1, "maxUnavailable": None},
        "keda": {"scaledObjects": [{"name": "w", "queue": "q", "kind": "StatefulSet"}]},
    },
    "OpenShift": {"securityContext": {"runAsUser": None, "runAsGroup": None}},
    "as little as possible": {
        "serviceAccount": {"create": False},
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "topologySpread": {"enabled": False},
        "tests": {"enabled": False},
    },
    "other names": {
        "fullnameOverride": "a-name-that-is-longer-than-what-the-names-made-of-it-may-be",
        "nameOverride": "cron",
        "monitor": {"port": 9090},
        "service": {"port": 80, "type": "NodePort", "annotations": {"a": "b"}},
        "schedules": {"a.b_c": SCHEDULE},
    },
    "percentages": {
        "updateStrategy": {"maxSurge": "25%", "maxUnavailable": "25%"},
        "podDisruptionBudget": {"maxUnavailable": "34%"},
        "terminationGracePeriodSeconds": 90,
        "schedd": {"shutdown": "1m"},
    },
}  # fmt: skip
