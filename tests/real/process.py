"""Programs that run for the duration of a test. A program that does not exit in time is killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

STOPPED_WITHIN = 60.0
KILLED_WITHIN = 180.0  # The kernel may still be writing a killed process's data.


# These ports are below the ephemeral range (32768 and up). The kernel could give an ephemeral port to another process
# before the program binds it, or while the program is being restarted.
_PORTS = range(12_000, 32_000)
_WORKER, _WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")), 16
_given: set[int] = set()


def free_port() -> int:
    """Return a free loopback port, for a program that cannot use port 0. Each port is returned only once."""
    while True:
        port = random.choice(_PORTS[_WORKER % _WORKERS :: _WORKERS])
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


class Inside(Protocol):
    """An environment in which a program can run, such as a namespace."""

    def command(self, *command: str | Path) -> list[str | Path]:
        """Return a command line that runs the given command in the environment."""
        ...


def child_of(pid: int) -> int:
    """Return the first child of a process. Raises ProcessLookupError if there is no child."""
    try:
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    except (FileNotFoundError, IndexError):
        raise ProcessLookupError(f"{pid} has no child") from None


class Process:
    """A running program whose output goes to a file."""

    def __init__(
        self, command: Sequence[str | Path], log: Path, *, inside: Inside | None = None, forks: bool = False
    ) -> None:
        """If ``forks`` is true, the command runs the program as a child process, and both exit together."""
        self.log = log
        self._forks = forks or inside is not None
        if inside is not None:
            command = inside.command(*command)
        with log.open("ab") as output:
            # setpriv replaces itself with the program, so both have the same pid.
            self._popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Return the pid of the program itself, even if the program is a child of the command."""
        return child_of(self._popen.pid) if self._forks else self._popen.pid

    def check(self) -> None:
        """Raise RuntimeError, with the program's last output, if the program has exited unexpectedly."""
        if self._popen.poll() is not None:
            raise RuntimeError(f"{self.log.stem} ended with {self._popen.returncode}\n{self.last_words()}")

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    async def end(self, how: signal.Signals) -> None:
        """Send a signal and wait until the program exits. If the program does not exit in time, kill it."""
        if self._popen.poll() is None:
            with suppress(ProcessLookupError):  # the program has just exited by itself
                os.kill(self.pid, how)
        try:
            await asyncio.to_thread(self._popen.wait, STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            await asyncio.to_thread(self._popen.wait, KILLED_WITHIN)

    async def kill(self) -> None:
        """Kill the program, as if it had crashed."""
        await self.end(signal.SIGKILL)
