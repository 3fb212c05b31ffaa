"""Poll containerd: list what exists, then request the details that the tracker still needs."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from pulltrace.agent.containerd import Containerd, ContainerdError
from pulltrace.agent.grpc_client import AT_ONCE, DEADLINE
from pulltrace.agent.model import (
    BlobQuestion,
    DocumentQuestion,
    ImageQuestion,
    Ingest,
    Lease,
    Observation,
    Question,
    Resources,
    SnapshotQuestion,
)
from pulltrace.agent.soci_root import SociRoot
from pulltrace.agent.tracker import Tracker
from pulltrace.logs import fields

FULL_LOOK = 10
"""The maximum number of consecutive polls that skip requests because only the sizes of downloads have changed."""

RESTS = 4
"""While the node is idle, up to this many consecutive polls request only the list of leases. Downloads without a lease
are rare, but the agent may notice them up to this many polls late.
"""

_log = logging.getLogger(__name__)


class Poller:
    """Polls one containerd instance on behalf of one tracker."""

    def __init__(self, containerd: Containerd, soci_root: SociRoot | None = None) -> None:
        self.tracker = Tracker()
        self.containerd = containerd
        self._soci_root = soci_root
        self._has_polled = False
        self._broken = False
        self._rests = 0
        self._polls = (0.0, 0.0)  # the start times of the last two polls
        self._changed: set[str] = set()  # image records that have changed since this poll began
        self._growths = 0  # number of consecutive polls in which only the sizes of downloads changed
        self._leases: list[Lease] = []
        self._resources: dict[str, Resources] = {}

    async def poll(self, now: float) -> None:
        """Poll once, requesting only what may have changed.

        On an idle node, most polls make one call. If only the sizes of downloads have changed (see ``growth``), a poll
        makes two concurrent calls. Any other poll makes three calls, plus one for each pull that may have changed and
        one for each new document.
        """
        containerd, tracker = self.containerd, self.tracker
        # The channel may already have reconnected since the last poll. Therefore, a new socket also indicates that
        # containerd has restarted.
        is_same = containerd.connected and containerd.since == tracker.containerd_since
        self._broken |= self._has_polled and not is_same
        # During the last poll, a pull may have ended after its lease was listed but before the lease's resources were
        # requested. Therefore, a pull that no poll has seen may have begun at any time since the second-to-last poll.
        since, self._polls = self._polls[0] or self._polls[1] or now, (self._polls[1], now)
        changed = self._changed | self._changed_images()
        self._changed = set()
        if tracker.idle and not self._broken and not changed and self._rests < RESTS:
            self._rests += 1
            if not any(map(tracker.is_pull, await containerd.leases())):
                return
        self._rests = 0
        await self._see_changes(changed, since)
        ingests, leases = await containerd.ingests_and_leases()
        grows = self._merely_grows(ingests, leases)
        self._growths = self._growths + 1 if grows else 0
        if grows and not tracker.unsteady:
            tracker.grow(ingests, now)
            return
        if ingests and not grows:
            # The lease of every listed ingest must also be listed, so the leases are requested after the ingests.
            leases = await containerd.leases()
        # If the lease of a completed pull is no longer listed, the pull has already written its record, but the image
        # may have been removed in the meantime.
        self._changed = await self._see_removed(self._changed_images())
        if self._broken:
            tracker.containerd_restarted()
        if self._broken or not self._has_polled:
            tracker.serving.know(await containerd.snapshotters())
            tracker.containerd_since, self._broken = containerd.since, False
        ids = [lease.id for lease in leases if tracker.is_pull(lease)]
        if ids or ingests or changed or not tracker.idle:
            changed_ids = [lease_id for lease_id in ids if not grows or lease_id in tracker.unsteady]
            known = {lease_id: held for lease_id, held in self._resources.items() if lease_id in ids}
            self._resources = known | await containerd.resources(changed_ids)
            await self._follow(self._with_files(Observation(ingests, leases, self._resources)), now)
        self._leases = leases
        self._has_polled = True

    def _changed_images(self) -> set[str]:
        """Return the names of the image records written since the last call, and pass the writes to the tracker."""
        writes = self.containerd.changed_images()
        self.tracker.see_writes(writes)
        return set(writes)

    async def _see_changes(self, names: set[str], since: float) -> None:
        for name in names:
            if change := await self.containerd.change(name):
                self.tracker.see_change(change, since)
            else:
                self.tracker.see_removed(name)

    async def _see_removed(self, names: set[str]) -> set[str]:
        """Return the names of the images that still exist, and tell the tracker that the other images were removed."""
        others = set()
        for name in names:
            if await self.containerd.change(name):
                others.add(name)
            else:
                self.tracker.see_removed(name)
        return others

    def _merely_grows(self, ingests: Sequence[Ingest], leases: Sequence[Lease]) -> bool:
        """Return whether only the sizes of downloads have changed since the last poll."""
        if not self._has_polled or self._broken or self._growths >= FULL_LOOK:
            return False
        return leases == self._leases and self.tracker.is_mere_growth(ingests)

    async def _follow(self, seen: Observation, now: float) -> None:
        asked: set[Question] = set()
        unanswered: set[Question] = set()
        # Snapshots are requested last, so an unresponsive snapshotter does not delay other responses.
        self.tracker.see_containers(self.containerd.created_containers())
        while questions := sorted(self.tracker.observe(seen, now) - asked, key=_is_about_snapshots):
            self.tracker.see_containers(self.containerd.created_containers())
            unanswered |= await self._learn(questions)
            asked.update(questions)
            seen = self._with_files(seen)
        self.tracker.after_poll(now, unanswered)

    def _with_files(self, seen: Observation) -> Observation:
        """If a snapshotter is fetching layers, add the number of bytes that SOCI has written so far for each layer."""
        if self._soci_root and self.tracker.served and seen.received is None:
            return replace(seen, received=self._soci_root.received())
        return seen

    async def _learn(self, questions: Sequence[Question]) -> set[Question]:
        """Send the requests for these questions to containerd, with a single deadline of ``DEADLINE`` seconds for all
        of them. Return the questions that have not been answered.
        """
        remaining, unanswered = iter(questions), set(questions)

        async def request() -> None:
            for question in remaining:
                try:
                    response = await self._request(question)
                except ContainerdError as error:
                    # An unavailable snapshotter must not prevent the other questions from being answered. The agent
                    # asks the unanswered question again later.
                    _log.debug("no response", extra=fields(question=question, error=error))
                else:
                    self.tracker.learn(question, response)
                    unanswered.discard(question)

        with suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE):
                await asyncio.gather(*(request() for _ in questions[:AT_ONCE]))
        return unanswered

    async def _request(self, question: Question) -> object:
        containerd = self.containerd
        match question:
            case BlobQuestion(digest):
                return await containerd.blob(digest)
            case DocumentQuestion(digest):
                return await containerd.document(digest)
            case SnapshotQuestion(chain_id, snapshotter):
                return await containerd.snapshot(snapshotter, chain_id)
            case ImageQuestion(target):
                return await containerd.images(target)


def _is_about_snapshots(question: Question) -> bool:
    return isinstance(question, SnapshotQuestion)
