"""Pods whose images cannot be pulled. There is one pod for each kind of failure."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from tests.kubelet.lab import Lab
from tests.patience import PATIENCE
from tests.real.images import MIB
from tests.real.manifests import pod

ANSWERS = {401: "unauthorized", 403: "unauthorized", 429: "rate_limited", 500: "server_error"}
PULLED = ("wrong-tag", "missing", *(f"status-{status}" for status in ANSWERS), "refused", "tls")
NOT_PULLED = ("invalid", "never")
ATTEMPTS = 4
"""How many times the kubelet tries to pull each image. The kubelet limits the number of events per pod, so events about
later attempts may be missing.
"""
SHOWN_FOR = 15.0
"""How long, in seconds, the last failure is shown before the pod is deleted. The next retry would begin at least 80
seconds after the failure.
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that cannot be pulled, and the reason that Pulltrace should report."""

    ref: str
    reason: str
    policy: str = "IfNotPresent"


@dataclass(frozen=True, slots=True)
class Failing:
    """All images that cannot be pulled. Both ``images`` and ``deleted`` are keyed by pod name."""

    since: float
    images: dict[str, Failure]
    pushed_later: asyncio.Task[str]
    """The image of the `later` pod. It is pushed after the second failed pull."""
    deleted: dict[str, asyncio.Task[float]]
    """The deletion time of each pod whose image the kubelet tried to pull."""

    def cancel(self) -> None:
        """Cancel all tasks."""
        for task in (self.pushed_later, *self.deleted.values()):
            task.cancel()


async def start_failing(lab: Lab) -> Failing:
    """Create the pods. In the background, push the image that the `later` pod needs, and delete each failing pod after
    its last failure.
    """
    registry, host = lab.registry, lab.registry.host
    lab.push("team/exists:right", 1000)
    lab.cluster.names.hosts["secure.test"] = "127.0.0.1"
    images = {
        "wrong-tag": Failure(f"{host}/team/exists:wrong", "not_found"),
        "missing": Failure(f"{host}/team/nowhere:1", "not_found"),
        "refused": Failure("127.0.0.1:1/team/app:1", "network"),
        # containerd does not trust the API server's certificate.
        "tls": Failure(f"secure.test:{lab.cluster.api.port}/team/app:1", "tls"),
        "invalid": Failure("UPPER/Case:1", "invalid_reference"),
        "never": Failure(f"{host}/team/never:1", "not_found", "Never"),
    }
    for status, reason in ANSWERS.items():
        images[f"status-{status}"] = Failure(lab.push(f"team/answers-{status}:1", 1000), reason)
        registry.repository(f"team/answers-{status}").answer = status
    since = time.time()
    later = f"{host}/team/later:1"
    await lab.create(
        *(pod(name, image.ref, policy=image.policy) for name, image in images.items()), pod("later", later)
    )
    deleted = {name: asyncio.create_task(_delete_after_last(lab, name, images[name].ref)) for name in PULLED}
    return Failing(since, images, asyncio.create_task(_push_later(lab, later)), deleted)


async def _push_later(lab: Lab, later: str) -> str:
    await lab.happened("later", "Failed", image=later, times=2)
    return lab.push("team/later:1", 4 * MIB, rate=MIB)


async def _delete_after_last(lab: Lab, name: str, ref: str) -> float:
    """Delete a pod ``SHOWN_FOR`` seconds after its last failure, and return the time of the last poll before then."""
    await lab.happened(name, "Failed", image=ref, times=ATTEMPTS, seconds=2 * PATIENCE)
    await asyncio.sleep(SHOWN_FOR)
    until = lab.looks[-1].at
    await lab.cluster.delete(pod(name, ref))
    return until
