"""The soak test causes one fault at a time. After each fault, it waits until the published state is correct again."""

import asyncio
import sys
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

import aiohttp

from tests.soak import faults
from tests.soak.checks import Checks
from tests.soak.cluster import HISTORY, SoakCluster
from tests.soak.follower import Follower

WITHIN = 10.0
"""Maximum time, in seconds, from a fault until the published state is correct again."""
REPORTS = 10
"""A busy machine delays the agents, so the published state of a node may be wrong until the node has sent this many
reports. On an idle machine, the state is correct after at most ``WITHIN`` seconds.
"""
SILENT = 60.0
"""Maximum time, in seconds, from a fault until every node has reported again, even on a busy machine."""
GROWTH = {"server": 24.0, "agent": 12.0}
"""The maximum growth of a process's memory after its first minute, in MiB, while the server's history fills up."""
SETTLES = 60.0


@dataclass
class Life:
    """The memory use of one process in MiB, from the end of its first minute onwards."""

    name: str
    pid: int
    since: float
    first: float = 0.0
    last: float = 0.0
    most: float = 0.0
    samples: int = 0

    def take(self, rss: float, now: float) -> None:
        """Record a sample. During the process's first minute, only ``last`` is updated."""
        self.last = rss
        if now - self.since >= SETTLES:
            self.first = self.first or rss
            self.most = max(self.most, rss)
            self.samples += 1


@dataclass
class Result:
    """The results of a soak test."""

    seed: int
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    recovered: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    checks: Counter[str] = field(default_factory=Counter)
    lives: list[Life] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


class Soak:
    """A soak test that runs for ``seconds``. The same seed always selects the same faults, but they occur at different
    points in the load.
    """

    def __init__(self, *, seed: int, seconds: float, nodes: int, speed: float) -> None:
        self.result = Result(seed)
        self._random = Random(seed)
        self._seconds = seconds
        self._cluster = SoakCluster(nodes, speed, seed)
        self._follower = Follower(self._cluster.port, self._complain)
        self._checks = Checks(self._cluster, self._follower)
        self._lives: dict[int, Life] = {}
        self._now = "start"

    async def run(self) -> Result:
        result = self.result
        async with self._cluster as cluster:
            beside = [asyncio.create_task(part) for part in (self._follower.run(), self._check(), self._weigh())]
            try:
                await self._settle(time.time())
                began = time.monotonic()
                while time.monotonic() - began < self._seconds and not any(task.done() for task in beside):
                    await self._break(time.monotonic() - began)
                await self._settle(time.time())
            finally:
                for task in beside:
                    task.cancel()
                ends = await asyncio.gather(*beside, return_exceptions=True)
            result.wrong += [repr(end) for end in ends if isinstance(end, Exception)]
            result.seconds = time.monotonic() - began
            result.checks, result.lives = self._checks.made, list(self._lives.values())
            result.counts = {
                "pulls started on the nodes": cluster.began,
                "of these, completed": cluster.completed,
                "of these, failed or interrupted": cluster.failed,
                "events read": self._follower.events,
                "server processes followed": self._follower.boots,
            }
        self._bound_memory()
        return result

    def _complain(self, sentence: str) -> None:
        self.result.wrong.append(f"[{self._now}] {sentence}")
        # Print the complaint immediately, because the run may take another half hour.
        print(self.result.wrong[-1], file=sys.stderr, flush=True)

    async def _break(self, passed: float) -> None:
        """Choose and inject one fault, then wait until the state is correct again."""
        random, cluster = self._random, self._cluster
        allowed = dict(faults.FAULTS)
        # If a process is killed, its memory growth cannot be measured. Therefore, the first node's agent is never
        # killed, and the server is not killed during the last two thirds of the run.
        if passed > self._seconds / 3:
            allowed = {fault: weight for fault, weight in allowed.items() if fault not in faults.KILLS_SERVER}
        fault = random.choices(list(allowed), list(allowed.values()))[0]
        sites = cluster.sites[1:] if fault in faults.KILLS_AGENT else cluster.sites
        site = random.choice(sites)
        if site.ails:  # the scenario is already restarting this containerd
            await asyncio.sleep(1)
            return
        name = fault.__name__.replace("_", " ")
        self._now = f"{passed:.0f} s, {name}, {site.name}"
        await fault(cluster, site, random)
        self.result.recovered[name].append(await self._settle(time.time()))
        await asyncio.sleep(random.uniform(0, 2))

    async def _settle(self, since: float) -> float:
        """Wait until the server has published each node's true state, and return how many seconds that took."""
        began, checks = time.monotonic(), self._checks
        checks.reports.clear()
        wrong = {site.name: "no answer" for site in self._cluster.sites}
        while wrong:
            took = time.monotonic() - began
            late = [name for name in wrong if len(checks.reports[name]) >= REPORTS]
            if took > SILENT or (took > WITHIN and late):
                self._complain(f"not right after {took:.1f} s: {wrong[late[0]] if late else wrong}")
                self._cluster.forget(time.time())  # forget old pulls, so that a difference is reported only once
                return took
            with suppress(aiohttp.ClientError, TimeoutError):
                found = await checks.differences(since)
                wrong = {name: found[name] for name in wrong if name in found}
            await asyncio.sleep(0.1)
        checks.made["list and truth"] += 1
        self._cluster.forget(time.time() - HISTORY)
        return time.monotonic() - began

    async def _check(self) -> None:
        """Check the invariants that must hold at all times."""
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                await asyncio.sleep(0.5)
                with suppress(aiohttp.ClientError, TimeoutError):
                    for sentence in await self._checks.agree(session):
                        self._complain(sentence)

    async def _weigh(self) -> None:
        while True:
            now = time.monotonic()
            for name, process in self._processes():
                if process.process.returncode is None:
                    with suppress(OSError, IndexError):
                        life = self._lives.setdefault(process.process.pid, Life(name, process.process.pid, now))
                        life.take(process.rss, now)
            await asyncio.sleep(1)

    def _processes(self):
        yield "server", self._cluster.server
        for site in self._cluster.sites:
            yield f"agent of {site.name}", site.agent

    def _bound_memory(self) -> None:
        for life in self.result.lives:
            bound = GROWTH[life.name.partition(" ")[0]]
            if life.samples and life.most > life.first + bound:
                self._complain(f"the {life.name} grew from {life.first:.1f} to {life.most:.1f} MiB")
