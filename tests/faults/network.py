"""Two virtual hosts with a cable between them, made from network namespaces, a veth pair, iptables and a token bucket.

The server runs in one namespace, the agent in the other; the machine's own network is not affected. ``mend`` undoes
every fault. ``delay.py`` delays the packets itself, because some kernels lack netem.
"""

import asyncio
import itertools
import os
import shutil
import subprocess
from typing import Self

import aiohttp

from tests.e2e.programs import Api
from tests.faults.delay import Delay
from tests.faults.namespaces import socket_inside
from tests.patience import PATIENCE

_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
_numbers = itertools.count()


def lacking() -> str:
    """Return the reason why this machine cannot create networks, or an empty string if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    tools = {"ip": "iproute2", "tc": "iproute2", "iptables-legacy": "iptables"}
    missing = sorted({package for tool, package in tools.items() if not shutil.which(tool, path=_PATH)})
    return f"no {' and no '.join(missing)} here; `make parts` installs it" if missing else ""


class Network:
    """Two hosts and the cable between them. ``server`` and ``agent`` are the names of the two namespaces."""

    def __init__(self) -> None:
        number = next(_numbers)
        self.server, self.agent = (f"pt-{os.getpid()}-{number}{side}" for side in "sa")
        self._links = {self.server: "pts", self.agent: "pta"}
        self.address = "10.213.0.1"
        """The address at which the agent reaches the server. Networks are isolated from each other, so each of them can
        use this address.
        """
        self._delay: Delay | None = None

    async def __aenter__(self) -> Self:
        for name in (self.server, self.agent):
            await _run("ip", "netns", "add", name)
        await _run(*("ip", "-n", self.server, "link", "add", "pts", "type", "veth", "peer", "pta", "netns", self.agent))
        for number, (name, link) in enumerate(self._links.items(), start=1):
            await _run("ip", "-n", name, "addr", "add", f"10.213.0.{number}/24", "dev", link)
            for each in ("lo", link):
                await _run("ip", "-n", name, "link", "set", each, "up")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._hurry()
        for name in (self.server, self.agent):
            await _run("ip", "netns", "del", name)

    def inside(self, name: str) -> tuple[str, ...]:
        """Return a command prefix that runs a program in this namespace. The program runs under the pid of the
        command.
        """
        return (shutil.which("ip", path=_PATH) or "ip", "netns", "exec", name)

    async def mend(self) -> None:
        """Undo every fault."""
        self._hurry()
        await self._rule("-F")
        for name, link in self._links.items():
            await _run("tc", "-n", name, "qdisc", "replace", "dev", link, "root", "pfifo")
        await _run("ip", "-n", self.agent, "link", "set", "pta", "up")

    async def cut(self) -> None:
        """Silently drop all packets in both directions."""
        await self._rule("-A", "INPUT", "-i", "pta", "-j", "DROP")
        await self._rule("-A", "OUTPUT", "-o", "pta", "-j", "DROP")

    async def unplug(self) -> None:
        """Unplug the agent's end of the cable, so that the agent has no route to the server."""
        await _run("ip", "-n", self.agent, "link", "set", "pta", "down")

    async def one_way(self) -> None:
        """Let the agent's packets through, but drop everything that the server sends, including acknowledgements."""
        await self._rule("-A", "INPUT", "-i", "pta", "-j", "DROP")

    async def slow(self, rate: str) -> None:
        """Limit each direction separately to a rate such as ``16kbit``."""
        for name, link in self._links.items():
            bucket = ("tbf", "rate", rate, "burst", "1600", "latency", "5s")
            await _run("tc", "-n", name, "qdisc", "replace", "dev", link, "root", *bucket)

    async def delay(self, seconds: float) -> None:
        """Delay packets in both directions, including those of existing connections."""
        self._delay = Delay((self.server, self.agent), "ptd", seconds)
        for number, name in enumerate((self.server, self.agent), start=1):
            await _run("ip", "-n", name, "link", "set", "ptd", "up")
            route = (f"10.213.0.{3 - number}/32", "dev", "ptd", "src", f"10.213.0.{number}")
            await _run("ip", "-n", name, "route", "add", *route)

    def _hurry(self) -> None:
        if self._delay:
            self._delay.close()
            self._delay = None

    async def lose(self, part: float) -> None:
        """Drop this fraction of the incoming packets."""
        statistic = ("-m", "statistic", "--mode", "random", "--probability", f"{part}")
        await self._rule("-A", "INPUT", "-i", "pta", *statistic, "-j", "DROP")

    async def refuse(self) -> None:
        """Refuse new connections, but let existing ones continue."""
        tcp = ("-p", "tcp", "--syn", "-j", "REJECT", "--reject-with", "tcp-reset")
        await self._rule("-A", "OUTPUT", "-o", "pta", *tcp)

    async def reset(self) -> None:
        """Respond to every packet from the agent with a TCP reset."""
        await self._rule("-A", "OUTPUT", "-o", "pta", "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset")

    async def _rule(self, *words: str) -> None:
        await _run(*self.inside(self.agent), "iptables-legacy", "-w", *words)


class ApiInside(Api):
    """An API client inside a network namespace."""

    def __init__(self, port: int, namespace: str) -> None:
        super().__init__(port)
        self._namespace = namespace

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(socket_factory=lambda info: socket_inside(self._namespace, info[0], info[1]))
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60))
        return self


async def _run(*command: str) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=os.environ | {"PATH": _PATH},
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
