"""Manifests for clusters with a real kubelet."""

from __future__ import annotations

from typing import Any


def container(name: str, ref: str, **more: Any) -> dict[str, Any]:
    """Return a container for a pod's spec."""
    return {"name": name, "image": ref, "imagePullPolicy": "IfNotPresent"} | more


def pod(name: str, *refs: str, policy: str = "IfNotPresent", **spec: Any) -> dict[str, Any]:
    """Return a pod with one container for each image. The containers are named c0, c1, and so on."""
    containers = [container(f"c{number}", ref, imagePullPolicy=policy) for number, ref in enumerate(refs)]
    return {"kind": "Pod", "metadata": {"name": name}, "spec": pod_spec(*containers, **spec)}


def pod_spec(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """Return the spec of a pod that terminates immediately when it is deleted."""
    return {"terminationGracePeriodSeconds": 0, "containers": list(containers)} | spec


def deployment(name: str, ref: str, replicas: int, **spec: Any) -> dict[str, Any]:
    """Return a Deployment whose pods have one container each."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod_spec(container("c0", ref), **spec)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def job(name: str, ref: str, *, policy: str, **spec: Any) -> dict[str, Any]:
    """Return a Job whose pods run for a few seconds."""
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": _job_spec(ref, policy) | spec}


def cron_job(name: str, ref: str, *, policy: str) -> dict[str, Any]:
    """Return a CronJob that starts a Job every minute."""
    spec = {"schedule": "* * * * *", "jobTemplate": {"spec": _job_spec(ref, policy)}}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": spec}


def _job_spec(ref: str, policy: str) -> dict[str, Any]:
    once = container("c0", ref, imagePullPolicy=policy, args=["4s"])
    return {"template": {"spec": pod_spec(once, restartPolicy="Never")}}
