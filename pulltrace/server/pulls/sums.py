"""The sums over the layers of a pull. Sans-I/O.

A report changes only a few layers, so the sums are updated for these layers only.
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
"""The states of layers that no longer need to be fetched."""


class Sums(msgspec.Struct):
    """Byte counts and layer counts."""

    total: int = 0
    downloaded: int = 0
    cached_bytes: int = 0
    remote_bytes: int = 0
    extracted_bytes: int = 0
    to_unpack: int = 0
    """Bytes of the layers that are not unpacked yet."""
    done: int = 0
    """The number of layers that no longer need to be fetched."""
    cached: int = 0
    extracted: int = 0
    unpacking: int = 0
    elsewhere: int = 0
    """The number of unfinished layers that another pull or the snapshotter fetches."""
    by_snapshotter: int = 0
    exceeded: int = 0
    """The number of layers with more bytes than the manifest states, which means that the manifest's sizes are wrong.
    """

    @classmethod
    def of(cls, layers: Iterable[LayerState]) -> "Sums":
        """Return the sums over these layers."""
        sums = cls()
        for layer in layers:
            sums.add(layer)
        return sums

    def add(self, layer: LayerState, times: int = 1) -> None:
        """Add a layer; with ``times=-1``, remove it."""
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


def is_done(layer: LayerState) -> bool:
    """Return whether the layer no longer needs to be fetched."""
    if layer.state is None:
        return layer.total_known and layer.downloaded_bytes >= layer.total_bytes
    return layer.state in DONE
