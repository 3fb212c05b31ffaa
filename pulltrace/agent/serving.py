"""Decide which snapshotter a pull uses, and whether containerd or the snapshotter fetches the layers. Sans-I/O.

A snapshotter that fetches content itself shows nothing in containerd: no ingest, no blob, no snapshot that is being
prepared. Each layer appears in the lease only when it is complete.
"""

from pulltrace.agent.layers import Absence, Progress
from pulltrace.agent.model import LAYER_REFS, BlobQuestion, Facts, Resources
from pulltrace.agent.pull import Pull
from pulltrace.agent.snapshotters import DEFAULT, LOCAL, Snapshotters


class Serving:
    """The snapshotters of one containerd. ``name`` is the default one, as far as it is known."""

    def __init__(self, facts: Facts) -> None:
        self.name = ""
        self._facts = facts
        self._loaded = Snapshotters()

    def know(self, loaded: Snapshotters) -> None:
        """Record which snapshotters containerd has loaded."""
        self._loaded = loaded
        self.name = loaded.default or self.name

    def take(self, pull: Pull, resources: Resources) -> None:
        """Record what a lease shows: the snapshotter that it uses, and whether containerd fetches its layers."""
        if resources.unpacking or any(ref.startswith(LAYER_REFS) for ref in resources.ingests):
            pull.let_containerd_fetch()
        if resources.snapshotter:
            self._use(pull, resources.snapshotter)

    def snapshotter_of(self, pull: Pull) -> str:
        """Return the snapshotter that the pull uses, or probably uses while its lease does not show it."""
        return pull.snapshotter or self.name or DEFAULT

    def may_use_another(self, pull: Pull) -> bool:
        """Return whether the lease has yet to show that the pull uses the default snapshotter, where there are others.

        A runtime class can name another one. From containerd 1.7 on, a lease lists every snapshot that its pull made or
        found.
        """
        used = pull.snapshotter or pull.resources.snapshotter
        return bool(self._loaded.remote) and not used and self.snapshotter_of(pull) in LOCAL

    def is_at_work(self, pull: Pull, *, alone: bool) -> bool:
        """Return whether the snapshotter fetches the layers: it can, and containerd shows no sign of doing it.

        ``alone``: no other pull fetches or unpacks a layer of this one, so this one does not wait for that.
        """
        if pull.image is None or not pull.image.config_read or pull.by_containerd:
            return False
        if pull.resources.snapshotter and all(progress.complete for progress in pull.layers.values()):
            return False
        checked = all(BlobQuestion(digest) in pull.checked for digest in pull.layers)
        if alone and checked and self.may_use_another(pull):
            self._use(pull, self._loaded.remote[0])
        return self.snapshotter_of(pull) not in LOCAL

    def absence(self, pull: Pull, progress: Progress, *, live: bool) -> Absence | None:
        """Explain why a layer has no blob; None while that is not certain.

        While the pull is running, only a response after the commit of the snapshot proves that there is none.
        """
        if progress.layer.digest not in self._facts.absent or (live and progress.committed_in == pull.polls):
            return None
        if self.snapshotter_of(pull) not in LOCAL:
            return Absence.SNAPSHOTTER
        # A live lease keeps its blobs; afterwards the blobs of the other layers show whether containerd does.
        if live or any(digest in self._facts.blobs for digest in pull.layers):
            return Absence.STAGED
        return Absence.DISCARDED

    def _use(self, pull: Pull, snapshotter: str) -> None:
        """Record which snapshotter the pull uses. What another one holds proves nothing about its layers."""
        if snapshotter != self.snapshotter_of(pull):
            for progress in pull.layers.values():
                progress.see_other_snapshotter()
        pull.snapshotter = snapshotter
        if not self._loaded.default:
            self.name = snapshotter
