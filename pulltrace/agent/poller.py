"""Poll containerd: list what exists, then request the details that the tracker still needs."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from operator import attrgetter

from pulltrace.agent.containerd import Containerd, ContainerdError
from pulltrace.agent.grpc_client import AT_ONCE, DEADLINE
from pulltrace.agent.model import Observation, Question
from pulltrace.agent.tracker import Tracker
from pulltrace.logs import fields

RESTS = 4
"""Idle polls that look for leases alone. What is fetched without one is rare, and may be seen so many polls later."""

_log = logging.getLogger(__name__)


class Poller:
    """Joins one containerd and one tracker: lists what there is, and asks what the tracker still needs to know."""

    def __init__(self, containerd: Containerd) -> None:
        self.tracker = Tracker()
        self.told: set[str] = set()
        self._containerd = containerd
        self._heard = False
        self._broken = False
        self._rests = 0

    async def poll(self, now: float) -> None:
        """One poll. One call when the node is idle; else two, one more for each pull, and each document once."""
        containerd, tracker = self._containerd, self.tracker
        # The channel may be back before we look; the socket is then a new one.
        is_same = containerd.connected and containerd.since == tracker.containerd_since
        self._broken |= self._heard and not is_same
        if tracker.idle and not self._broken and self._rests < RESTS:
            self._rests += 1
            if not any(map(tracker.is_pull, await containerd.leases())):
                return
        self._rests = 0
        # The order matters: an ingest seen here has its lease in the list that follows.
        ingests = await containerd.ingests()
        leases = await containerd.leases()
        if self._broken:
            tracker.containerd_restarted()
        if self._broken or not self._heard:
            tracker.containerd_since, self._broken = containerd.since, False
        ids = [lease.id for lease in leases if tracker.is_pull(lease)]
        if ids or ingests or not tracker.idle:
            await self._follow(Observation(ingests, leases, await containerd.resources(ids)), now)
        self._heard = True

    async def _follow(self, seen: Observation, now: float) -> None:
        asked: set[Question] = set()
        unanswered: set[Question] = set()
        # In the alphabet's order snapshots come last, and a snapshotter that hangs keeps nobody else from an answer.
        while questions := sorted(self.tracker.observe(seen, now) - asked, key=attrgetter("about")):
            unanswered |= await self._learn(questions)
            asked.update(questions)
        self.tracker.after_poll(now, unanswered)

    async def _learn(self, questions: Sequence[Question]) -> set[Question]:
        """Ask containerd all of these, ``DEADLINE`` seconds for all together. Returns those that had no answer."""
        left, unanswered = iter(questions), set(questions)

        async def ask() -> None:
            for question in left:
                try:
                    answer = await self._ask(question)
                except ContainerdError as error:
                    # A snapshotter that is down must not hide everything else; the question is asked again.
                    _log.debug("no answer", extra=fields(about=question.about, key=question.key, error=error))
                else:
                    self.tracker.learn(question, answer)
                    unanswered.discard(question)

        with suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE):
                await asyncio.gather(*(ask() for _ in questions[:AT_ONCE]))
        return unanswered

    async def _ask(self, question: Question) -> object:
        containerd = self._containerd
        match question.about:
            case "blob":
                return await containerd.blob(question.key)
            case "document":
                return await containerd.document(question.key)
            case "snapshot":
                return await containerd.unpacked_at(question.snapshotter, question.key)
            case _:
                return await containerd.images(question.key)
