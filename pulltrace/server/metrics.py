"""The Prometheus metrics. To keep the number of series small, no metric has a label for images or pods. Only the gauges
that describe a node's agent have a node label.

Counters are incremented as events occur, whereas gauges are created at each scrape from the hub's current state. The
text is generated in a separate thread. With 5,000 nodes, generating the text in the event loop would delay all streams
for too long.
"""

import time
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from pulltrace import __version__
from pulltrace.server.models import Factor, PullStatus, UsualBasis
from pulltrace.server.responses import NodeState, StartPhase
from pulltrace.wire import ErrorReason, PullPhase

MAX_REGISTRIES = 20
KEPT = 3600.0
"""How long, in seconds, an unused registry keeps its label while other registries are waiting for one."""
BUCKETS = (1, 5, 10, 20, 30, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600)
"""The buckets of the kubelet's own image pull histogram, so that the two histograms can be compared."""


RATIOS = (0.5, 0.75, 1, 1.25, 1.5, 2, 3, 5, 10)
ACTIVE = [phase for phase in PullPhase if not phase.ended]

# By default, the client library also exports a series with the creation time of each counter.
disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Gauges:
    """The current values of the gauges, as counted by the hub."""

    active: dict[PullPhase, int]
    stalled: int
    nodes: list[tuple[str, NodeState, float]]
    """For each node, its name, its state and the time of its last report."""
    watches: list[tuple[str, bool]] = field(default_factory=list)
    """Kubernetes API resources, and whether each of them is being watched. The list is empty if the server does not
    watch a cluster.
    """
    pods_waiting: int = 0
    slow_nodes: dict[str | None, int] = field(default_factory=dict)
    """For each registry, the number of nodes with an unusually slow pull."""


def result_of(pull: PullStatus) -> str:
    """Return the result of a finished attempt: completed, failed or canceled."""
    canceled = pull.status is PullPhase.FAILED and pull.error_reason is ErrorReason.CANCELED
    return "canceled" if canceled else pull.status.value


