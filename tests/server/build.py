"""Builders for reports and their parts, with defaults for everything that a test does not specify."""

from datetime import timedelta
from typing import Any

from msgspec import structs

from pulltrace.server.limits import Limits
from pulltrace.server.metrics import Metrics
from pulltrace.server.models import PullStatus
from pulltrace.server.pulls.hub import Hub
from pulltrace.settings import ServerSettings, load
from pulltrace.wire import AgentReport, LayerPhase, LayerState, PullPhase, PullState, to_time

NOW = 1_700_000_000.0
MIB = 1 << 20


def layer(digest="a", done=0, total=100 * MIB, state=LayerPhase.DOWNLOADING, **more) -> LayerState:
    return LayerState(
        digest=f"sha256:{digest}", total_bytes=total, downloaded_bytes=done, total_known=True, state=state, **more
    )


def pull(id_="lease-1", *layers: LayerState, at=NOW, status=PullPhase.DOWNLOADING, **more) -> PullState:
    facts: dict[str, Any] = {
        "registry": "docker.io",
        "repository": "library/nginx",
        "image_ref": "docker.io/library/nginx",
        "total_known": True,
        "started_at": to_time(at),
    }
    if "ended_at" in more:
        more["completed_at"] = to_time(more.pop("ended_at"))
    return PullState(id=id_, layers=list(layers), status=status, **(facts | more))


def report(*pulls: PullState, node="node-1", boot="boot-1", sequence=0, **more) -> AgentReport:
    return AgentReport(node_name=node, pulls=list(pulls) or None, boot_id=boot, sequence=sequence, **more)


def shifted(pull: PullState, seconds: float) -> PullState:
    """Return the pull with all its times shifted by this many seconds."""

    def moved(value: Any) -> Any:
        names = [field for field in value.__struct_fields__ if field.endswith("_at") and getattr(value, field)]
        return structs.replace(value, **{name: getattr(value, name) + timedelta(seconds=seconds) for name in names})

    return structs.replace(moved(pull), layers=[moved(layer) for layer in pull.layers or ()] or None)


def settings(**environ: str) -> ServerSettings:
    local = {"PULLTRACE_HTTP_ADDR": "127.0.0.1:0", "PULLTRACE_METRICS_ADDR": "127.0.0.1:0"}
    return load(ServerSettings, local | {f"PULLTRACE_{name}": value for name, value in environ.items()})


class SimulatedHub:
    """A hub with a simulated clock. ``report`` sends a report as an agent would, and ``shown`` is the state that a
    client would see.
    """

    def __init__(self, limits: Limits | None = None, cluster: Any = None, export: Any = None, **environ: str) -> None:
        self.now = NOW
        self.metrics = Metrics()
        self.hub = Hub(
            settings(**environ),
            self.metrics,
            limits=limits,
            cluster=cluster,
            export=export,
            clock=lambda: self.now,
        )
        self.sequence = 0

    def report(self, *pulls: PullState, at: float = 0.0, node="node-1", **more) -> None:
        """Deliver a report ``at`` seconds after the start of the test, then tick once."""
        self.at(at)
        self.sequence += 1
        self.hub.report(report(*pulls, node=node, **({"sequence": self.sequence} | more)))
        self.hub.tick(self.now)

    def at(self, seconds: float) -> None:
        """Advance the clock to ``seconds`` after the start of the test, ticking every second."""
        while self.now < NOW + seconds:
            self.now = min(self.now + 1.0, NOW + seconds)
            self.hub.tick(self.now)

    @property
    def shown(self) -> list[PullStatus]:
        return sorted(self.hub.feed.pulls(), key=lambda status: status.started_at)

    @property
    def one(self) -> PullStatus:
        (status,) = self.shown
        return status

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"pulltrace_{name}", labels) or 0.0
