"""PURE: one pull while it lives: what is known of it, and how it is told."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pulltrace.agent.attribution import LOCAL_SNAPSHOTTERS, Image, Name
from pulltrace.agent.layers import Layer, Progress
from pulltrace.agent.model import Ingest, Lease, Question, Resources
from pulltrace.wire import MAX_LAYERS, UNKNOWN_IMAGE, LayerState, PullPhase, PullState, to_time


@dataclass(slots=True)
class Pull:
    """One pull while it lives.

    ``inherited``: nobody saw its lease begin, so it may have outlived its pull; ``suspect``: it looks like that.
    ``traced``: its source stays as it is. ``seen_at`` is when the last poll that saw what it holds began.
    ``guessed``: it ended before anything of it was seen, and which image it made is no more than likely.
    ``asking`` are the questions of this poll, ``checked`` those that have been answered, if only by "there is none".
    """

    lease: Lease
    inherited: bool
    moved_at: float
    seen_at: float = 0.0
    guessed: bool = False
    polls: int = 0
    resources: Resources = field(default_factory=Resources)
    read: set[str] = field(default_factory=set)
    image: Image | None = None
    layers: dict[str, Progress] = field(default_factory=dict)
    asking: set[Question] = field(default_factory=set)
    checked: set[Question] = field(default_factory=set)
    suspect: bool = False
    cause: str = "the pull was cancelled or failed; the kubelet knows why"
    source: tuple[str, str] | None = None
    traced: bool = False
    snapshotter: str | None = None
    last_poll: int | None = None

    @property
    def worth_telling(self) -> bool:
        """Others make short, empty leases too: without content it is a pull only when it is there twice."""
        return not self.resources.foreign and bool(
            self.resources.content or self.resources.ingests or self.layers or self.polls > 1
        )

    @property
    def seen_anything(self) -> bool:
        """More than a lease with nothing in it."""
        return self.image is not None or bool(self.layers or self.resources.content or self.resources.foreign)

    @property
    def phase(self) -> PullPhase:
        """Unpacking overlaps the download; it is called so when every byte is here."""
        if not self.sized:
            return PullPhase.DOWNLOADING if any(map(_has_bytes, self.layers.values())) else PullPhase.RESOLVING
        here = all(progress.here for progress in self.layers.values())
        return PullPhase.EXTRACTING if here else PullPhase.DOWNLOADING

    @property
    def whole(self) -> bool:
        """Its layers are known and told, every one. A pull of all platforms may have too many."""
        return self.image is not None and len(self.image.layers) <= MAX_LAYERS

    @property
    def sized(self) -> bool:
        """All layers, their sizes and what of them the node had are known."""
        config_read = self.image is not None and self.image.config_read
        return self.whole and (config_read or any(map(_has_bytes, self.layers.values())))

    @property
    def lazy(self) -> bool:
        """Its snapshotter may do without the blobs of layers."""
        return self.snapshotter is not None and self.snapshotter not in LOCAL_SNAPSHOTTERS

    def take_layers(self, ingests: Mapping[str, Ingest]) -> None:
        """Its layers in manifest order; before the manifest is read, what it is seen fetching."""
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

    def told(
        self,
        phase: PullPhase,
        *,
        ended_at: float | None = None,
        error: str | None = None,
        name: Name | None = None,
    ) -> PullState:
        """The pull as it crosses the wire; without a ``name`` it is called by its repository, if that is known."""
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
