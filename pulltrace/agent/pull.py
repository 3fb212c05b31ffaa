"""Everything that the agent knows about one live pull, and the state that it reports to the server. Sans-I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from pulltrace.agent.attribution import Image
from pulltrace.agent.identifiers import is_digest
from pulltrace.agent.layers import Layer, Progress
from pulltrace.agent.model import Ingest, Lease, Question, Resources
from pulltrace.agent.records import Name
from pulltrace.wire import MAX_LAYERS, UNKNOWN_IMAGE, ErrorReason, LayerState, PullPhase, PullState, to_time

FETCH = "fetch-"
"""The id prefix of a pull that was created for an ingest without a lease."""


class Seen(Enum):
    """How much of a pull has been observed."""

    LEASE = "an empty lease"
    CONTENT = "blobs or ingests, no manifest"
    IMAGE = "the manifest"
    IMPORT = "ingests from an archive"
    FETCH = "ingests without a lease, or under the lease of another kind of client"
    OTHER = "not a pull: snapshots without content, or an empty lease of another kind of client"


@dataclass(slots=True)
class Pull:
    """One live pull."""

    lease: Lease
    inherited: bool
    """True if the lease might have outlived the pull: the lease existed before the first poll, and the pull has made no
    progress since then.
    """
    moved_at: float
    seen_at: float = 0.0
    """The start time of the last poll that read the pull's resources."""
    resolving_at: float = 0.0
    """The start time of the last poll that found neither a manifest nor a layer in the lease."""
    guessed: bool = False
    """True if the image is a guess, because the pull ended before any poll saw its content."""
    polls: int = 0
    resources: Resources = field(default_factory=Resources)
    read: set[str] = field(default_factory=set)
    image: Image | None = None
    layers: dict[str, Progress] = field(default_factory=dict)
    asking: set[Question] = field(default_factory=set)
    """The questions about the pull that must be answered during this poll."""
    checked: set[Question] = field(default_factory=set)
    """The questions that containerd has answered. The answer may be that the object does not exist."""
    suspect: bool = False
    """True if the lease seems to have outlived the pull."""
    cause: str | None = None
    """The reason why the pull cannot complete, if one is known."""
    source: tuple[str, str] | None = None
    traced: bool = False
    """True if ``source`` is final."""
    snapshotter: str | None = None
    by_containerd: bool = False
    """True if the lease's resources have shown that containerd fetches the layers itself."""
    served: bool = False
    """True if the snapshotter fetches the layers."""
    record: str | None = None
    """The name of the image record that the pull wrote; None unless the name was known from the start."""
    imported: bool = False
    """True if the content comes from an archive rather than a registry."""
    changed: set[str] | None = None
    """The digests of the layers that have changed since the last reported state; None if any layer may have changed."""
    is_answered: bool = False
    """True if every question about the pull in the last poll was about image records."""
    reported_layers: dict[str, tuple[object, LayerState]] = field(default_factory=dict)
    """The last reported state of each layer and the values from which it was derived, keyed by layer digest."""
    look_back_poll: int | None = None
    """The number of the poll in which ``conclusion`` tried to read the documents that earlier polls had missed; None
    until it has tried. ``conclusion`` tries only once.
    """

    @property
    def is_worth_reporting(self) -> bool:
        """Return whether the lease counts as a pull. An empty lease counts as a pull only after two polls have seen it.

        containerd's own client creates short-lived empty leases, for instance when a container is created.
        """
        if self.seen is Seen.OTHER:
            return False
        if self.seen is Seen.LEASE:
            return self.polls > 1 or bool(self.resources.ingests)
        return True

    @property
    def seen(self) -> Seen:
        """Return how much of the pull has been observed. If the lease belongs to an import, a fetch or a different
        client, return its kind instead.
        """
        if self.is_of_another_kind:
            return Seen.OTHER
        if self.imported:
            return Seen.IMPORT
        if not self.lease.is_default:
            return Seen.FETCH
        if self.image:
            return Seen.IMAGE
        return Seen.CONTENT if self.layers or self.resources.content else Seen.LEASE

    @property
    def fetching_since(self) -> float:
        """Return the earliest time at which the pull could have fetched a layer. A layer that arrived earlier was
        fetched by a different client, even if it arrived after this pull's lease was created. Imports and some other
        clients write layers before manifests, so for these, the result is the start of the lease.
        """
        if self.seen in (Seen.IMPORT, Seen.FETCH):
            return self.lease.created_at
        return max(self.lease.created_at, self.resolving_at)

    @property
    def is_of_another_kind(self) -> bool:
        """Return whether the lease belongs to something other than a pull, such as a container or an image builder."""
        held = self.resources
        # A pull's lease contains the manifest before any snapshot, even if the manifest was already on the node.
        if held.foreign or ((held.unpacking or held.unpacked) and not (held.content or self.layers)):
            return True
        return not (self.lease.is_default or self.layers or self.image)

    @property
    def phase(self) -> PullPhase:
        """Return the pull's phase.

        Unpacking overlaps with downloading. The phase becomes ``extracting`` when every byte has been downloaded.
        """
        if not self.sized:
            return PullPhase.DOWNLOADING if any(map(_has_bytes, self.layers.values())) else PullPhase.RESOLVING
        complete = all(progress.complete for progress in self.layers.values())
        return PullPhase.EXTRACTING if complete else PullPhase.DOWNLOADING

    @property
    def whole(self) -> bool:
        """Return whether all of the pull's layers are known and have been reported.

        A pull for all platforms may have more layers than a report can contain.
        """
        return self.image is not None and len(self.image.layers) <= MAX_LAYERS

    @property
    def complete(self) -> bool:
        """Return whether every known layer is on the node; false until the manifest or a layer is known."""
        known = self.image is not None or bool(self.layers)
        return known and all(progress.complete for progress in self.layers.values())

    @property
    def sized(self) -> bool:
        """Return whether all layers, their sizes and their cached bytes are known."""
        if self.imported:
            return False  # the archive may contain more layers
        config_read = self.image is not None and self.image.config_read
        return self.whole and (config_read or any(map(_has_bytes, self.layers.values())))

    def let_containerd_fetch(self) -> None:
        """Record that containerd fetches and unpacks the layers itself."""
        self.by_containerd, self.served = True, False
        for progress in self.layers.values():
            progress.see_no_fetch()

    def take_layers(self, ingests: Mapping[str, Ingest]) -> None:
        """Set the pull's layers to those in the manifest, in the same order. Until the manifest has been read, only
        layers that are being downloaded are known.
        """
        if self.image:
            self._set_layers(self.image.layers)
        else:
            self._set_layers([*(progress.layer for progress in self.layers.values()), *self._growing_layers(ingests)])

    def take_archived_layers(self, ingests: Mapping[str, Ingest], committed: Mapping[str, int]) -> None:
        """Set an import's layers: those in the manifests read so far, the ``committed`` blobs, and the files that are
        still being imported.

        A file in a Docker archive is committed under a digest that its ref does not contain.
        """
        kept = [progress.layer for digest, progress in self.layers.items() if is_digest(digest)]
        blobs = [Layer(digest, "", size) for digest, size in committed.items()]
        known = self.image.layers if self.image else ()
        self._set_layers([*known, *kept, *blobs, *self._growing_layers(ingests)])

    def _growing_layers(self, ingests: Mapping[str, Ingest]) -> list[Layer]:
        mine = [item for item in ingests.values() if item.ref in self.resources.ingests and item.is_layer]
        return [Layer(item.digest, "", max(item.total, item.offset)) for item in mine]

    def _set_layers(self, layers: Iterable[Layer]) -> None:
        """Set the layers, dropping duplicates. Layers that the pull already had keep their progress."""
        layers = list({layer.digest: layer for layer in reversed(list(layers))}.values())[::-1][:MAX_LAYERS]
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
        reason: ErrorReason | None = None,
        name: Name | None = None,
    ) -> PullState:
        """Return the pull's state for the report. If ``name`` is None, the pull is named after its repository, if
        known.
        """
        registry, repository = (None, None) if self.imported else self.source or (None, None)
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
            error_reason=reason,
            imported=self.imported,
            total_known=known,
            layers=[self._layer_state(progress, known) for progress in self.layers.values()],
        )

    def _layer_state(self, progress: Progress, known: bool) -> LayerState:
        """Return a layer's state for the report. If the layer has not changed, return the same object as before."""
        if self.changed is not None and progress.layer.digest not in self.changed:
            return self.reported_layers[progress.layer.digest][1]
        basis = (
            (progress.layer, known, progress.phase, progress.downloaded, progress.cached, progress.fetched_by),
            (progress.started_at, progress.completed_at, progress.extract_started_at, progress.extracted_at),
        )
        before = self.reported_layers.get(progress.layer.digest)
        if before is None or before[0] != basis:
            before = self.reported_layers[progress.layer.digest] = basis, _layer_state(progress, known)
        return before[1]


def age(pull: Pull) -> float:
    """Return a sort key that puts the oldest pull first."""
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
