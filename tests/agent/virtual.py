"""Runs the tracker in virtual time, with a simulated node and the poller's loop, but without gRPC."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from pulltrace.agent.containerd import resources_of
from pulltrace.agent.identifiers import digest_of, lease_of
from pulltrace.agent.model import (
    Blob,
    BlobQuestion,
    DocumentQuestion,
    ImageQuestion,
    ImageRecord,
    Ingest,
    Observation,
    Question,
    SnapshotQuestion,
    Write,
)
from pulltrace.agent.short_pulls import Change
from pulltrace.agent.snapshotters import Snapshot, Snapshotters, delivery_of
from pulltrace.agent.tracker import Tracker
from pulltrace.demo.virtual_containerd import VirtualContainerd
from pulltrace.wire import PullState

SOURCE = "containerd.io/distribution.source."


class Watched:
    """A node and its tracker. ``poll`` reads the node's current state. Queries for which ``refuses`` returns true get
    no response.
    """

    def __init__(self, node: VirtualContainerd, *, tracker: Tracker | None = None, sees_files: bool = False) -> None:
        self.node = node
        self.sees_files = sees_files
        self.tracker = tracker or Tracker()
        self._introduce()
        self.live: list[PullState] = []
        self.ended: list[PullState] = []
        self.history: dict[str, list[PullState]] = {}
        self.questions: list[Question] = []
        self.changed: dict[str, list[Write]] = {}
        self.polled_at = (node.now, node.now)
        self.containers: list[float] = []
        node.store.listeners.append(
            lambda name, by_cri: self.changed.setdefault(name, []).append(Write(node.now, foreign=not by_cri))
        )
        self.refuses: Callable[[Question], bool] = lambda _: False

    def look(self) -> Observation:
        """Return the lists that the agent would receive from containerd."""
        store = self.node.store
        leases = [lease_of(item.id, item.created_at, item.labels) for item in store.leases.values()]
        return Observation(
            [
                Ingest(ref, digest, item.offset, item.blob.size, item.started_at, item.updated_at)
                for ref, item in store.ingests.items()
                if (digest := digest_of(ref))
            ],
            leases,
            {item.id: resources_of(store.leases[item.id].resources) for item in leases if self.tracker.is_pull(item)},
        )

    def _with_files(self, seen: Observation) -> Observation:
        """If the snapshotter is known to fetch layers itself, add the sizes of its files to the observation."""
        if self.sees_files and self.tracker.served and seen.received is None:
            files = self.node.store.snapshotter.files
            return replace(seen, received={digest: int(size) for digest, size in files.items()})
        return seen

    def poll(self) -> None:
        """Poll once, following the same steps as ``Poller``."""
        since, self.polled_at = self.polled_at[0], (self.polled_at[1], self.node.now)
        seen, asked, unanswered = self._with_files(self.look()), set(), set()
        self.tracker.see_writes(self.changed)
        for name in sorted(self.changed):
            if change := self.change(name):
                self.tracker.see_change(change, since)
            else:
                self.tracker.see_removed(name)
        self.changed.clear()
        self.tracker.see_containers(self.containers)
        self.containers.clear()
        while questions := self.tracker.observe(seen, self.node.now) - asked:
            for question in questions:
                if self.refuses(question):
                    unanswered.add(question)
                else:
                    self.tracker.learn(question, self.respond(question))
            asked |= questions
            seen = self._with_files(seen)
        self.questions = list(asked)
        self.tracker.after_poll(self.node.now, unanswered)
        self.live, ended = self.tracker.pulls(), self.tracker.ended()
        self.ended += ended
        for pull in [*self.live, *ended]:
            self.history.setdefault(pull.id, []).append(pull)

    def polls(self, count: int, every: float = 1.0) -> None:
        """Poll ``count`` times, advancing the clock by ``every`` seconds before each poll."""
        for _ in range(count):
            self.node.advance(every)
            self.poll()

    def until(self, done: Callable[[], object], every: float = 1.0) -> None:
        """Poll until the condition holds."""
        for _ in range(600):
            if done():
                return
            self.polls(1, every)
        raise AssertionError("the condition did not become true in 600 polls")

    def create_container(self, *, empty: float = 0.0, full: float = 0.0, polls_every: float | None = None) -> None:
        """Create a container step by step, as containerd's client does: first a lease, then a snapshot, and finally the
        container, which causes an event.

        The lease is empty for ``empty`` seconds, and then holds the snapshot for ``full`` seconds.
        """
        lease = self.node.new_lease()
        self._pass(empty, polls_every)
        lease.resources["snapshots/overlayfs", f"{lease.id:0<64}"] = None
        self._pass(full, polls_every)
        self.containers.append(self.node.now)
        self.node.release(lease)

    def _pass(self, seconds: float, polls_every: float | None) -> None:
        """Let time pass, polling every ``polls_every`` seconds, or not at all if ``polls_every`` is None."""
        end = self.node.now + seconds
        while polls_every and self.node.now + polls_every <= end:
            self.polls(1, polls_every)
        self.node.advance(max(end - self.node.now, 0.0))

    def restart(self) -> None:
        """Replace the agent's tracker with a new one, as if the agent had restarted."""
        self.tracker, self.live = Tracker(), []
        self._introduce()

    def _introduce(self) -> None:
        store = self.node.store
        roots = {name: snapshotter.root for name, snapshotter in store.snapshotters.items()}
        self.tracker.serving.know(Snapshotters(roots, store.snapshotter.name))
        self.tracker.containerd_since = self.node.since

    def change(self, name: str) -> Change | None:
        """Return the image record with this name and its target blob, or None if either is missing."""
        record = self.node.store.records.get(name)
        blob = record and self.respond(BlobQuestion(record.image.target.digest))
        if not blob:
            return None
        return Change(ImageRecord(name, record.image.target.digest, record.updated_at, record.created_at), blob)

    def respond(self, question: Question) -> object:
        """Respond to a query as containerd would."""
        store = self.node.store
        match question:
            case BlobQuestion(digest):
                item = store.content.get(digest)
                return item and Blob(
                    item.blob.size,
                    item.created_at,
                    frozenset(_sources(item.labels)),
                    max(item.created_at, item.updated_at),
                )
            case DocumentQuestion(digest):
                item = store.content.get(digest)
                return item and (item.blob.data or b"")
            case SnapshotQuestion(chain_id, snapshotter):
                loaded = store.snapshotters.get(snapshotter)
                snapshot = loaded.snapshots.get(chain_id) if loaded else None
                if not snapshot or not snapshot.committed:
                    return None
                return Snapshot(snapshot.created_at, delivery_of(snapshotter, snapshot.labels))
            case ImageQuestion(target):
                return [
                    ImageRecord(item.name, item.image.target.digest, item.updated_at, item.created_at)
                    for item in store.records.values()
                    if target in ("", item.image.target.digest)
                ]


def _sources(labels: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name, repositories in labels.items():
        yield from ((name.removeprefix(SOURCE), repository) for repository in repositories.split(","))


def restart_containerd(watched):
    """Kill containerd and start it again; the agent notices the lost connection."""
    watched.node.crash()
    watched.tracker.containerd_restarted()
    watched.tracker.containerd_since = watched.node.since
