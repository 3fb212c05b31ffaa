"""Poll containerd: list what exists, then request the details that the tracker still needs."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from pulltrace.agent.containerd import Containerd, ContainerdError
from pulltrace.agent.grpc_client import AT_ONCE, DEADLINE
from pulltrace.agent.model import (
    BlobQuestion,
    DocumentQuestion,
    ImageQuestion,
    Observation,
    Question,
    SnapshotQuestion,
)
from pulltrace.agent.soci_root import SociRoot
from pulltrace.agent.tracker import Tracker
from pulltrace.logs import fields

RESTS = 4
"""Idle polls in a row that list leases only. A download without a lease is rare; it is seen this many polls later."""

_log = logging.getLogger(__name__)


class Poller:
    """Joins one containerd and one tracker."""

    def __init__(self, containerd: Containerd, soci_root: SociRoot | None = None) -> None:
        self.tracker = Tracker()
        self.containerd = containerd
        self._soci_root = soci_root
        self._has_polled = False
        self._broken = False
        self._rests = 0
        self._polls = (0.0, 0.0)  # when the last two began

    async def poll(self, now: float) -> None:
        """Poll once: one call if the node is idle; otherwise two, one for each pull, and one for each new document."""
        containerd, tracker = self.containerd, self.tracker
        # The channel may have reconnected before this poll; the socket is then a new one.
        is_same = containerd.connected and containerd.since == tracker.containerd_since
        self._broken |= self._has_polled and not is_same
        # A pull whose lease the last poll listed may have ended before that poll requested its resources.
        since, self._polls = self._polls[0] or self._polls[1] or now, (self._polls[1], now)
        changed = containerd.changed_images()
        if tracker.idle and not self._broken and not changed and self._rests < RESTS:
            self._rests += 1
            if not any(map(tracker.is_pull, await containerd.leases())):
                return
        self._rests = 0
        for name in changed:
            if change := await containerd.change(name):
                tracker.see_change(change, since)
        # The order matters: the lease of a listed ingest is in the list that follows.
        ingests = await containerd.ingests()
        leases = await containerd.leases()
        if self._broken:
            tracker.containerd_restarted()
        if self._broken or not self._has_polled:
            tracker.serving.know(await containerd.snapshotters())
            tracker.containerd_since, self._broken = containerd.since, False
        ids = [lease.id for lease in leases if tracker.is_pull(lease)]
        if ids or ingests or not tracker.idle:
            received = self._soci_root.received() if self._soci_root and tracker.served else None
            await self._follow(Observation(ingests, leases, await containerd.resources(ids), received), now)
        self._has_polled = True

    async def _follow(self, seen: Observation, now: float) -> None:
        asked: set[Question] = set()
        unanswered: set[Question] = set()
        # Snapshots go last, so that a snapshotter that does not respond delays no other response.
        while questions := sorted(self.tracker.observe(seen, now) - asked, key=_is_about_snapshots):
            unanswered |= await self._learn(questions)
            asked.update(questions)
        self.tracker.after_poll(now, unanswered)

    async def _learn(self, questions: Sequence[Question]) -> set[Question]:
        """Request all of these within ``DEADLINE`` seconds together. Return those that got no response."""
        remaining, unanswered = iter(questions), set(questions)

        async def request() -> None:
            for question in remaining:
                try:
                    response = await self._request(question)
                except ContainerdError as error:
                    # A snapshotter that is down must not hide everything else; the question is repeated later.
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
