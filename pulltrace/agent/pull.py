"""One pull while it lives: what is known about it, and its form on the wire. Sans-I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from pulltrace.agent.attribution import Image
from pulltrace.agent.layers import Layer, Progress
from pulltrace.agent.model import Ingest, Lease, Question, Resources
from pulltrace.agent.records import Name
from pulltrace.wire import MAX_LAYERS, UNKNOWN_IMAGE, LayerState, PullPhase, PullState, to_time

FETCH = "fetch-"
"""Prefix of the id of a pull that stands for an ingest without a lease."""


class Seen(Enum):
    """The most that any poll has seen of a pull."""

    LEASE = "an empty lease"
    CONTENT = "blobs or ingests, no manifest"
    IMAGE = "the manifest"
    FETCH = "ingests without a lease"
    CONTAINER = "snapshots of a container"


@dataclass(slots=True)
class Pull:
    """One pull while it lives."""

    lease: Lease
    inherited: bool
    """No poll saw its lease begin, so the lease may have outlived its pull."""
    moved_at: float
    seen_at: float = 0.0
    """The start of the last poll that saw its resources."""
    guessed: bool = False
    """It ended before a poll saw any content; its image is only probable."""
    polls: int = 0
    resources: Resources = field(default_factory=Resources)
    read: set[str] = field(default_factory=set)
    image: Image | None = None
    layers: dict[str, Progress] = field(default_factory=dict)
    asking: set[Question] = field(default_factory=set)
    """The questions of this poll."""
    checked: set[Question] = field(default_factory=set)
    """The questions that got a response, if only that there is no such thing."""
    suspect: bool = False
    """Its lease looks as if it had outlived its pull."""
    cause: str = "the pull was cancelled or failed; the kubelet knows why"
    source: tuple[str, str] | None = None
    traced: bool = False
    """Its source is final."""
    snapshotter: str | None = None
    by_containerd: bool = False
    """Its lease has shown that containerd fetches its layers."""
    served: bool = False
    """Its snapshotter fetches its layers."""
    record: str | None = None
    """The name of the image record that it wrote, if that is known from the start."""
    look_back_poll: int | None = None
    """The poll in which ``conclusion`` looked for documents that no earlier poll had seen."""

    @property
    def is_worth_reporting(self) -> bool:
        """Return whether it is a pull: a lease without content only if two polls have seen it.

        Other clients create short-lived empty leases.
        """
        return not self.resources.foreign and bool(
            self.resources.content or self.resources.ingests or self.layers or self.polls > 1
        )

    @property
    def seen(self) -> Seen:
        """Return the most that any poll has seen of it."""
        if self.resources.foreign:
            return Seen.CONTAINER
        if self.lease.id.startswith(FETCH):
            return Seen.FETCH
        if self.image:
            return Seen.IMAGE
        return Seen.CONTENT if self.layers or self.resources.content else Seen.LEASE

    @property
    def phase(self) -> PullPhase:
        """Return its phase. Unpacking overlaps the download; the phase changes when every byte has been downloaded."""
        if not self.sized:
            return PullPhase.DOWNLOADING if any(map(_has_bytes, self.layers.values())) else PullPhase.RESOLVING
        complete = all(progress.complete for progress in self.layers.values())
        return PullPhase.EXTRACTING if complete else PullPhase.DOWNLOADING

    @property
    def whole(self) -> bool:
        """Return whether all its layers are known and reported. A pull of all platforms may have too many."""
        return self.image is not None and len(self.image.layers) <= MAX_LAYERS

    @property
    def sized(self) -> bool:
        """Return whether all layers, their sizes and their cached bytes are known."""
        config_read = self.image is not None and self.image.config_read
        return self.whole and (config_read or any(map(_has_bytes, self.layers.values())))

    def let_containerd_fetch(self) -> None:
        """Record that containerd fetches and unpacks the layers itself."""
        self.by_containerd, self.served = True, False
        for progress in self.layers.values():
            progress.see_containerd()

    def take_layers(self, ingests: Mapping[str, Ingest]) -> None:
        """Set its layers: those of the manifest, in order; before it is read, the layers that are being downloaded."""
        if self.image:
            layers: Iterable[Layer] = self.image.layers
        else:
            mine = [item for item in ingests.values() if item.ref in self.resources.ingests and item.is_layer]
            layers = [progress.layer for progress in self.layers.values()]
            layers += [Layer(item.digest, "", max(item.total, item.offset)) for item in mine]
        layers = list(layers)[:MAX_LAYERS]
        known = {layer.digest: self.layers.get(layer.digest) or Progress(layer) for layer in layers}
        for layer in layers:
            known[layer.digest].layer = layer
        self.layers = known

    def state(
        self,
        phase: PullPhase,
        *,
        ended_at: float | None = None,
        error: str | None = None,
        name: Name | None = None,
    ) -> PullState:
        """Return the pull as it is reported. Without a ``name`` it is called by its repository, if that is known."""
        registry, repository = self.source or (None, None)
        known = self.sized or (phase.ended and self.whole)
        return PullState(
            id=self.lease.id,
            image_ref=name.reference if name else f"{registry}/{repository}" if registry else UNKNOWN_IMAGE,
            ref_guessed=name is not None and (name.guessed or self.guessed),
            status=phase,
            registry=registry,
            repository=repository,
            manifest_digest=self.image.manifest_digest if self.image else None,
            media_type=self.image.media_type if self.image else None,
            snapshotter=self.snapshotter,
            started_at=to_time(self.lease.created_at),
            completed_at=_time(ended_at),
            error=error,
            total_known=known,
            layers=[_layer_state(progress, known) for progress in self.layers.values()],
        )


def age(pull: Pull) -> float:
    """Return the sort key that puts the oldest pull first."""
    return pull.lease.created_at


def _has_bytes(progress: Progress) -> bool:
    return progress.started_at is not None or progress.completed_at is not None


def _layer_state(progress: Progress, known: bool) -> LayerState:
    layer = progress.layer
    return LayerState(
        digest=layer.digest,
        media_type=layer.media_type,
        total_bytes=layer.size,
        downloaded_bytes=progress.downloaded,
        cached_bytes=progress.cached,
        total_known=known,
        state=progress.phase,
        fetched_by=progress.fetched_by,
        started_at=_time(progress.started_at),
        completed_at=_time(progress.completed_at),
        extract_started_at=_time(progress.extract_started_at),
        extracted_at=_time(progress.extracted_at),
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else to_time(seconds)
