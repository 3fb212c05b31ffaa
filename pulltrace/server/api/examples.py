"""Examples for the OpenAPI document and ``docs/api.md``: the server's models with plausible values. Sans-I/O."""

from datetime import UTC, datetime

from pulltrace.server.models import EventType, LayerStatus, PodCorrelation, PullEvent, PullStatus
from pulltrace.server.responses import PullList
from pulltrace.wire import LayerPhase, PullPhase


def _at(minute: int, second: int) -> datetime:
    return datetime(2026, 11, 29, 14, minute, second, tzinfo=UTC)


def _layer(number: int, total: int, downloaded: int, state: LayerPhase) -> LayerStatus:
    return LayerStatus(
        pull_id="p1w4",
        digest=f"sha256:{number:064x}",
        media_type="application/vnd.oci.image.layer.v1.tar+gzip",
        total_bytes=total,
        downloaded_bytes=downloaded,
        bytes_per_sec=41_200_000.0 if state is LayerPhase.DOWNLOADING else 0.0,
        percent=round(100 * downloaded / total, 1),
        total_known=True,
        state=state,
        started_at=_at(2, 5),
    )


PULL = PullStatus(
    id="p1w4",
    node_name="gpu-03",
    image_ref="registry.example.org/ml/trainer:24.05",
    total_bytes=2_787_000_000,
    downloaded_bytes=2_087_000_000,
    bytes_per_sec=41_200_000.0,
    percent=74.9,
    layer_count=2,
    layers_done=1,
    started_at=_at(2, 2),
    total_known=True,
    status=PullPhase.DOWNLOADING,
    image_bytes=2_787_000_000,
    cached_bytes=0,
    extracted_bytes=187_000_000,
    layers_cached=0,
    layers_extracted=1,
    attempt=1,
    eta_seconds=31.5,
    pods=[
        PodCorrelation(
            namespace="ml",
            pod_name="trainer-0",
            container="trainer",
            image="registry.example.org/ml/trainer:24.05",
            uid="5d1f0a52-6f0e-4a8e-9a53-0c4b8a5a7d10",
            owner="StatefulSet/trainer",
            waiting_reason="ContainerCreating",
        )
    ],
    layers=[
        _layer(1, 187_000_000, 187_000_000, LayerPhase.EXTRACTED),
        _layer(2, 2_600_000_000, 1_900_000_000, LayerPhase.DOWNLOADING),
    ],
    registry="registry.example.org",
    repository="ml/trainer",
    manifest_digest=f"sha256:{15:064x}",
    media_type="application/vnd.oci.image.manifest.v1+json",
    snapshotter="overlayfs",
)
PULLS = PullList(pulls=[PULL])
EVENT = PullEvent(schema_version="v1", timestamp=_at(2, 50), type=EventType.PROGRESS, node_name="gpu-03", pull=PULL)
