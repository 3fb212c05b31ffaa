"""Pulltrace's programs, run as real processes on the loopback interface."""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any, Self

import aiohttp

from tests.patience import PATIENCE
from tests.real.namespace import Namespace
from tests.real.process import child_of


class Program:
    """A ``pulltrace`` process that can be restarted."""

    _forks = False

    def __init__(self, command: str, *arguments: str, inside: Namespace | None = None, **variables: str) -> None:
        self._command = [sys.executable, "-m", "pulltrace", command, *arguments]
        if inside is not None:
            self._command = [str(part) for part in inside.command(*self._command)]
            self._forks = True
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PULLTRACE_", "KUBE"))}
        self._environment = kept | {f"PULLTRACE_{name}": value for name, value in variables.items()}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            await self.stop()

    async def start(self) -> None:
        """Start or restart the process."""
        self.process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._output: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout
        async for line in self.process.stdout:
            self._output.append(line.decode())

    @property
    def output(self) -> str:
        """The output of the process so far."""
        return "".join(self._output)

    async def says(self, text: str, seconds: float = PATIENCE) -> None:
        """Wait until the output contains this text."""
        async with asyncio.timeout(seconds):
            while True:
                if text in self.output:
                    return
                await asyncio.sleep(0.05)

    async def stop(self, how: int = signal.SIGTERM, seconds: float = PATIENCE) -> int:
        """Send a signal and wait for the process to exit."""
        with suppress(ProcessLookupError):
            os.kill(child_of(self.process.pid) if self._forks else self.process.pid, how)
        async with asyncio.timeout(seconds):
            status = await self.process.wait()
            await self._reading
        return status


class Api:
    """A client for one server's API."""

    def __init__(self, port: int, *, inside: Namespace | None = None) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._inside = inside

    async def __aenter__(self) -> Self:
        connector = None if self._inside is None else self._inside.connector()
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, path: str) -> Any:
        """Return the JSON response for a URL path."""
        async with self._session.get(self.url + path) as answer:
            return json.loads(await answer.read())

    async def text(self, path: str) -> str:
        """Return the text response for a URL path."""
        async with self._session.get(self.url + path) as answer:
            return await answer.text()

    async def pulls(self, query: str = "") -> list[dict[str, Any]]:
        """Return all pulls in the server's list."""
        answer = await self.get(f"/api/v1/pulls{query}")
        return list(answer["pulls"])

    async def ready(self, seconds: float = PATIENCE) -> None:
        """Wait until the server is ready."""
        async with asyncio.timeout(seconds):
            while True:
                with suppress(aiohttp.ClientError, TimeoutError):
                    async with self._session.get(f"{self.url}/readyz") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.05)

    async def reported(self, seconds: float = PATIENCE) -> None:
        """Wait until a node has reported."""
        async with asyncio.timeout(seconds):
            while True:
                if (await self.get("/api/v1/nodes"))["nodes"]:
                    return
                await asyncio.sleep(0.05)

    async def until(self, true: Any, seconds: float = PATIENCE) -> list[dict[str, Any]]:
        """Poll the list of pulls until it satisfies a condition, and return it."""
        pulls: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(seconds):
                while True:
                    with suppress(aiohttp.ClientError, TimeoutError):
                        pulls = await self.pulls()
                        if true(pulls):
                            return pulls
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"the condition never held; last seen: {json.dumps(pulls)[:3000]}") from None
