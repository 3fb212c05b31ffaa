"""Run the agent process: poll containerd at every interval, follow its pulls, and report them."""

import asyncio
import gc
import logging
import time
from collections.abc import Callable

from pulltrace.agent.containerd import SOCKETS, Containerd, ContainerdError, find_socket
from pulltrace.agent.poller import Poller
from pulltrace.agent.pressure import Pressure
from pulltrace.agent.reporter import Reporter
from pulltrace.agent.resolver import ThreadPerLookup
from pulltrace.agent.soci_root import SociRoot
from pulltrace.logs import fields
from pulltrace.settings import AgentSettings
from pulltrace.wire import PullPhase, PullState

SILENCE_LIMIT = 60.0
"""If containerd does not respond for this many seconds, the agent exits and Kubernetes restarts it."""

_log = logging.getLogger(__name__)


class AgentError(Exception):
    """The agent cannot run. The error message explains what to do."""


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop that closes without waiting for unresponsive name servers."""
    loop = asyncio.new_event_loop()
    loop.set_default_executor(ThreadPerLookup())
    return loop


async def watch(
    settings: AgentSettings,
    silence_limit: float = SILENCE_LIMIT,
    alive: Callable[[], None] = lambda: None,
    proc: str = "/proc",
) -> None:
    """Run one node's agent until cancelled, and call ``alive`` before each poll. The node's load is read from ``proc``.

    Raises ``AgentError`` if containerd is missing or does not respond.
    """
    socket = settings.containerd_socket or find_socket()
    if socket is None:
        raise AgentError(f"no containerd socket at {', '.join(SOCKETS)}: set PULLTRACE_CONTAINERD_SOCKET")
    connection = Containerd(socket, settings.containerd_namespace)
    async with connection as containerd, Reporter(settings) as reporter, asyncio.TaskGroup() as tasks:
        _log.info("agent started", extra=fields(node=settings.node_name, socket=socket, server=settings.server_url))
        if settings.server_url:
            tasks.create_task(reporter.run())
        poller = Poller(containerd, SociRoot(settings.soci_root) if settings.soci_root else None)
        pressure = Pressure(proc)
        tasks.create_task(
            _watch(poller, reporter, settings.report_interval, silence_limit, alive=alive, pressure=pressure)
        )


async def _watch(
    poller: Poller,
    reporter: Reporter,
    interval: float,
    silence_limit: float,
    *,
    alive: Callable[[], None],
    pressure: Pressure,
) -> None:
    containerd, pull_log = poller.containerd, PullLog()
    responded_at = time.monotonic()
    silent = False
    gc.freeze()
    while True:
        alive()
        began = time.monotonic()
        try:
            if not reporter.containerd_version:
                reporter.containerd_version = await containerd.version()
                _log.info("containerd found", extra=fields(version=reporter.containerd_version))
            await poller.poll(time.time())
        except ContainerdError as error:
            if time.monotonic() - responded_at > silence_limit:
                why = f"containerd at {containerd.socket} did not respond for {silence_limit:g} s: {error}"
                raise AgentError(why) from error
            if not silent:
                _log.warning("containerd does not respond", extra=fields(socket=containerd.socket, error=error))
            silent = True
            reporter.containerd_version = ""
        else:
            if silent:
                _log.info("containerd responds again", extra=fields(socket=containerd.socket))
            responded_at, silent = time.monotonic(), False
            live, ended = poller.tracker.pulls(), poller.tracker.ended()
            pull_log.write(live, ended)
            reporter.snapshotter = poller.tracker.serving.name
            reporter.load = pressure.measure(began, pulling=bool(live))
            reporter.offer(live, ended)
        await asyncio.sleep(max(0.0, began + interval - time.monotonic()))


class PullLog:
    """Writes one log line when a pull starts, and another when it ends."""

    def __init__(self) -> None:
        self._started: set[str] = set()

    def write(self, live: list[PullState], ended: list[PullState]) -> None:
        """Log the pulls that began or ended since the last call."""
        for pull in live:
            if pull.id not in self._started and pull.total_known:
                self._started.add(pull.id)
                size = sum(layer.total_bytes for layer in pull.layers or ())
                _log.info("pull.started", extra=fields(id=pull.id, image=pull.image_ref, bytes=size))
        self._started &= {pull.id for pull in live}
        for pull in ended:
            seconds = None
            if pull.started_at and pull.completed_at:
                seconds = round((pull.completed_at - pull.started_at).total_seconds(), 1)
            size = sum(layer.downloaded_bytes for layer in pull.layers or ())
            name = "pull.completed" if pull.status is PullPhase.COMPLETED else "pull.failed"
            values = fields(id=pull.id, image=pull.image_ref, seconds=seconds, bytes=size, error=pull.error)
            _log.info(name, extra=values)
