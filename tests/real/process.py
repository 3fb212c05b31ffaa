"""Programs that run beside a test: they die with it, and end by their own pid within a bound."""

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

STOPPED_WITHIN = 10.0


# Below those that the kernel gives to whoever connects (32768 and up): such a one may be somebody's before the program
# that it was found for binds it, or while that one is started again.
_PORTS = range(12_000, 32_000)
_WORKER, _WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")), 16
_given: set[int] = set()


def free_port() -> int:
    """A loopback port for a program that cannot take port 0, or is started again. Given once, and to one worker."""
    while True:
        port = random.choice(_PORTS[_WORKER % _WORKERS :: _WORKERS])
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


class Process:
    """One program, its output kept in a file."""

    def __init__(self, command: Sequence[str | Path], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            # setpriv runs the program in its own place: same pid.
            self._popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def check(self) -> None:
        """RuntimeError with its last words when it ended by itself."""
        if self._popen.poll() is not None:
            raise RuntimeError(f"{self.log.stem} ended with {self._popen.returncode}\n{self.last_words()}")

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    async def end(self, how: signal.Signals) -> None:
        """Send the signal and wait; a program that does not obey is killed."""
        self._popen.send_signal(how)
        try:
            await asyncio.to_thread(self._popen.wait, STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            await asyncio.to_thread(self._popen.wait, STOPPED_WITHIN)
