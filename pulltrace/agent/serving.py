"""Decide which snapshotter a pull uses, and whether containerd or the snapshotter fetches the layers. Sans-I/O.

A snapshotter that fetches content itself leaves no trace in containerd: no ingest, no blob, and no prepared snapshot.
Each layer appears in the pull's lease only once the layer is complete.
"""

from pulltrace.agent.layers import Absence, Progress
from pulltrace.agent.model import LAYER_REFS, BlobQuestion, Facts, Resources
from pulltrace.agent.pull import Pull
from pulltrace.agent.snapshotters import DEFAULT, LOCAL, Snapshotters


class Serving:
    """The snapshotters of one containerd instance. ``name`` is the default snapshotter, or empty if that is unknown."""

    def __init__(self, facts: Facts) -> None:
        self.name = ""
        self._facts = facts
        self._loaded = Snapshotters()

    def know(self, loaded: Snapshotters) -> None:
        """Record the snapshotters that containerd has loaded."""
        self._loaded = loaded
        self.name = loaded.default or self.name

    def take(self, pull: Pull, resources: Resources) -> None:
        """Record what a lease shows: which snapshotter is in use, and whether containerd fetches the layers."""
        if resources.unpacking or any(ref.startswith(LAYER_REFS) for ref in resources.ingests):
            pull.let_containerd_fetch()
        if resources.snapshotter:
            self._use(pull, resources.snapshotter)

    def snapshotter_of(self, pull: Pull) -> str:
        """Return the snapshotter that the pull uses. If its lease does not list a snapshot yet, this is a guess."""
        return pull.snapshotter or self.name or DEFAULT

    def may_use_another(self, pull: Pull) -> bool:
        """Return whether the pull may use a snapshotter other than the default one, because several are loaded.

        A runtime class can select another snapshotter. From containerd 1.7 on, a lease lists every snapshot that its
        pull created or found.
        """
        used = pull.snapshotter or pull.resources.snapshotter
        return bool(self._loaded.remote) and not used and self.snapshotter_of(pull) in LOCAL

    def is_at_work(self, pull: Pull, *, alone: bool) -> bool:
        """Return whether the snapshotter fetches the layers: the snapshotter can do so, and nothing shows that
        containerd does.

        ``alone`` is false if another pull fetches or unpacks a layer of this pull. This pull then waits for the other
        pull.
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
        """Explain why a layer has no blob; None if the reason is not certain.

        While the pull is running, only a response that was received after the snapshot was committed proves that there
        is no blob.
        """
        if progress.layer.digest not in self._facts.absent or (live and progress.committed_in == pull.polls):
            return None
        if self.snapshotter_of(pull) not in LOCAL:
            return Absence.SNAPSHOTTER
        # A live lease protects its blobs, so a missing blob was never fetched. Once the pull has ended, blobs of other
        # layers that still exist show that containerd does not discard blobs.
        if live or any(digest in self._facts.blobs for digest in pull.layers):
            return Absence.STAGED
        return Absence.DISCARDED

    def _use(self, pull: Pull, snapshotter: str) -> None:
        """Record which snapshotter the pull uses.

        The content of one snapshotter proves nothing about a pull that uses another.
        """
        if snapshotter != self.snapshotter_of(pull):
            for progress in pull.layers.values():
                progress.see_other_snapshotter()
        pull.snapshotter = snapshotter
        if not self._loaded.default:
            self.name = snapshotter
