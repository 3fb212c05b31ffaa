"""The byte counts and layer counts of a pull, summed over its layers. Sans-I/O.

A report changes only a few layers, so the sums are updated only for the changed layers.
"""

from collections.abc import Iterable

import msgspec

from pulltrace.wire import SNAPSHOTTER, LayerPhase, LayerState

DONE = (
    LayerPhase.CACHED,
    LayerPhase.DOWNLOADED,
    LayerPhase.EXTRACTING,
    LayerPhase.EXTRACTED,
    LayerPhase.REMOTE,
)
"""The states in which a layer no longer needs to be fetched."""


class Sums(msgspec.Struct):
    """The byte counts and layer counts of one pull."""

    total: int = 0
    downloaded: int = 0
    cached_bytes: int = 0
    remote_bytes: int = 0
    extracted_bytes: int = 0
    to_unpack: int = 0
    """The compressed size, in bytes, of the layers that have not been unpacked yet."""
    done: int = 0
    """How many layers no longer need to be fetched."""
    cached: int = 0
    extracted: int = 0
    unpacking: int = 0
    elsewhere: int = 0
    """How many unfinished layers are being fetched by another pull or by the snapshotter."""
    by_snapshotter: int = 0
    exceeded: int = 0
    """The number of layers that are larger than the manifest states. If any layer is larger than stated, the manifest's
    sizes are wrong.
    """

    @classmethod
    def of(cls, layers: Iterable[LayerState]) -> "Sums":
        """Return the sums for these layers."""
        sums = cls()
        for layer in layers:
            sums.add(layer)
        return sums

    def replace(self, old: LayerState, new: LayerState) -> None:
        """Replace a layer's state with a newer state."""
        if _differs_only_in_bytes(old, new):
            self.downloaded += new.downloaded_bytes - old.downloaded_bytes
        else:
            self.add(old, -1)
            self.add(new)

    def add(self, layer: LayerState, times: int = 1) -> None:
        """Add a layer. With ``times=-1``, remove the layer."""
        state, size, downloaded = layer.state, times * layer.total_bytes, layer.downloaded_bytes
        self.total += size
        self.downloaded += times * downloaded
        self.cached_bytes += times * layer.cached_bytes
        if layer.total_known and downloaded + layer.cached_bytes > layer.total_bytes:
            self.exceeded += times
        if is_done(layer):
            self.done += times
        elif layer.fetched_by:
            self.elsewhere += times
        if layer.fetched_by == SNAPSHOTTER:
            self.by_snapshotter += times
        if state is LayerPhase.CACHED:
            self.cached += times
        elif state is LayerPhase.REMOTE:
            self.remote_bytes += size
        elif state is LayerPhase.EXTRACTED:
            self.extracted += times
            self.extracted_bytes += size
        elif state is not None:
            self.to_unpack += size
            self.unpacking += times * (state is LayerPhase.EXTRACTING)


def _differs_only_in_bytes(old: LayerState, new: LayerState) -> bool:
    """Return whether the layer is still being downloaded and only its number of downloaded bytes has changed."""
    return (
        new.state is LayerPhase.DOWNLOADING is old.state
        and new.total_bytes == old.total_bytes >= new.downloaded_bytes + new.cached_bytes
        and new.downloaded_bytes >= old.downloaded_bytes
        and new.cached_bytes == old.cached_bytes
        and new.total_known is old.total_known
        and new.fetched_by == old.fetched_by
    )


def is_done(layer: LayerState) -> bool:
    """Return whether the layer no longer needs to be fetched."""
    if layer.state is None:
        return layer.total_known and layer.downloaded_bytes >= layer.total_bytes
    return layer.state in DONE
