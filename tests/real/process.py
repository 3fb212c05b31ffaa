"""Programs that run beside a test: they die with it, and end by their own pid within a bound."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

STOPPED_WITHIN = 10.0


def free_port() -> int:
    """A loopback port that was free a moment ago, for programs that cannot take port 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
