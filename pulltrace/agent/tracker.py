"""PURE: follows pulls through time. One lease of containerd is one pull, from its first sight to its end.

``observe`` takes what a poll saw and returns what it still needs to know; the loop asks, lets it ``learn`` the answers
and observes the same again until nothing new is asked. ``pulls`` then says how it stands.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pulltrace.agent.attribution import (
    Image,
    Name,
    image_of,
    made_with_any_tag,
    name_of,
    source_of,
    unread,
    with_children,
    written_at,
)
from pulltrace.agent.layers import Progress
from pulltrace.agent.manifests import parse
from pulltrace.agent.model import Facts, Ingest, Lease, Observation, Question, Resources
from pulltrace.agent.pull import Pull
from pulltrace.agent.stale_leases import NO_PROGRESS_LIMIT, UNPACK_LIMIT, age, looks_dead
from pulltrace.wire import PullPhase, PullState

DEFAULT_SNAPSHOTTER = "overlayfs"
"""To ask until a lease has named the node's own."""

_FETCH = "fetch-"  # id of a pull made up for an ingest that moves without a lease


class Tracker:
    """All pulls of one containerd."""

    def __init__(self) -> None:
        self.facts = Facts()
        self.snapshotter = ""
        self.containerd_since = 0.0
        """When the containerd that answers now began, as far as that is known."""
        self._pulls: dict[str, Pull] = {}
        self._gone: list[Pull] = []  # those whose lease has gone
        self._dead: set[str] = set()
        self._owners: dict[str, str] = {}  # digest → id of the pull that fetches or fetched it
        self._loose: dict[str, int] = {}  # ref of an ingest without lease → offset at first sight
        self._ended: list[PullState] = []
        self._taken: dict[str, float] = {}  # records that ended a pull → how old they were then
        self._given: dict[str, float] = {}  # the same for this poll
        self._unpacking: frozenset[str] = frozenset()  # chain ids that some live pull is unpacking
        self._unpacked: frozenset[str] = frozenset()  # and those that some live pull holds unpacked
        self._started = False

    @property
    def idle(self) -> bool:
        """Nothing is being pulled, and nothing has been left behind, as was seen at least once."""
        return self._started and not (self._pulls or self._loose or self._dead)

    def is_pull(self, lease: Lease) -> bool:
        """Its resources are worth asking for."""
        return lease.expires and lease.id not in self._dead

    def containerd_restarted(self) -> None:
        """The connection broke and is back: no CRI pull survives its containerd, so each one known is over.

        A lease that nobody saw before may be a dead one too.
        """
        for pull in self._pulls.values():
            pull.cause = "containerd restarted in the middle of the pull"
            self._dead.add(pull.lease.id)
        self._loose.clear()
        self._started = False

    def learn(self, question: Question, answer: Any) -> None:
        """Take in the answer to one question; None says that there is no such thing now."""
        if answer is None:
            return
        if question.about == "document":
            self.facts.documents[question.key] = parse(answer)
        else:
            known: dict[str, Any] = getattr(self.facts, f"{question.about}s")
            known[question.key] = answer

    def observe(self, seen: Observation, now: float) -> set[Question]:
        """Take in one poll. Returns the questions whose answers are missing; call again when they are answered."""
        seen = self._with_loose_ingests(seen, now)
        leases = {lease.id: lease for lease in seen.leases if self.is_pull(lease) or lease.id.startswith(_FETCH)}
        self._dead &= {lease.id for lease in seen.leases}
        for lease_id, resources in seen.resources.items():
            if lease_id in leases:
                self._take_in(leases[lease_id], resources, now)
        self._started = True
        self._gone = [pull for pull in self._pulls.values() if pull.lease.id not in leases]
        live = [pull for pull in self._pulls.values() if pull.lease.id in leases]
        self._own(seen.ingests, live)
        self._unpacking = frozenset().union(*(pull.resources.unpacking for pull in live))
        self._unpacked = frozenset().union(*(pull.resources.unpacked for pull in live))
        ingests = {ingest.digest: ingest for ingest in seen.ingests}
        for pull in list(self._pulls.values()):
            if pull.lease.id in leases:
                pull.asking |= self._progress(pull, ingests, now)
            else:
                pull.asking |= self._conclude(pull, now)
        return {question for pull in self._pulls.values() for question in pull.asking}

    def after_poll(self, now: float, unanswered: Collection[Question] = ()) -> None:
        """Every answer is in, but for those ``unanswered``: count the poll, forget what nobody needs any more."""
        for pull in sorted(self._pulls.values(), key=age):
            pull.polls += 1
            pull.checked |= pull.asking.difference(unanswered)
            pull.asking.clear()
            self._bury(pull, now)
        layers = [progress.layer for pull in self._pulls.values() for progress in pull.layers.values()]
        digests = {layer.digest for layer in layers}
        digests.update(*(pull.resources.content for pull in self._pulls.values()))
        self.facts.forget(digests, {chain for layer in layers for chain in layer.chain_ids})
        self._owners = {digest: owner for digest, owner in self._owners.items() if digest in digests}
        oldest = min(map(age, self._pulls.values()), default=now)
        self._taken = {name: at for name, at in (self._taken | self._given).items() if at >= oldest}
        self._given.clear()
        self.facts.images.clear()
        self._gone.clear()

    def pulls(self) -> list[PullState]:
        """Every live pull, in the order in which they began."""
        live = sorted(self._pulls.values(), key=age)
        return [pull.told(pull.phase) for pull in live if pull.worth_telling and not pull.suspect]

    def ended(self) -> list[PullState]:
        """Pulls that ended since this was asked last."""
        ended, self._ended = self._ended, []
        return ended

    def _with_loose_ingests(self, seen: Observation, now: float) -> Observation:
        """An ingest of no live lease is a leftover; if its offset moves, somebody fetches content without a lease."""
        held = {ref for lease in seen.leases if lease.id not in self._dead for ref in _refs(seen, lease)}
        loose = {ingest.ref: ingest for ingest in seen.ingests if ingest.ref not in held}
        self._loose = {ref: self._loose.get(ref, ingest.offset) for ref, ingest in loose.items()}
        moving = [
            ingest
            for ref, ingest in loose.items()
            if ingest.is_layer and ingest.offset > self._loose[ref] and now - ingest.updated_at < NO_PROGRESS_LIMIT
        ]
        leases = [Lease(f"{_FETCH}{item.digest[7:19]}-{item.started_at:.0f}", item.started_at) for item in moving]
        extra = {
            lease.id: Resources(ingests=frozenset({ingest.ref})) for lease, ingest in zip(leases, moving, strict=True)
        }
        return Observation(seen.ingests, seen.leases + leases, seen.resources | extra)

    def _take_in(self, lease: Lease, resources: Resources, now: float) -> None:
        pull = self._pulls.get(lease.id)
        if pull is None:
            pull = self._pulls[lease.id] = Pull(lease, inherited=not self._started, moved_at=lease.created_at)
        elif resources != pull.resources:
            pull.moved_at, pull.inherited = now, False
        pull.resources, pull.seen_at = resources, now
        if resources.snapshotter:
            self.snapshotter = pull.snapshotter = resources.snapshotter

    def _own(self, ingests: Iterable[Ingest], live: list[Pull]) -> None:
        """An ingest belongs to the newest live lease that lists it."""
        for ingest in ingests:
            holders = [pull for pull in live if ingest.ref in pull.resources.ingests]
            if holders:
                self._owners[ingest.digest] = max(holders, key=age).lease.id

    def _progress(self, pull: Pull, ingests: Mapping[str, Ingest], now: float) -> set[Question]:
        content, facts = pull.resources.content, self.facts
        read = facts.documents.keys() & content
        if read != pull.read:
            pull.read, pull.image = read, image_of(content, facts.documents) or pull.image
            pull.take_layers(ingests)
        elif pull.image is None:
            pull.take_layers(ingests)
        questions = {Question("document", digest) for digest in unread(content, facts.documents, pull.image)}
        if pull.image:
            questions |= self._trace(pull, pull.image)
            if pull.inherited:
                questions |= {Question("image", target) for target in pull.image.targets}
        for digest, progress in pull.layers.items():
            ingest, owner = ingests.get(digest), self._owner_of(digest, pull)
            if ingest:
                self._see_ingest(pull, progress, ingest, owner, now)
            self._see_evidence(pull, progress, now)
            questions.update(self._missing(pull, progress, ingest))
        return questions

    def _trace(self, pull: Pull, image: Image) -> set[Question]:
        """Where it pulls from. containerd notes that just after a document is here, so what two polls saw is so.

        Before, only a document counts that came since the lease and that no other pull has: it came from one place.
        """
        asked = {Question("blob", digest) for digest in image.documents if digest in pull.resources.content}
        if pull.traced:
            return set()
        if asked <= pull.asking:
            pull.traced = asked <= pull.checked
            mine = image.documents if pull.traced else self._fetched_documents(pull, image)
            pull.source = source_of(mine, self.facts.blobs)
        return asked

    def _fetched_documents(self, pull: Pull, image: Image) -> list[str]:
        blobs, since = self.facts.blobs, pull.lease.created_at
        others = [other.resources.content for other in self._pulls.values() if other is not pull]
        return [
            digest
            for digest in image.documents
            if digest in blobs and blobs[digest].created_at >= since and not any(digest in other for other in others)
        ]

    def _see_ingest(self, pull: Pull, progress: Progress, ingest: Ingest, owner: str | None, now: float) -> None:
        if ingest.ref in pull.resources.ingests and progress.was_here:
            progress.see_collected()
            self.facts.blobs.pop(ingest.digest, None)
        if progress.here:
            return
        before = progress.downloaded
        progress.see_ingest(ingest, pull.lease, owner, now)
        if owner is None:
            pull.moved_at = max(pull.moved_at, ingest.updated_at)
            pull.inherited &= not 0 < before < progress.downloaded

    def _see_evidence(self, pull: Pull, progress: Progress, now: float) -> None:
        layer, blob = progress.layer, self.facts.blobs.get(progress.layer.digest)
        if blob:
            if blob.created_at >= pull.lease.created_at and layer.digest in pull.resources.content:
                self._owners.setdefault(layer.digest, pull.lease.id)
                pull.moved_at = max(pull.moved_at, blob.created_at)
            progress.see_blob(blob, pull.lease, self._owner_of(layer.digest, pull))
        progress.see_snapshots(
            [self.facts.snapshots[chain] for chain in layer.chain_ids if chain in self.facts.snapshots],
            pull.lease,
            self._owner_of(layer.digest, pull),
            now,
            active=not self._unpacking.isdisjoint(layer.chain_ids),
            lazy=pull.lazy,
        )

    def _missing(self, pull: Pull, progress: Progress, ingest: Ingest | None) -> Iterator[Question]:
        """What to ask about one layer: first, whether the node had it; later, only what has visibly changed."""
        digest, chains = progress.layer.digest, progress.layer.chain_ids
        # From 1.7 on a lease also lists the snapshots it found, so only their age says who unpacked them; and on 1.6
        # those that another pull makes are in that one's lease alone.
        unpacked = [chain for chain in chains if chain in self._unpacked]
        vanished = ingest is None and (progress.started_at is not None or self._owner_of(digest, pull) is not None)
        blob = Question("blob", digest)
        changed = bool(unpacked) or vanished or digest in pull.resources.content
        if not progress.here and digest not in self.facts.blobs and (changed or blob not in pull.checked):
            yield blob
        if not progress.unpacked:
            for chain in chains:
                question = Question("snapshot", chain, pull.snapshotter or self.snapshotter or DEFAULT_SNAPSHOTTER)
                if chain not in self.facts.snapshots and (question not in pull.checked or chain in unpacked):
                    yield question

    def _conclude(self, pull: Pull, now: float) -> set[Question]:
        """Its lease is gone: completed if there is an image of it younger than the lease, otherwise failed."""
        if pull.image is None or not pull.image.config_read:
            questions = self._look_back(pull)
            if questions and pull.last_poll in (None, pull.polls):
                pull.last_poll = pull.polls
                return questions
            if self._may_have_completed(pull, now):
                del self._pulls[pull.lease.id]  # or failed: the server closes it, until the kubelet says which
                return set()
        content = pull.resources.content
        # An image whose documents cannot be read is there all the same.
        targets = pull.image.targets if pull.image else ("",) if content else ()
        if not all(target in self.facts.images for target in targets):
            return self._last_questions(pull, targets)
        for progress in pull.layers.values():
            self._see_evidence(pull, progress, now)
        records = [record for target in targets for record in self.facts.images[target]]
        if pull.image is None:
            records = [record for record in records if record.target in content]
        if name := name_of(records, pull.lease, pull.source, self._taken, self._given):
            times = {item: written_at(item, pull.lease, self._taken, self._given) for item in records}
            mine = {item.name: at for item, at in times.items() if made_with_any_tag(item) or at == name.written_at}
            self._given.update(mine)
            self._end(pull, name.written_at, name=name)
        elif pull.lease.id.startswith(_FETCH) and all(progress.here for progress in pull.layers.values()):
            self._end(pull, now)
        else:
            self._end(pull, now, error=pull.cause)
        return set()

    def _look_back(self, pull: Pull) -> set[Question]:
        """The pull ended before a poll saw its manifest: everything was here, or it never arrived."""
        if pull.layers:
            return {Question("blob", digest) for digest in pull.layers if digest not in self.facts.blobs}
        if not pull.resources.content:
            if "" not in self.facts.images:
                return {Question("image", "")}
            self._guess(pull)
            if not pull.resources.content:
                return set()
        content = with_children(pull.resources.content, self.facts.documents)
        pull.resources = replace(pull.resources, content=content)
        pull.image = image_of(content, self.facts.documents)
        pull.take_layers({})
        return {Question("document", digest) for digest in unread(content, self.facts.documents, pull.image)}

    def _guess(self, pull: Pull) -> None:
        """As many new images as pulls that ended unseen: one each, in the order in which they began and came."""
        unseen = [one for one in self._gone if not one.seen_anything and one.seen_at == pull.seen_at]
        made = self._made_since(pull)
        if len(made) == len(unseen):
            for one, target in zip(sorted(unseen, key=age), made, strict=True):
                one.resources, one.guessed = Resources(content=frozenset({target})), True

    def _may_have_completed(self, pull: Pull, now: float) -> bool:
        """Nothing was seen of it but its lease, and it is not sure that no image came since."""
        images = self.facts.images.get("")
        if pull.seen_anything:
            return False
        return now < pull.seen_at or images is None or any(record.updated_at >= pull.seen_at for record in images)

    def _made_since(self, pull: Pull) -> list[str]:
        """Images made or updated since the pull was last seen that no other pull explains, the oldest first."""
        taken = self._taken | self._given
        records = self.facts.images[""]
        told = {record.target for record in records if record.name in taken}
        made: dict[str, float] = {}
        for record in records:
            if record.target in told and made_with_any_tag(record):
                continue  # the CRI plugin makes these after the lease has gone
            if record.updated_at >= pull.seen_at and record.updated_at > taken.get(record.name, 0.0):
                made[record.target] = min(record.updated_at, made.get(record.target, record.updated_at))
        for other in self._pulls.values():
            for digest in (*other.resources.content, *(other.image.targets if other.image else ())):
                made.pop(digest, None)
        return sorted(made, key=made.__getitem__)

    def _last_questions(self, pull: Pull, targets: Iterable[str]) -> set[Question]:
        """Whether there is an image now, and when the layers arrived that no poll saw arriving."""
        questions = {Question("image", target) for target in targets}
        for digest, progress in pull.layers.items():
            if not progress.here:
                questions.add(Question("blob", digest))
            if not progress.unpacked:
                snapshotter = pull.snapshotter or self.snapshotter or DEFAULT_SNAPSHOTTER
                questions |= {Question("snapshot", chain, snapshotter) for chain in progress.layer.chain_ids}
        return questions

    def _end(self, pull: Pull, now: float, error: str | None = None, name: Name | None = None) -> None:
        del self._pulls[pull.lease.id]
        if error is not None:
            for digest in pull.layers:  # its blobs go with its lease; those of others are asked for again
                self.facts.blobs.pop(digest, None)
        if pull.worth_telling:
            for progress in pull.layers.values():
                progress.end(completed=error is None)
            phase = PullPhase.COMPLETED if error is None else PullPhase.FAILED
            self._ended.append(pull.told(phase, ended_at=now, error=error, name=name))

    def _owner_of(self, digest: str, pull: Pull) -> str | None:
        """The other pull that fetches or fetched this blob; None when it is this one, or nobody known."""
        owner = self._owners.get(digest)
        return None if owner == pull.lease.id else owner

    def _bury(self, pull: Pull, now: float) -> None:
        """Drop a lease that outlived its pull, when it looks so twice: one that has just completed looks so once."""
        if not pull.inherited:
            pull.suspect = False  # whatever it looked like, it moves
            if now - max(other.moved_at for other in self._pulls.values()) > UNPACK_LIMIT:
                self._dead.add(pull.lease.id)
                self._end(pull, now, error="nothing of it has moved for half an hour")
            return
        targets = pull.image.targets if pull.image else ()
        records = [record for target in targets for record in self.facts.images.get(target, [])]
        suspect_before = pull.suspect
        pull.suspect = looks_dead(pull, self._pulls.values(), records, self.containerd_since, now)
        if suspect_before and pull.suspect:
            self._dead.add(pull.lease.id)
            del self._pulls[pull.lease.id]


def _refs(seen: Observation, lease: Lease) -> frozenset[str]:
    return seen.resources[lease.id].ingests if lease.id in seen.resources else frozenset()
