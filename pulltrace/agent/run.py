"""The agent: ask containerd every interval, follow its pulls, report them."""

import asyncio
import gc
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from operator import attrgetter

from pulltrace.agent.containerd import SOCKETS, Containerd, ContainerdError, find_socket
from pulltrace.agent.http import Lookups
from pulltrace.agent.observation import Observation, Question
from pulltrace.agent.reporter import Reporter
from pulltrace.agent.rpc import AT_ONCE, DEADLINE
from pulltrace.agent.tracker import Tracker
from pulltrace.logs import fields
from pulltrace.settings import AgentSettings
from pulltrace.wire import PullPhase, PullState

SILENCE_LIMIT = 60.0
"""Seconds without an answer of containerd after which the agent gives up, so that Kubernetes restarts it."""

RESTS = 4
"""Idle polls that look for leases alone. What is fetched without one is rare, and may be seen so many polls later."""

_log = logging.getLogger(__name__)


class AgentError(Exception):
    """The agent cannot do its work; the message says what to do about it."""


def new_event_loop() -> asyncio.AbstractEventLoop:
    """One that ends at once, whatever a name server is doing."""
    loop = asyncio.new_event_loop()
    loop.set_default_executor(Lookups())
    return loop


async def watch(settings: AgentSettings, silence_limit: float = SILENCE_LIMIT) -> None:
    """Run one node's agent until cancelled. Raises ``AgentError`` when containerd cannot be heard."""
    socket = settings.containerd_socket or find_socket()
    if socket is None:
        raise AgentError(f"no containerd socket at {', '.join(SOCKETS)}: set PULLTRACE_CONTAINERD_SOCKET")
    async with Containerd(socket) as containerd, Reporter(settings) as reporter, asyncio.TaskGroup() as tasks:
        _log.info("agent started", extra=fields(node=settings.node_name, socket=socket, server=settings.server_url))
        if settings.server_url:
            tasks.create_task(reporter.run())
        tasks.create_task(_watch(containerd, reporter, settings.report_interval, silence_limit))


async def _watch(containerd: Containerd, reporter: Reporter, interval: float, silence_limit: float) -> None:
    poller = Poller(containerd)
    heard = time.monotonic()
    silent = False
    gc.freeze()
    while True:
        began = time.monotonic()
        try:
            if not reporter.containerd_version:
                reporter.containerd_version = await containerd.version()
                _log.info("containerd found", extra=fields(version=reporter.containerd_version))
            await poller.poll(time.time())
        except ContainerdError as error:
            if time.monotonic() - heard > silence_limit:
                why = f"containerd at {containerd.socket} gave no answer for {silence_limit:g} s: {error}"
                raise AgentError(why) from error
            if not silent:
                _log.warning("containerd does not answer", extra=fields(socket=containerd.socket, error=error))
            silent = True
            reporter.containerd_version = ""
        else:
            if silent:
                _log.info("containerd answers again", extra=fields(socket=containerd.socket))
            heard, silent = time.monotonic(), False
            live, ended = poller.tracker.pulls(), poller.tracker.ended()
            _tell(poller, live, ended)
            reporter.snapshotter = poller.tracker.snapshotter
            reporter.offer(live, ended)
        await asyncio.sleep(max(0.0, began + interval - time.monotonic()))


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


def _tell(poller: Poller, live: list[PullState], ended: list[PullState]) -> None:
    """One log line for a pull's start, one for its end."""
    for pull in live:
        if pull.id not in poller.told and pull.total_known:
            poller.told.add(pull.id)
            size = sum(layer.total_bytes for layer in pull.layers or ())
            _log.info("pull.started", extra=fields(id=pull.id, image=pull.image_ref, bytes=size))
    poller.told &= {pull.id for pull in live}
    for pull in ended:
        seconds = None
        if pull.started_at and pull.completed_at:
            seconds = round((pull.completed_at - pull.started_at).total_seconds(), 1)
        size = sum(layer.downloaded_bytes for layer in pull.layers or ())
        name = "pull.completed" if pull.status is PullPhase.COMPLETED else "pull.failed"
        _log.info(name, extra=fields(id=pull.id, image=pull.image_ref, seconds=seconds, bytes=size, error=pull.error))
