"""Decide which snapshotter a pull uses, and whether containerd or the snapshotter fetches the layers. Sans-I/O.

If a snapshotter fetches a layer itself, containerd has no ingest, blob or prepared snapshot for it. The pull's lease
lists the layer only once the layer is complete.
"""

from pulltrace.agent.layers import Absence, Progress
from pulltrace.agent.model import LAYER_REFS, BlobQuestion, Facts, Resources
from pulltrace.agent.pull import Pull
from pulltrace.agent.snapshotters import DEFAULT, LOCAL, Snapshotters


class Serving:
    """The snapshotters of one containerd instance. Determines which of them a pull uses. ``name`` is the default
    snapshotter, or empty if unknown.
    """

    def __init__(self, facts: Facts) -> None:
        self.name = ""
        self._facts = facts
        self._loaded = Snapshotters()

    def know(self, loaded: Snapshotters) -> None:
        """Record the snapshotters that containerd has loaded."""
        self._loaded = loaded
        self.name = loaded.default or self.name

    def take(self, pull: Pull, resources: Resources) -> None:
        """Record what a lease's resources show: the pull's snapshotter, and whether containerd fetches the layers."""
        if resources.unpacking or any(ref.startswith(LAYER_REFS) for ref in resources.ingests):
            pull.let_containerd_fetch()
        if resources.snapshotter:
            self._use(pull, resources.snapshotter)

    def snapshotter_of(self, pull: Pull) -> str:
        """Return the snapshotter that the pull uses. The result is a guess until the pull's lease lists a snapshot."""
        return pull.snapshotter or self.name or DEFAULT

    def may_use_another(self, pull: Pull) -> bool:
        """Return whether the pull might turn out to use a snapshotter that fetches layers itself. This is possible if
        such a snapshotter is loaded and the pull is only assumed to use a local one.

        A runtime class can select a different snapshotter. Since containerd 1.7, a lease lists every snapshot that its
        pull created or found.
        """
        used = pull.snapshotter or pull.resources.snapshotter
        return bool(self._loaded.remote) and not used and self.snapshotter_of(pull) in LOCAL

    def is_at_work(self, pull: Pull, *, alone: bool) -> bool:
        """Return whether the snapshotter fetches the layers. If a snapshotter can fetch layers, it is assumed to do so
        unless there are signs that containerd is fetching them itself.

        ``alone`` is false if this pull is waiting for another pull to fetch or unpack some of this pull's layers.
        """
        if pull.image is None or not pull.image.config_read or pull.by_containerd:
            return False
        if pull.resources.snapshotter and all(progress.unpacked for progress in pull.layers.values()):
            return False
        checked = all(BlobQuestion(digest) in pull.checked for digest in pull.layers)
        if alone and checked and self.may_use_another(pull):
            self._use(pull, self._loaded.remote[0])
        return self.snapshotter_of(pull) not in LOCAL

    def absence(self, pull: Pull, progress: Progress, *, live: bool) -> Absence | None:
        """Return the reason why a layer has no blob, or None if the layer may have one.

        While the pull is live, a blob counts as missing only if containerd reported its absence after the snapshot was
        committed.
        """
        if progress.layer.digest not in self._facts.absent or (live and progress.committed_in == pull.polls):
            return None
        if self.snapshotter_of(pull) not in LOCAL:
            return Absence.SNAPSHOTTER
        # A live lease protects its pull's blobs from deletion, so a missing blob was never fetched. If some layers of a
        # finished pull still have blobs, containerd evidently does not discard blobs.
        if live or any(digest in self._facts.blobs for digest in pull.layers):
            return Absence.STAGED
        return Absence.DISCARDED

    def _use(self, pull: Pull, snapshotter: str) -> None:
        """Record which snapshotter the pull uses.

        The contents of one snapshotter prove nothing about a pull that uses a different snapshotter.
        """
        if snapshotter != self.snapshotter_of(pull):
            for progress in pull.layers.values():
                progress.see_other_snapshotter()
        pull.snapshotter = snapshotter
        if not self._loaded.default:
            self.name = snapshotter
