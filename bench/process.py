"""A server in a separate process, whose CPU time and memory use are read from /proc. The benchmarks compare CPU time
rather than wall time, because other programs may keep the machine busy.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 180.0
"""Maximum time, in seconds, to wait for a response from the server, even on a busy machine."""

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ServerProcess:
    """A running server, whose ``kind`` is ``pulltrace`` or ``naive``."""

    kind: str
    pid: int
    port: int
    metrics_port: int

    def cpu_seconds(self) -> float:
        """Return the user and system time that the process has used, in seconds."""
        words = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / _TICKS

    def rss(self) -> float:
        """Return the resident memory in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@asynccontextmanager
async def running(kind: str) -> AsyncIterator[ServerProcess]:
    """Run ``bench.serve`` in a child process, and stop it on exit."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.serve", kind, stdout=asyncio.subprocess.PIPE, env=_environ()
    )
    try:
        assert process.stdout
        async with asyncio.timeout(PATIENCE):
            ports = json.loads(await process.stdout.readline())
        yield ServerProcess(kind, process.pid, *ports)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(10):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def _environ() -> dict[str, str]:
    """Return the environment without the variables that configure Pulltrace or give it access to a cluster."""
    foreign = ("PULLTRACE_", "KUBECONFIG", "KUBERNETES_")
    return {name: text for name, text in os.environ.items() if not name.startswith(foreign)}
