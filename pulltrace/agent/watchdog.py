"""Make a hung agent exit, so that Kubernetes restarts it. Every poll postpones a kernel alarm that would otherwise kill
the process.

The alarm costs one system call per poll. An exec probe would instead start a Python process on every node every few
seconds.
"""

import asyncio
import faulthandler
import logging
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Self

PATIENCE = 120.0
"""Maximum duration of a poll, in seconds, not counting the interval between polls. Each call during a poll has a
shorter time limit.
"""

_log = logging.getLogger(__name__)


class Watchdog:
    """A context manager that makes the process exit if the code in its block hangs.

    Inside the ``with`` block, the process exits with status 1 if ``postpone`` is not called for ``limit`` seconds.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def __enter__(self) -> Self:
        signal.signal(signal.SIGALRM, self._exit)
        self.postpone()
        return self

    def __exit__(self, *exc: object) -> None:
        self._set(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def postpone(self) -> None:
        """Restart the countdown of ``limit`` seconds."""
        self._set(self.limit)

    def _set(self, seconds: float) -> None:
        # The seccomp profile of older charts does not permit ``setitimer``. If the system call is blocked, the agent
        # runs without the alarm.
        with suppress(OSError):
            signal.setitimer(signal.ITIMER_REAL, seconds)

    def _exit(self, number: int, frame: FrameType | None) -> None:
        _log.critical("no poll for %g s: the agent is stuck, so it exits", self.limit)
        faulthandler.dump_traceback(all_threads=True)
        with suppress(RuntimeError):
            for task in asyncio.all_tasks():
                task.print_stack(file=sys.stderr)
        os._exit(1)
