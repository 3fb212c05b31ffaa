"""Track pulls from poll to poll. Each pull has one lease in containerd. Sans-I/O.

``observe`` takes one poll's lists and returns the questions to ask containerd. The poller obtains the answers, passes
them to ``learn``, and calls ``observe`` again with the same lists, until there are no new questions. Finally, the
poller calls ``after_poll``. ``pulls`` and ``ended`` return the states to report.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pulltrace.agent.attribution import Image, image_of, source_of, unread
from pulltrace.agent.conclusion import Conclusion, Ending, Outcome
from pulltrace.agent.growth import is_steady
from pulltrace.agent.layer_evidence import LayerEvidence
from pulltrace.agent.manifests import Index, parse
from pulltrace.agent.model import (
    ARCHIVE,
    Blob,
    BlobQuestion,
    DocumentQuestion,
    Facts,
    ImageQuestion,
    Ingest,
    Lease,
    Observation,
    Question,
    Resources,
    SnapshotQuestion,
    Write,
)
from pulltrace.agent.pull import FETCH, Pull, Seen, age
from pulltrace.agent.records import RecordLedger
from pulltrace.agent.serving import Serving
from pulltrace.agent.short_pulls import Change, ShortPulls, adopt
from pulltrace.agent.stale_leases import EMPTY_LIMIT, NO_PROGRESS_LIMIT, UNPACK_LIMIT, looks_stale
from pulltrace.wire import ErrorReason, PullPhase, PullState


class Tracker:
    """All pulls of one containerd instance."""

    def __init__(self) -> None:
        self.facts = Facts()
        self.serving = Serving(self.facts)
        self.containerd_since = 0.0
        """The time at which the running containerd started; 0.0 if it is unknown."""
        self._evidence = LayerEvidence(self.facts, self.serving)
        self._ledger = RecordLedger()
        self._conclusion = Conclusion(self.facts, self._ledger)
        self._pulls: dict[str, Pull] = {}
        self._missing_lease: list[Pull] = []  # pulls whose leases are missing from this poll
        self._dead: set[str] = set()  # ids of leases whose pulls have ended
        self._loose: dict[str, int] = {}  # offset at which each ingest without a lease was first seen, by ref
        self._ended: list[PullState] = []
        self._short = ShortPulls()
        self._changes: list[Change] = []
        self._changes_since = 0.0
        self._started = False
        self.unsteady: set[str] = set()
        """The ids of the leases whose resources can change even while the ingests stay the same."""
        self._growing: dict[str, Ingest] = {}  # the ingests of the last poll, by ref
        self._states: dict[str, PullState] = {}  # the last reported states, by pull id

    @property
    def idle(self) -> bool:
        """Return whether at least one poll has run and there is nothing to track: no pull, no ingest and no stale
        lease.
        """
        return self._started and not (self._pulls or self._loose or self._dead)

    @property
    def served(self) -> bool:
        """Return whether a snapshotter is fetching the layers of any pull."""
        return any(pull.served for pull in self._pulls.values())

    def is_mere_growth(self, ingests: Collection[Ingest]) -> bool:
        """Return whether these are the same ingests as in the last poll, with only their offsets changed."""
        if self.idle or self._loose or self._changes or len(ingests) != len(self._growing):
            return False
        return all(
            (before := self._growing.get(item.ref)) is item
            or (before and item.started_at == before.started_at and item.offset >= before.offset)
            for item in ingests
        )

    def grow(self, ingests: Iterable[Ingest], now: float) -> None:
        """Process a poll in which all pulls are steady and their ingests have only grown (see ``is_mere_growth``).

        Only the layers whose ingests have grown are updated.
        """
        for ingest in ingests:
            if ingest is self._growing[ingest.ref]:
                continue
            self._growing[ingest.ref] = ingest
            for pull in self._pulls.values():
                progress = pull.layers.get(ingest.digest)
                if progress and not ingest.is_copy:
                    if pull.changed is not None:
                        pull.changed.add(ingest.digest)
                    self._evidence.see_ingest(pull, progress, ingest, now)

    def is_pull(self, lease: Lease) -> bool:
        """Return whether the lease may belong to a pull, in which case the poller requests its resources."""
        return lease.expires and lease.id not in self._dead

    def containerd_restarted(self) -> None:
        """Record that the connection to containerd was lost and restored. No pull survives a restart of containerd, so
        every known pull has ended.

        Leases that are first seen after the restart may also be stale.
        """
        for pull in self._pulls.values():
            pull.cause = "containerd restarted during the pull"
            self._dead.add(pull.lease.id)
        self._loose.clear()
        self._growing.clear()
        self._started = False

    def see_change(self, change: Change, since: float) -> None:
        """Record that an image record was written. If no poll has seen the pull that wrote the record, the pull began
        after ``since``.
        """
        self._changes_since = since
        self._changes.append(change)

    def see_writes(self, writes: Mapping[str, Collection[Write]]) -> None:
        """Record writes to image records. ``writes`` is keyed by record name."""
        self._ledger.see_writes(writes)

    def see_removed(self, name: str) -> None:
        """Record that an image record has been written and removed since the last poll."""
        self._ledger.see_removed(name)

    def see_containers(self, times: Iterable[float]) -> None:
        """Record the times at which containers were created. If an empty lease began before a container was created, it
        may have belonged to that container.
        """
        self.facts.containers.extend(times)

    def learn(self, question: Question, response: Any) -> None:
        """Record the answer to one question. None means that the object does not currently exist."""
        match question:
            case BlobQuestion(digest) | DocumentQuestion(digest) if response is None:
                self.facts.absent.add(digest)
            case _ if response is None:
                pass
            case BlobQuestion(digest):
                self.facts.blobs[digest] = response
            case DocumentQuestion(digest):
                self.facts.documents[digest] = parse(response)
            case SnapshotQuestion(chain_id, snapshotter):
                self.facts.snapshots[snapshotter, chain_id] = response
            case ImageQuestion(target):
                self.facts.images[target] = response

    def observe(self, seen: Observation, now: float) -> set[Question]:
        """Process one poll and return the questions to ask containerd. Call this method again with the same lists after
        the questions have been answered.
        """
        seen = self._with_loose_ingests(seen, now)
        leases = {lease.id: lease for lease in seen.leases if self.is_pull(lease) or lease.id.startswith(FETCH)}
        self._dead &= {lease.id for lease in seen.leases}
        for lease_id, resources in seen.resources.items():
            if lease_id in leases:
                self._take_resources(leases[lease_id], resources, now)
        self._started = True
        self._missing_lease = [pull for pull in self._pulls.values() if pull.lease.id not in leases]
        self._add_short_pulls()
        live = [pull for pull in self._pulls.values() if pull.lease.id in leases]
        self._evidence.take(seen, live)
        ingests = {ingest.digest: ingest for ingest in seen.ingests}
        self._growing = {ingest.ref: ingest for ingest in seen.ingests}
        for pull in sorted(self._pulls.values(), key=age):
            pull.changed = None
            if pull.lease.id in leases:
                pull.asking |= self._progress(pull, ingests, now)
            else:
                pull.asking |= self._conclude(pull, now)
        questions = {question for pull in self._pulls.values() for question in pull.asking}
        self.facts.asked |= questions
        return questions

    def _add_short_pulls(self) -> None:
        """Add the pulls that began and ended between two polls. The tracker treats all these pulls as ending in the
        current poll.

        If polls saw only the lease of a pull that has just ended, that pull may be one of these short pulls.
        """
        if not self._changes:
            return
        pulls = [pull for pull in self._pulls.values() if not self._is_foreign(pull, self._records_of(pull))]
        found = self._short.find(self._changes, pulls, self._changes_since)
        leases = [pull for pull in self._missing_lease if pull.seen is Seen.LEASE]
        unseen = sorted((pull for pull in leases if not self._conclusion.is_doubtful(pull)), key=age)
        for pull in unseen:
            later = (short for short in found if age(short) >= age(pull))
            if short := next((short for short in later if not self._is_foreign(pull, [short.record or ""])), None):
                found.remove(short)
                adopt(pull, short)
        self._pulls |= {short.lease.id: short for short in found}
        self._changes.clear()

    def _records_of(self, pull: Pull) -> list[str]:
        """Return the names of the records that were written since the last poll and point to the pull's content."""
        return [change.record.name for change in self._changes if change.record.target in pull.resources.content]

    def _is_foreign(self, pull: Pull, records: Iterable[str]) -> bool:
        """Return whether the pull's lease seems to belong to a client other than the CRI plugin. This is the case if
        such a client was the first to write one of these records after the lease began.
        """
        return any(self._ledger.is_foreign(name, age(pull)) for name in records)

    def after_poll(self, now: float, unanswered: Collection[Question] = ()) -> None:
        """End the poll, and drop data that is no longer needed by any pull. ``unanswered`` contains the questions that
        containerd did not answer.
        """
        for pull in sorted(self._pulls.values(), key=age):
            pull.polls += 1
            pull.checked |= pull.asking.difference(unanswered)
            # Open questions about image records do not matter here, because every full poll repeats them for any pull
            # that may have begun before the agent started.
            pull.is_answered = all(isinstance(question, ImageQuestion) for question in pull.asking)
            pull.asking.clear()
            self._drop_if_dead(pull, now)
        layers = [progress.layer for pull in self._pulls.values() for progress in pull.layers.values()]
        digests = {layer.digest for layer in layers}
        digests.update(*(pull.resources.content for pull in self._pulls.values()))
        self.facts.forget(digests, {chain for layer in layers for chain in layer.chain_ids})
        self._evidence.forget(digests)
        oldest = min(map(age, self._pulls.values()), default=now)
        self._ledger.after_poll(oldest, self._changes_since)
        self.facts.containers = [at for at in self.facts.containers if at >= oldest]
        self.facts.images.clear()
        self.facts.absent.clear()
        self.facts.asked.clear()
        self._missing_lease.clear()
        self.unsteady = {pull.lease.id for pull in self._pulls.values() if not is_steady(pull, self._growing, now)}

    def pulls(self) -> list[PullState]:
        """Return the state of every live pull, sorted by start time. If a state has not changed, return the same object
        as in the previous call.
        """
        before, self._states = self._states, {}
        for pull in sorted(self._pulls.values(), key=age):
            if pull.is_worth_reporting and not pull.suspect:
                known = before.get(pull.lease.id)
                unchanged = pull.changed is not None and not pull.changed
                state = known if known and unchanged else pull.state(pull.phase)
                self._states[state.id] = known if known == state else state
                pull.changed = set()
        return list(self._states.values())

    def ended(self) -> list[PullState]:
        """Return the pulls that have ended since the previous call."""
        ended, self._ended = self._ended, []
        return ended

    def _with_loose_ingests(self, seen: Observation, now: float) -> Observation:
        """Create a placeholder lease for each growing ingest that has no lease, because some clients pull without
        leases.

        An ingest that does not grow and does not belong to a live lease is left over from an interrupted pull.
        """
        known = seen.resources.keys() - self._dead
        held = {ref for lease in seen.leases if lease.id in known for ref in seen.resources[lease.id].ingests}
        loose = {ingest.ref: ingest for ingest in seen.ingests if ingest.ref not in held}
        self._loose = {ref: self._loose.get(ref, ingest.offset) for ref, ingest in loose.items()}
        moving = [
            ingest
            for ref, ingest in loose.items()
            if ingest.is_layer and ingest.offset > self._loose[ref] and now - ingest.updated_at < NO_PROGRESS_LIMIT
        ]
        leases, resources = list(seen.leases), dict(seen.resources)
        for item in moving:
            lease_id = f"{FETCH}{item.digest.partition(':')[2][:12]}-{item.started_at:.0f}"
            leases.append(Lease(lease_id, item.started_at, is_default=False))
            resources[lease_id] = Resources(ingests=frozenset({item.ref}))
        return Observation(seen.ingests, leases, resources, seen.received)

    def _take_resources(self, lease: Lease, resources: Resources, now: float) -> None:
        pull = self._pulls.get(lease.id)
        if pull is None:
            pull = self._pulls[lease.id] = Pull(lease, inherited=not self._started, moved_at=lease.created_at)
        elif resources != pull.resources:
            pull.moved_at, pull.inherited = now, False
        pull.resources, pull.seen_at = resources, now
        pull.imported |= any(ref.startswith(ARCHIVE) for ref in resources.ingests)
        self.serving.take(pull, resources)

    def _progress(self, pull: Pull, ingests: Mapping[str, Ingest], now: float) -> set[Question]:
        content, facts = pull.resources.content, self.facts
        read = facts.documents.keys() & content
        if read != pull.read or pull.image is None:
            pull.read, pull.image = read, image_of(content, facts.documents) or pull.image
            pull.take_layers(ingests)
        if not pull.layers and all(isinstance(facts.documents.get(digest), Index) for digest in content):
            pull.resolving_at = now
        questions: set[Question] = {DocumentQuestion(digest) for digest in unread(content, facts.documents, pull.image)}
        if pull.image:
            questions |= self._trace(pull, pull.image)
            if pull.inherited:
                questions |= {ImageQuestion(target) for target in pull.image.targets}
        if pull.imported:
            questions |= self._take_archived_layers(pull, ingests)
        pull.served = not pull.imported and self.serving.is_at_work(pull, alone=self._evidence.is_alone(pull))
        return questions | self._evidence.see_layers(pull, ingests, now)

    def _take_archived_layers(self, pull: Pull, ingests: Mapping[str, Ingest]) -> set[Question]:
        """Set an imported image's layers. Every blob that is not a document counts as a layer, because an archive's
        manifests arrive last.
        """
        documents, blobs = self.facts.documents, self.facts.blobs
        committed = {digest for digest in pull.resources.content if digest in documents and documents[digest] is None}
        sizes = {digest: blobs[digest].size for digest in committed if digest in blobs}
        pull.take_archived_layers(ingests, sizes)
        return {BlobQuestion(digest) for digest in committed if digest not in blobs}

    def _trace(self, pull: Pull, image: Image) -> set[Question]:
        """Determine the registry from the blobs' source labels. containerd sets a blob's label shortly after committing
        the blob. Therefore, the result is final only after a second poll has read the labels.

        Until the result is final, the registry is derived only from blobs that this pull must have fetched itself,
        because such a blob has only one source.
        """
        asked: set[Question] = {BlobQuestion(digest) for digest in image.documents if digest in pull.resources.content}
        if pull.traced or pull.imported:
            return set()
        if asked <= pull.asking:
            pull.traced = asked <= pull.checked
            documents = image.documents if pull.traced else self._own_documents(pull, image)
            pull.source = source_of(documents, self.facts.blobs)
        return asked

    def _own_documents(self, pull: Pull, image: Image) -> list[str]:
        blobs, since = self.facts.blobs, pull.fetching_since
        others = [other.resources.content for other in self._pulls.values() if other is not pull]
        return [
            digest
            for digest in image.documents
            if digest in blobs and blobs[digest].created_at >= since and not any(digest in other for other in others)
        ]

    def _conclude(self, pull: Pull, now: float) -> set[Question]:
        """End a pull whose lease was deleted, or return the questions that must be answered first."""
        questions = self._conclusion.questions(
            pull, self._missing_lease, self._pulls.values(), self.serving.snapshotter_of(pull)
        )
        if not questions:
            for progress in pull.layers.values():
                self._evidence.see_objects(pull, progress, now, live=False)
            self._end(pull, self._conclusion.ending(pull, now))
        return questions

    def _end(self, pull: Pull, ending: Ending) -> None:
        del self._pulls[pull.lease.id]
        if ending.outcome is Outcome.UNKNOWN:
            return  # the server removes the pull and takes the outcome from the kubelet's events
        targets = pull.image.targets if pull.image else pull.resources.content
        if not pull.imported:  # a pull of the image may have followed the import
            self._short.account(targets, max(ending.at, pull.seen_at))
        completed = ending.outcome is Outcome.COMPLETED
        if not completed:
            # The agent must look up the blobs again, because containerd may have deleted them with the lease.
            for digest in pull.layers:
                self.facts.blobs.pop(digest, None)
        if pull.is_worth_reporting:
            for progress in pull.layers.values():
                if ending.removed and not progress.complete:
                    progress.see_blob(Blob(progress.layer.size, ending.at), pull.fetching_since, progress.fetched_by)
                progress.end(completed=completed)
            phase = PullPhase.COMPLETED if completed else PullPhase.FAILED
            self._ended.append(
                pull.state(phase, ended_at=ending.at, error=ending.error, reason=ending.reason, name=ending.name)
            )

    def _drop_if_dead(self, pull: Pull, now: float) -> None:
        """Drop a pull if its lease is stale, and give up on a pull that makes no progress.

        An inherited lease counts as stale only if it looks stale in two consecutive polls. Immediately after a pull
        completes, its lease also looks stale, but only for a single poll.
        """
        if not pull.inherited:
            pull.suspect = False  # the lease is not stale, because the agent has seen the pull begin or make progress
            if not pull.served and now - max(other.moved_at for other in self._pulls.values()) > UNPACK_LIMIT:
                self._dead.add(pull.lease.id)
                self._end(pull, Ending(Outcome.FAILED, now, error="no progress for half an hour"))
            elif pull.seen is Seen.LEASE and now - age(pull) > EMPTY_LIMIT:
                self._dead.add(pull.lease.id)
                self._end(
                    pull, Ending(Outcome.CANCELLED, now, error="its lease remained empty", reason=ErrorReason.CANCELED)
                )
            return
        targets = pull.image.targets if pull.image else ()
        records = [record for target in targets for record in self.facts.images.get(target, [])]
        suspect_before = pull.suspect
        pull.suspect = looks_stale(pull, self._pulls.values(), records, self.containerd_since, now)
        if suspect_before and pull.suspect:
            self._dead.add(pull.lease.id)
            del self._pulls[pull.lease.id]
