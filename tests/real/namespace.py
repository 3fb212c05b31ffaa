"""Linux namespaces with their own mounts, network and processes, for programs that would otherwise change the machine
on which they run.

All mounts, processes and settings inside the namespaces disappear when the first process exits, which is when the tests
end.

Example:

    async with Namespace(folder) as inside:
        process = Process([...], log, inside=inside)
        sock = inside.socket()           # in the namespace's network, even though this process stays outside
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import aiohttp

from tests.patience import PATIENCE
from tests.real.process import Process

NODE_ADDRESS = "10.231.0.1"
_NET = 0x40000000  # The flag CLONE_NEWNET. The function os.setns requires Python 3.12.

# The first process in the namespace, which adopts orphaned processes. Shims, containers and /run are private to the
# namespace.
_INIT = """\
import os, signal, subprocess
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
names = os.path.realpath("/etc/resolv.conf")  # below /run on some machines
for command in (
    "mount -t proc proc /proc",
    "mount -t tmpfs tmpfs /run",
    "mount -t tmpfs tmpfs /var/log",
    "mount -t tmpfs tmpfs /var/lib",
    "ip link set lo up",
    "ip link add node0 type bridge",
    "ip address add {address}/24 dev node0",
    "ip link set node0 up",
    "ip route add default dev node0",
    "mount --bind {folder}/hosts /etc/hosts",
    f"mkdir -p {{os.path.dirname(names)}}",
    f"touch {{names}}",
    f"mount --bind {folder}/resolv.conf {{names}}",
):
    subprocess.run(command.split(), check=True)
open("{folder}/ready", "w").close()
while True:
    signal.sigwait([signal.SIGCHLD])
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        pass
"""


class Namespace:
    """A group of Linux namespaces that are used together, as an async context manager. ``folder`` contains the log, and
    the files ``hosts`` and ``resolv.conf`` for the namespaces. All other files are shared with the host.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pid = 0

    async def __aenter__(self) -> Self:
        (self.folder / "hosts").write_text("127.0.0.1 localhost\n")
        (self.folder / "resolv.conf").write_text(f"nameserver {NODE_ADDRESS}\noptions timeout:2 attempts:1\n")
        init = _INIT.format(address=NODE_ADDRESS, folder=self.folder)
        command = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", sys.executable, "-I", "-c", init]
        self._process = Process(command, self.folder / "namespace.log", forks=True)
        try:
            async with asyncio.timeout(PATIENCE):
                while not (self.folder / "ready").exists():
                    self._process.check()
                    await asyncio.sleep(0.02)
            self.pid = self._process.pid
        except BaseException:
            await self._process.kill()
            raise
        self._thread = ThreadPoolExecutor(1, initializer=self._enter)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._thread.shutdown()
        await self._process.kill()  # the first process of the PID namespace exits after all other processes

    def _enter(self) -> None:
        """Move only the calling thread into the network namespace."""
        with Path(f"/proc/{self.pid}/ns/net").open() as network:
            if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), _NET) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    @property
    def identity(self) -> str:
        """Return the identifier of the PID namespace, as /proc shows it for each process in the namespace."""
        return str(Path(f"/proc/{self.pid}/ns/pid").readlink())

    def command(self, *command: str | Path) -> list[str | Path]:
        """Return a command line that runs the given command inside the namespace. The command is killed when its parent
        exits.
        """
        return [
            *("nsenter", f"--target={self.pid}", "--mount", "--net", "--pid"),
            *("setpriv", "--pdeathsig", "KILL", *command),
        ]

    def socket(self, kind: int = socket.SOCK_STREAM, bind: tuple[str, int] | None = None) -> socket.socket:
        """Return a socket that belongs to the namespace's network but can be used by the calling process."""
        made = self._thread.submit(socket.socket, socket.AF_INET, kind).result()
        made.setblocking(False)
        if bind is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(bind)
        return made

    def connector(self) -> aiohttp.TCPConnector:
        """Return an aiohttp connector whose connections start in the namespace's network."""

        def factory(_: Any) -> socket.socket:
            return self.socket()

        return aiohttp.TCPConnector(socket_factory=factory, family=socket.AF_INET)

    def path(self, path: str) -> Path:
        """Return the host path of a file that is on one of the namespace's own mounts, for example below /run."""
        return Path(f"/proc/{self.pid}/root{path}")
