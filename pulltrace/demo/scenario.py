"""The pods, failures and restarts in the demo's cluster. The same seed always produces the same scenario. Sans-I/O.

Each generator method is a thread of the scenario. A thread yields the number of seconds to wait before it resumes.
"""

import heapq
import itertools
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from random import Random

from pulltrace.demo.catalogue import IMAGES, MB, OWN, SERVICES, SLOW, registries, service
from pulltrace.demo.kubelet import Kubelet, Said
from pulltrace.demo.pod_events import pod
from pulltrace.demo.registries import Refusal
from pulltrace.demo.snapshotter import Mode
from pulltrace.demo.store import Store
from pulltrace.demo.virtual_containerd import VirtualContainerd

Act = Generator[float, None, None]


@dataclass(frozen=True, slots=True)
class Crashed:
    """A node's containerd has been killed and must be restarted."""

    node: str


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of node: its network and disk speeds in bytes per second, its containerd version, the number of parallel
    pulls, and its snapshotter.
    """

    bandwidth: float
    disk: float
    version: str
    parallel: int
    snapshotter: str = "overlayfs"
    mode: Mode = Mode.UNPACK


_WORKERS = (
    _Kind(125 * MB, 170 * MB, "1.7.29", 3),
    _Kind(125 * MB, 210 * MB, "v2.2.1", 3),
    _Kind(125 * MB, 150 * MB, "1.6.39", 1),
    _Kind(110 * MB, 190 * MB, "v2.1.5", 2),
)
# Since containerd 2.1, large layers can occupy all three of a node's download slots. In that case, other pulls cannot
# even resolve their references. GPU nodes that download many large layers therefore run containerd 1.7.
_GPU = _Kind(400 * MB, 420 * MB, "1.7.29", 3)
_GPU_SOCI = _Kind(900 * MB, 420 * MB, "v2.2.1", 3, "soci", Mode.PARALLEL)
_EDGE = _Kind(5 * MB, 55 * MB, "1.7.29", 1)

_HEAVY = ("docker.io/vllm/vllm-openai:v0.12", "nvcr.io/nvidia/tritonserver:26.10-py3")
_SLOW_IMAGE = f"{SLOW}/legacy/invoice-printer:3.2"
_TIDIED = 0.85
"""The probability that an image is removed along with its pod. If the image is kept, the next pod on that node does not
need to pull it.
"""
_ORDINARY = [name for name in IMAGES if name not in _HEAVY and name != _SLOW_IMAGE]


class Scenario:
    """A cluster whose clocks start at ``now``, in Unix seconds.

    If ``speed`` is 10, the simulation runs ten times as fast as real time.
    """

    def __init__(self, nodes: int, *, now: float, speed: float = 1.0, seed: int = 20261123) -> None:
        self.registries = registries()
        self.kubelets = dict(self._kubelets(nodes, now, speed))
        self.speed = speed
        self._random = Random(seed)  # noqa: S311  # a scenario, not a secret
        self._age = 0.0
        self._order = itertools.count()
        self._acts: list[tuple[float, int, Act]] = []
        self._crashed: list[Crashed] = []
        for number, act in enumerate((*self._always(), *self._once())):
            heapq.heappush(self._acts, (0.0, number, act))
        self._order = itertools.count(len(self._acts))

    def _kubelets(self, count: int, now: float, speed: float) -> Iterator[tuple[str, Kubelet]]:
        for number in range(count):
            if number == 1:
                name, kind = "gpu-1", _GPU
            elif number == 2 and count > 3:
                name, kind = "gpu-2", _GPU_SOCI
            elif number and number == count - 1:
                name, kind = "edge-1", _EDGE
            else:
                name, kind = f"worker-{number + (number == 0)}", _WORKERS[number % len(_WORKERS)]
            node = VirtualContainerd(
                self.registries,
                now=now,
                version=kind.version,
                store=Store(kind.snapshotter, mode=kind.mode),
                bandwidth=kind.bandwidth,
                disk=kind.disk,
                speed=speed,
                seed=number,
            )
            node.new_lease(expires=False)  # a pod sandbox's lease, which does not belong to a pull
            yield name, Kubelet(node, parallel=kind.parallel)

    @property
    def nodes(self) -> dict[str, VirtualContainerd]:
        """The simulated containerd of each node, keyed by node name."""
        return {name: kubelet.node for name, kubelet in self.kubelets.items()}

    def advance(self, seconds: float) -> list[Said | Crashed]:
        """Advance time. Return the changes to write to the API server, and the nodes whose containerd was killed."""
        self._age += seconds * self.speed
        while self._acts and self._acts[0][0] <= self._age:
            due, _, act = heapq.heappop(self._acts)
            wait = next(act, None)
            if wait is not None:
                heapq.heappush(self._acts, (due + wait, next(self._order), act))
        happened: list[Said | Crashed] = []
        work = seconds * self.speed
        for kubelet in self.kubelets.values():
            kubelet.node.advance(seconds, step=max(0.05, work / 8))
            kubelet.advance(work)
            happened += kubelet.outbox
            kubelet.outbox.clear()
        crashed, self._crashed = self._crashed, []
        return happened + crashed

    # The following methods yield the scenario's threads, which run until the demo stops.

    def _always(self) -> Iterator[Act]:
        yield self._daemon("node-exporter", "quay.io/prometheus/node-exporter:v1.10")
        yield self._rollout()
        yield self._ordinary_days()
        yield self._heavy("llm-gateway", _HEAVY[0], first=0.0)
        yield self._heavy("triton", _HEAVY[1], first=240.0)
        yield self._slow_registry()
        yield self._repeat(self._stall, first=8, every=300)
        yield self._repeat(self._deleted, first=35, every=210)
        yield self._repeat(self._always_policy, first=15, every=45)
        yield self._repeat(self._crash, first=100, every=900)
        yield self._repeat(self._kubelet_restarts, first=170, every=600)

    def _once(self) -> Iterator[Act]:
        """Yield the threads that cause failures. Each failure ends after a while and recurs later."""
        yield self._refused("reports", f"{OWN}/finance/reports:lastest", None, first=2, lasts=420)
        yield self._refused("billing", f"{OWN}/finance/billing:9.1", Refusal.UNAUTHORIZED, first=5, lasts=600)
        yield self._refused(
            "sidecar", "docker.io/library/haproxy:3.3", Refusal.RATE_LIMITED, first=7, lasts=55, heals=True
        )
        yield self._refused("mirror", "registry.lab.example.net/tools/mirror:1", Refusal.TLS, first=150, lasts=300)
        yield self._refused("archive", "ghcr.io/home-lab/archiver:7", Refusal.TIMEOUT, first=60, lasts=45, heals=True)
        yield self._refused("thumbs", f"{OWN}/shop/thumbs:12", Refusal.SERVER_ERROR, first=210, lasts=70, heals=True)
        yield self._one_pod("typo", "docker.io/Library/Busybox:1", first=20, lasts=400)
        yield self._one_pod("preloaded", f"{OWN}/shop/kiosk:4", first=25, lasts=400, policy="Never")

    def _ordinary_days(self) -> Act:
        """Keep starting pods on random nodes, more often in larger clusters."""
        for number in itertools.count():
            node = self._some_node()
            image = self._random.choice(_ORDINARY)
            name = image.rpartition("/")[2].partition(":")[0]
            self._start(node, name, image, lasts=self._random.uniform(100, 240))
            yield 0.3 if number < 4 else self._random.expovariate(len(self.kubelets) / 26)

    def _daemon(self, name: str, image: str) -> Act:
        for node in self.kubelets:
            self._start(node, name, image, daemon=True, namespace="monitoring")
            yield 0.7

    def _rollout(self) -> Act:
        """Keep rolling out new versions of the services, node by node. In each version, only one layer is new."""
        for version in itertools.count(417):
            name = SERVICES[version % len(SERVICES)]
            image = self.registries.push(f"{OWN}/shop/{name}:1.{version}", service(name, version))
            for node in self.kubelets:
                self._start(node, name, image, init="docker.io/library/alpine:3.23", namespace="shop", lasts=300)
                yield 1.2
            yield 75.0

    def _heavy(self, name: str, image: str, first: float) -> Act:
        """Keep starting pods with a multi-gigabyte image on the GPU nodes. The image is usually removed along with its
        pod, so the next pod has to pull it again.
        """
        nodes = [node for node in self.kubelets if node.startswith("gpu-")] or list(self.kubelets)[:1]
        yield first
        while True:
            for node in nodes:
                self._start(node, name, image, namespace="ml", lasts=420)
            yield 480.0

    def _slow_registry(self) -> Act:
        yield 1.0
        while True:
            self._start(self._some_node(), "invoice-printer", _SLOW_IMAGE, namespace="legacy", lasts=330)
            yield 200.0

    def _stall(self) -> Act:
        """Make the registry stop sending for about a minute in the middle of a layer."""
        version = next(self._order)
        image = service("ledger", version)
        reference = self.registries.push(f"{OWN}/finance/ledger:0.{version}", image)
        digest = image.layers[-1].blob.digest
        self.registries.holds[digest] = 6 * MB
        self._start(self._some_node(), "ledger", reference, namespace="finance", lasts=200)
        yield 62.0
        del self.registries.holds[digest]

    def _deleted(self) -> Act:
        """Delete a pod while its image is being pulled. The pull continues."""
        self._start(self._some_node(), "notebook", "docker.io/pytorch/pytorch:2.9-cuda13", namespace="ml", lasts=22)
        yield 0.0

    def _always_policy(self) -> Act:
        """Pull a cached image again, because the pod's pull policy is ``Always``."""
        node = next(iter(self.kubelets))
        self._start(node, "proxy", "docker.io/library/nginx:1.29", lasts=30, policy="Always")
        yield 0.0

    def _crash(self) -> Act:
        """Kill a node's containerd during a pull. The kubelet retries, and the download resumes."""
        busy = [name for name, kubelet in self.kubelets.items() if kubelet.node.transfers]
        node = self._random.choice(busy or list(self.kubelets))
        self.kubelets[node].node.crash()
        self._crashed.append(Crashed(node))
        yield 0.0

    def _kubelet_restarts(self) -> Act:
        """Restart a kubelet during a pull. The kubelet's pulls are cancelled and then requested again."""
        busy = [kubelet for kubelet in self.kubelets.values() if kubelet.node.transfers]
        kubelet = self._random.choice(busy or list(self.kubelets.values()))
        kubelet.stop()
        yield 4.0
        kubelet.start()

    def _refused(
        self, name: str, image: str, why: Refusal | None, *, first: float, lasts: float, heals: bool = False
    ) -> Act:
        """Make every pull of an image fail until the pod is deleted. If ``heals`` is true, the registry starts to serve
        the image while the pod is still waiting.
        """
        made = service(name, 1)
        yield first
        while True:
            if heals:
                self.registries.push(image, made)
            self.registries.refuse(image, why)
            node = self._some_node()
            self._start(node, name, image, namespace="apps", lasts=lasts + (240 if heals else 0))
            yield lasts
            if heals:
                self.registries.refuse(image, None)
                yield 240.0
            yield 30.0

    def _one_pod(self, name: str, image: str, *, first: float, lasts: float, policy: str = "IfNotPresent") -> Act:
        yield first
        while True:
            self._start(self._some_node(), name, image, lasts=lasts, policy=policy)
            yield lasts + 60.0

    def _repeat(self, act: Callable[[], Act], *, first: float, every: float) -> Act:
        yield first
        while True:
            yield from act()
            yield every

    # The following methods do the work of the Kubernetes controllers and the scheduler.

    def _start(
        self,
        node: str,
        name: str,
        image: str,
        *,
        init: str | None = None,
        namespace: str = "default",
        daemon: bool = False,
        policy: str = "IfNotPresent",
        lasts: float | None = None,
    ) -> None:
        """Start a pod on a node. If ``lasts`` is given, the pod is deleted after that many seconds and, soon
        afterwards, its image is usually removed.
        """
        if daemon:
            owner, pod_name = ("DaemonSet", name), f"{name}-{self._letters(5)}"
        else:
            owner = ("ReplicaSet", f"{name}-{self._letters(9)}")
            pod_name = f"{owner[1]}-{self._letters(5)}"
        kubelet = self.kubelets[node]
        made = pod(
            pod_name,
            node,
            {name: image},
            init={"prepare": init} if init else None,
            namespace=namespace,
            owner=owner,
            at=kubelet.node.now,
        )
        kubelet.add(made, policy=policy)
        if lasts is not None:
            heapq.heappush(self._acts, (self._age, next(self._order), self._end(kubelet, pod_name, image, lasts)))

    def _end(self, kubelet: Kubelet, pod_name: str, image: str, lasts: float) -> Act:
        yield lasts
        kubelet.remove(pod_name)
        yield 25.0
        if self._random.random() < _TIDIED:
            kubelet.tidy(image)

    def _some_node(self) -> str:
        return self._random.choice(list(self.kubelets))

    def _letters(self, count: int) -> str:
        # Kubernetes generates names from these characters. Vowels are excluded, so the names never spell a word.
        return "".join(self._random.choices("bcdfghjklmnpqrstvwxz2456789", k=count))