class Metrics:
    """All metrics of the server. ``render`` returns the response to a scrape."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._state = _State(self._host)
        self._hosts: dict[str, float] = {}
        """Registries that have their own label, and the time when each registry was last used."""
        self._fetched: dict[str, Counter] = {}
        """The counters of downloaded bytes, keyed by registry label."""
        mine = self.registry
        self._total = Counter(
            "pulltrace_pulls_total", "Pulls that have finished.", ["registry", "result"], registry=mine
        )
        self._duration = Histogram(
            "pulltrace_pull_duration_seconds",
            "Duration of pulls from start to end.",
            ["registry", "result"],
            buckets=BUCKETS,
            registry=mine,
        )
        self._phase = Histogram(
            "pulltrace_pull_phase_duration_seconds",
            "Time that pulls spent in each phase.",
            ["phase"],
            buckets=BUCKETS,
            registry=mine,
        )
        self._start_phase = Histogram(
            "pulltrace_pod_start_phase_seconds",
            "Time that pod start-ups spent in each phase.",
            ["phase"],
            buckets=BUCKETS,
            registry=mine,
        )
        self._usual = Histogram(
            "pulltrace_pull_duration_to_usual_ratio",
            "Duration of completed pulls, divided by their usual duration.",
            ["registry"],
            buckets=RATIOS,
            registry=mine,
        )
        self._bound = Counter(
            "pulltrace_pulls_bound",
            "Finished pulls, by the factor that limited them.",
            ["by", "registry"],
            registry=mine,
        )
        self._bound_seconds = Counter(
            "pulltrace_pull_bound_seconds",
            "Time for which each factor limited pulls, in seconds.",
            ["by", "registry"],
            registry=mine,
        )
        self._bytes = Counter(
            "pulltrace_pull_bytes_total", "Bytes downloaded, counted as they arrive.", ["registry"], registry=mine
        )
        self._cached = Counter(
            "pulltrace_pull_cached_bytes_total",
            "Bytes of finished pulls that were already on the node.",
            ["registry"],
            registry=mine,
        )
        self._remote = Counter(
            "pulltrace_pull_remote_bytes_total",
            "Bytes of finished pulls that the snapshotter serves without fetching them first.",
            ["registry"],
            registry=mine,
        )
        self._errors = Counter(
            "pulltrace_pull_errors_total", "Pulls that failed.", ["registry", "reason"], registry=mine
        )
        self._reports = Counter("pulltrace_agent_reports_total", "Reports accepted from agents.", registry=mine)
        self._rejected = Counter(
            "pulltrace_reports_rejected_total", "Reports that were rejected.", ["reason"], registry=mine
        )
        self._dropped = Counter(
            "pulltrace_dropped_total",
            "Pulls and layers that were dropped because they exceeded a limit.",
            registry=mine,
        )
        self.readers = Gauge("pulltrace_sse_clients_active", "Connected clients of the live stream.", registry=mine)
        self.readers_dropped = Counter(
            "pulltrace_sse_clients_dropped_total",
            "Clients disconnected because they did not read the stream.",
            registry=mine,
        )
        self._refused = Counter(
            "pulltrace_http_refused_total",
            "Connections and requests that were rejected before routing.",
            ["reason"],
            registry=mine,
        )
        self._by_registry = (
            *(self._total, self._duration, self._usual, self._bytes),
            *(self._cached, self._remote, self._errors, self._bound, self._bound_seconds),
        )
        Info("pulltrace_build", "Version of this Pulltrace server.", registry=mine).info({"version": __version__})
        ProcessCollector(registry=self.registry)
        self.registry.register(self._state)

    def report(self) -> None:
        """Count an accepted report."""
        self._reports.inc()

    def refused(self, reason: str) -> None:
        """Count a connection or request that was rejected for the given reason before it was routed."""
        self._refused.labels(reason).inc()

    def rejected(self, reason: str) -> None:
        """Count a report that was rejected for the given reason."""
        self._rejected.labels(reason).inc()

    def fetched(self, registry: str | None, count: int) -> None:
        """Count downloaded bytes."""
        host = self._host(registry)
        if host not in self._fetched:  # looking up a counter by its label takes longer than incrementing it
            self._fetched[host] = self._bytes.labels(host)
        self._fetched[host].inc(count)

    def dropped(self, count: int) -> None:
        """Count pulls and layers that were dropped because of a limit."""
        if count:
            self._dropped.inc(count)

    def phase(self, phase: PullPhase, seconds: float) -> None:
        """Record the time a pull spent in a phase."""
        self._phase.labels(phase.value).observe(seconds)

    def pod_started(self, phases: Iterable[StartPhase]) -> None:
        """Count a pod that has started."""
        for phase in phases:
            self._start_phase.labels(phase.phase.value).observe(phase.seconds or 0.0)

    def limited(self, factor: Factor, registry: str | None, seconds: float) -> None:
        """Record how long a factor limited a pull."""
        self._bound_seconds.labels(factor.value, self._host(registry)).inc(seconds)

    def ended(self, pull: PullStatus) -> None:
        """Count a finished attempt. A cancelled attempt is not an error."""
        host = self._host(pull.registry)
        result = result_of(pull)
        self._total.labels(host, result).inc()
        if pull.completed_at:
            seconds = (pull.completed_at - pull.started_at).total_seconds()
            self._duration.labels(host, result).observe(seconds)
            usual = None if pull.usual_basis is UsualBasis.NODE else pull.usual_seconds
            if usual and pull.status is PullPhase.COMPLETED:
                self._usual.labels(host).observe(seconds / usual)
        if result == PullPhase.FAILED:
            self._errors.labels(host, (pull.error_reason or ErrorReason.UNKNOWN).value).inc()
        self._cached.labels(host).inc(pull.cached_bytes)
        if pull.remote_bytes:
            self._remote.labels(host).inc(pull.remote_bytes)
        self._bound.labels((pull.bound.by if pull.bound else Factor.UNKNOWN).value, host).inc()

    def content_type(self, accept: str) -> str:
        """Return the content type for a scrape: OpenMetrics if the client accepts it, otherwise Prometheus text."""
        return choose_encoder(accept)[1]

    def render(self, accept: str, gauges: Gauges) -> bytes:
        """Return the response to a scrape. Call this in a thread, because rendering takes a while."""
        self._state.gauges = gauges
        return choose_encoder(accept)[0](self.registry)

    def _host(self, registry: str | None) -> str:
        """Return a registry's label: its host, or ``other`` if too many registries already have their own label.

        If a registry has not been used for an hour, a new registry can get a label in its place. The old registry's
        time series end at that point.
        """
        if not registry:
            return "unknown"
        now = time.monotonic()
        if registry not in self._hosts and len(self._hosts) >= MAX_REGISTRIES:
            # copy the dictionary, because scrapes run in another thread
            oldest, used = min(list(self._hosts.items()), key=itemgetter(1))
            if now - used < KEPT:
                return "other"
            self._hosts.pop(oldest, None)
            self._fetched.pop(oldest, None)
            for metric in self._by_registry:
                metric.remove_by_labels({"registry": oldest})
        self._hosts[registry] = now
        return registry


class _State(Collector):
    """Gauges whose values are calculated at each scrape."""

    def __init__(self, host: Callable[[str | None], str]) -> None:
        self.gauges: Gauges | None = None
        self._host = host

    def collect(self) -> Iterator[Metric]:
        now = self.gauges
        if now is None:
            return
        active = GaugeMetricFamily("pulltrace_pulls_active", "Pulls that have not ended.", labels=["phase"])
        for phase in ACTIVE:
            active.add_metric([phase.value], now.active.get(phase, 0))
        yield active
        yield GaugeMetricFamily("pulltrace_pulls_stalled", "Live pulls that make no progress.", value=now.stalled)
        slow = GaugeMetricFamily(
            "pulltrace_slow_nodes",
            "Nodes with a pull that is unusually slow, or was unusually slow in the last ten minutes.",
            labels=["registry"],
        )
        hosts: Counts[str] = Counts()
        for registry, count in now.slow_nodes.items():
            hosts[self._host(registry)] += count
        for host, count in hosts.items():
            slow.add_metric([host], count)
        yield slow
        connected = sum(state is not NodeState.LOST for _, state, _ in now.nodes)
        yield GaugeMetricFamily("pulltrace_agents_connected", "Agents that are reporting.", value=connected)
        conflicts = sum(state is NodeState.CONFLICT for _, state, _ in now.nodes)
        yield GaugeMetricFamily("pulltrace_agent_conflicts", "Node names that are used by two agents.", value=conflicts)
        last = GaugeMetricFamily(
            "pulltrace_agent_last_report_timestamp_seconds",
            "Time of the last report from a node's agent.",
            labels=["node"],
        )
        for name, _, seen in now.nodes:
            last.add_metric([name], seen)
        yield last
        if not now.watches:
            return
        yield GaugeMetricFamily(
            "pulltrace_pods_waiting", "Pods that cannot start until an image is pulled.", value=now.pods_waiting
        )
        up = GaugeMetricFamily(
            "pulltrace_kube_watch_up",
            "1 if the resource is being watched in every namespace, otherwise 0.",
            labels=["resource"],
        )
        for resource, works in now.watches:
            up.add_metric([resource], works)
        yield up
