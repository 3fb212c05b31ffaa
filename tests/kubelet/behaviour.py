"""A common interface for a real kubelet and the simulated kubelet, which runs in virtual time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from pulltrace.demo import images
from pulltrace.demo.kubelet import Kubelet
from pulltrace.demo.pod_events import pod as simulated_pod
from pulltrace.demo.registries import Manner, Registries
from pulltrace.demo.virtual_containerd import VirtualContainerd
from tests.kubelet.lab import Changes, Lab, note
from tests.patience import PATIENCE
from tests.real.images import MIB
from tests.real.manifests import pod as real_pod


class Node(Protocol):
    """A node whose kubelet pulls one image at a time. The registry serves 1 MiB/s."""

    def serve(self, name: str, mib: int) -> str:
        """Serve a new image of about ``mib`` MiB. Return the image's reference."""
        ...

    async def create(self, name: str, *refs: str, policy: str = "IfNotPresent") -> None:
        """Create a pod with one container for each image. The containers are named c0, c1, and so on."""
        ...

    async def delete(self, name: str) -> None:
        """Delete a pod."""
        ...

    async def stop(self) -> None:
        """Stop the kubelet."""
        ...

    async def start(self) -> None:
        """Start the kubelet again."""
        ...

    def events(self, pod: str) -> Changes:
        """Return the times and reasons of the pod's image events, oldest first."""
        ...

    def statuses(self, pod: str, container: str = "c0") -> Changes:
        """Return every state that the container has had, with its start time, oldest first. A state is represented by
        its reason, or by its name if it has no reason.
        """
        ...

    def now(self) -> float:
        """Return the current time."""
        ...

    async def until(self, true: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Wait until a condition is true."""
        ...


class SimulatedNode:
    """A node with the demo's simulated kubelet."""

    def __init__(self) -> None:
        manner = Manner(speed=MIB, latency=0.05)
        self._registries = Registries(manners={"registry.test": manner})
        self._node = VirtualContainerd(self._registries, now=1_800_000_000.0)
        self._kubelet = Kubelet(self._node)
        self._events: dict[str, Changes] = {}
        self._statuses: dict[tuple[str, str], Changes] = {}

    def serve(self, name: str, mib: int) -> str:
        return self._registries.push(
            f"registry.test/{name}", images.make_image(name, images.make_layer(name, mib * MIB))
        )

    async def create(self, name: str, *refs: str, policy: str = "IfNotPresent") -> None:
        containers = {f"c{number}": ref for number, ref in enumerate(refs)}
        self._kubelet.add(simulated_pod(name, "node-1", containers, at=self.now()), policy=policy)

    async def delete(self, name: str) -> None:
        self._kubelet.remove(name)

    async def stop(self) -> None:
        self._kubelet.stop()

    async def start(self) -> None:
        self._kubelet.start()

    def events(self, pod: str) -> Changes:
        return self._events.get(pod, [])

    def statuses(self, pod: str, container: str = "c0") -> Changes:
        return self._statuses.get((pod, container), [])

    def now(self) -> float:
        return self._node.now

    async def until(self, true: Callable[[], object], seconds: float = PATIENCE) -> None:
        for _ in range(int(seconds * 20)):
            if true():
                return
            self._node.advance(0.05)
            self._kubelet.advance(0.05)
            self._record()
        raise AssertionError(f"the condition did not hold within {seconds:.0f} s: {self._events}")

    def _record(self) -> None:
        for said in self._kubelet.outbox:
            if said.resource == "events" and not said.gone:
                happened = (self.now(), said.object["reason"])
                self._events.setdefault(said.object["involvedObject"]["name"], []).append(happened)
            elif said.resource == "pods" and not said.gone:
                for status in said.object["status"]["containerStatuses"]:
                    name = (said.object["metadata"]["name"], status["name"])
                    note(self._statuses.setdefault(name, []), self.now(), status)
        self._kubelet.outbox.clear()


class RealNode:
    """The node of a real cluster. Other tests use the same cluster, so pod names get the prefix ``test``."""

    def __init__(self, lab: Lab, test: str = "") -> None:
        self._lab = lab
        self._test = test

    def serve(self, name: str, mib: int) -> str:
        return self._lab.push(f"behaviour/{name}", mib * MIB, rate=MIB)

    async def create(self, name: str, *refs: str, policy: str = "IfNotPresent") -> None:
        await self._lab.create(real_pod(self._test + name, *refs, policy=policy))

    async def delete(self, name: str) -> None:
        await self._lab.cluster.delete(real_pod(self._test + name))

    async def stop(self) -> None:
        await self._lab.cluster.kubelet.stop()

    async def start(self) -> None:
        await self._lab.cluster.kubelet.start()

    def events(self, pod: str) -> Changes:
        reasons = {"Pulling", "Pulled", "Failed", "BackOff", "InspectFailed", "ErrImageNeverPull"}
        return [
            (event.at, event.reason)
            for event in self._lab.kubelet.events(pod=self._test + pod)
            if event.reason in reasons
        ]

    def statuses(self, pod: str, container: str = "c0") -> Changes:
        return self._lab.statuses.get((self._test + pod, container), [])

    def now(self) -> float:
        return time.time()

    async def until(self, true: Callable[[], object], seconds: float = PATIENCE) -> None:
        await self._lab.until(true, seconds)


def times(changes: Changes, wanted: str) -> list[float]:
    """Return the times of all changes with the given reason."""
    return [at for at, what in changes if what == wanted]
