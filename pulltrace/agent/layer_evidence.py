"""Update each layer's progress from what one poll found: its ingest, its blob, its snapshots and its owner. Sans-I/O.

Pulls share layers. The owner of a layer is the pull that is downloading or has downloaded it; the layer's bytes are
attributed to its owner only.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

from pulltrace.agent.layers import Progress
from pulltrace.agent.model import BlobQuestion, Facts, Ingest, Observation, Question, SnapshotQuestion
from pulltrace.agent.pull import Pull, age
from pulltrace.agent.serving import Serving


class LayerEvidence:
    """The layer data from the current poll, and which pull owns each layer."""

    def __init__(self, facts: Facts, serving: Serving) -> None:
        self._facts = facts
        self._serving = serving
        self._owners: dict[str, str] = {}  # digest → id of the pull that is downloading or has downloaded it
        self._received: dict[str, int] | None = None
        self._held: frozenset[str] = frozenset()  # digests of the blobs in the leases of live pulls
        self._unpacking: frozenset[str] = frozenset()  # chain ids of the layers that live pulls are unpacking
        self._unpacked: frozenset[str] = frozenset()  # chain ids of the unpacked layers in the leases of live pulls

    def __len__(self) -> int:
        return len(self._owners)

    def take(self, seen: Observation, live: Collection[Pull]) -> None:
        """Start processing the lists received in one poll. ``live`` contains the pulls whose leases the poll lists."""
        self._received = seen.received
        self._assign_owners(seen.ingests, live)
        self._held = frozenset().union(*(pull.resources.content for pull in live))
        self._unpacking = frozenset().union(*(pull.resources.unpacking for pull in live))
        self._unpacked = frozenset().union(*(pull.resources.unpacked for pull in live))

    def forget(self, digests: Collection[str]) -> None:
        """Forget the owners of all blobs except these."""
        self._owners = {digest: owner for digest, owner in self._owners.items() if digest in digests}

    def is_alone(self, pull: Pull) -> bool:
        """Return whether no other pull is fetching or unpacking one of this pull's layers."""
        chains = [chain for progress in pull.layers.values() for chain in progress.layer.chain_ids]
        return self._unpacking.isdisjoint(chains) and not any(self._owner_of(item, pull) for item in pull.layers)

    def see_layers(self, pull: Pull, ingests: Mapping[str, Ingest], now: float) -> set[Question]:
        """Update the layers of a live pull, and return the questions to ask containerd about them. ``ingests`` contains
        the node's ingests, keyed by digest.
        """
        questions: set[Question] = set()
        for digest, progress in pull.layers.items():
            ingest = ingests.get(digest)
            if ingest and not ingest.is_copy:
                self.see_ingest(pull, progress, ingest, now)
            self.see_objects(pull, progress, now, live=True)
            asked = digest in self._facts.absent or BlobQuestion(digest) in pull.checked
            if pull.served and not ingest and asked and progress.is_missing:
                self._see_snapshotter(pull, progress, now)
            questions.update(self._questions(pull, progress, ingest))
        return questions

    def see_ingest(self, pull: Pull, progress: Progress, ingest: Ingest, now: float) -> None:
        """Record how much of a layer has been downloaded."""
        if ingest.ref in pull.resources.ingests and progress.cached_before:
            progress.see_collected()
            self._facts.blobs.pop(ingest.digest, None)
            snapshotter = self._serving.snapshotter_of(pull)
            for chain in progress.layer.chain_ids:  # a layer that is being fetched has no snapshots yet
                self._facts.snapshots.pop((snapshotter, chain), None)
                pull.checked.discard(SnapshotQuestion(chain, snapshotter))
        if progress.complete:
            return
        owner = self._owner_of(ingest.digest, pull)
        before = progress.downloaded
        progress.see_ingest(ingest, pull.fetching_since, owner, now)
        if owner is None:
            pull.moved_at = max(pull.moved_at, ingest.updated_at)
            pull.inherited &= not 0 < before < progress.downloaded

    def see_objects(self, pull: Pull, progress: Progress, now: float, *, live: bool) -> None:
        """Record a layer's blob and snapshots, as far as they are known. ``live`` is false if the pull has ended."""
        layer, blob = progress.layer, self._facts.blobs.get(progress.layer.digest)
        since = pull.fetching_since
        if blob:
            if blob.created_at >= since and self._may_have_fetched(pull, layer.digest):
                self._owners.setdefault(layer.digest, pull.lease.id)
                pull.moved_at = max(pull.moved_at, blob.created_at)
            progress.see_blob(blob, since, self._owner_of(layer.digest, pull))
        if live and self._serving.may_use_another(pull):
            return
        snapshotter = self._serving.snapshotter_of(pull)
        snapshots = [self._facts.snapshots.get((snapshotter, chain)) for chain in layer.chain_ids]
        if snapshots and None not in snapshots:
            if progress.committed_in is None:
                progress.committed_in = pull.polls
            absence = self._serving.absence(pull, progress, live=live)
            owner = self._owner_of(layer.digest, pull)
            visible = self._received is not None
            committed = [item for item in snapshots if item]
            progress.see_snapshots(committed, since, owner, absence, visible=visible)
        elif not self._unpacking.isdisjoint(layer.chain_ids):
            progress.see_unpacking(now)

    def _may_have_fetched(self, pull: Pull, digest: str) -> bool:
        """Return whether the pull's lease contains the blob. Also return true if no live pull's lease contains the
        blob. In that case, the blob's bytes are counted only for the first pull that needs it.
        """
        return digest in pull.resources.content or digest not in self._held

    def _assign_owners(self, ingests: Iterable[Ingest], live: Collection[Pull]) -> None:
        """Assign each ingest to the newest live lease that lists it."""
        for ingest in ingests:
            holders = [pull for pull in live if ingest.ref in pull.resources.ingests]
            if holders:
                self._owners[ingest.digest] = max(holders, key=age).lease.id

    def _owner_of(self, digest: str, pull: Pull) -> str | None:
        """Return the id of the pull that is downloading or has downloaded this blob. Return None if that pull is
        ``pull`` itself, or if there is no such pull.
        """
        owner = self._owners.get(digest)
        return None if owner == pull.lease.id else owner

    def _see_snapshotter(self, pull: Pull, progress: Progress, now: float) -> None:
        """Record the progress of a layer that the snapshotter fetches. The layer's bytes are attributed to the first
        pull that needs it.
        """
        digest = progress.layer.digest
        self._owners.setdefault(digest, pull.lease.id)
        owner = self._owner_of(digest, pull)
        if self._received is None:
            progress.see_snapshotter(owner, now)
        elif digest in self._received:
            if self._received[digest] > progress.downloaded:
                pull.moved_at = now
            progress.see_file(self._received[digest], owner, now)
        else:
            progress.see_no_fetch()

    def _questions(self, pull: Pull, progress: Progress, ingest: Ingest | None) -> Iterator[Question]:
        """Yield the questions to ask containerd about one layer. The first questions, which determine whether the layer
        is cached, are asked again only if the lists show that the layer has changed.
        """
        digest, chains = progress.layer.digest, progress.layer.chain_ids
        # Since containerd 1.7, a lease also lists older snapshots, so only the age of a snapshot shows which pull
        # unpacked it. On containerd 1.6, a snapshot is listed only in the lease of the pull that creates it.
        unpacked = [chain for chain in chains if chain in self._unpacked]
        vanished = ingest is None and (progress.started_at is not None or self._owner_of(digest, pull) is not None)
        blob = BlobQuestion(digest)
        changed = bool(unpacked) or progress.committed_in is not None or digest in pull.resources.content
        changed |= vanished and not pull.served
        if not progress.complete and digest not in self._facts.blobs and (changed or blob not in pull.checked):
            yield blob
        if not progress.unpacked:
            for chain in chains:
                question = SnapshotQuestion(chain, self._serving.snapshotter_of(pull))
                known = (question.snapshotter, chain) in self._facts.snapshots
                if not known and (question not in pull.checked or chain in unpacked):
                    yield question
