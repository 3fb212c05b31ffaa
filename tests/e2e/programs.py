"""Pulltrace's own programs as real processes, on loopback, each ended by its own pid."""

import asyncio
import json
import os
import random
import signal
import socket
import sys
from contextlib import suppress
from typing import Any, Self

import aiohttp


def free_port() -> int:
    """A port of loopback that is free now, and that no outgoing connection is given while its server is away."""
    while True:
        port = random.randrange(20_000, 32_768)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Program:
    """One ``pulltrace`` process."""

    def __init__(self, command: str, *arguments: str, **variables: str) -> None:
        self._command = [sys.executable, "-m", "pulltrace", command, *arguments]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PULLTRACE_", "KUBE"))}
        self._environment = kept | {f"PULLTRACE_{name}": value for name, value in variables.items()}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            await self.stop()

    async def start(self) -> None:
        """Start it (again)."""
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
        """All it has said."""
        return "".join(self._output)

    async def says(self, text: str, seconds: float = 20) -> None:
        """Wait until it has said this."""
        async with asyncio.timeout(seconds):
            while True:
                if text in self.output:
                    return
                await asyncio.sleep(0.05)

    async def stop(self, how: int = signal.SIGTERM, seconds: float = 5) -> int:
        """Send a signal and wait for the end."""
        with suppress(ProcessLookupError):
            self.process.send_signal(how)
        async with asyncio.timeout(seconds):
            status = await self.process.wait()
            await self._reading
        return status


class Api:
    """A client of one server's API."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, path: str) -> Any:
        """The JSON at a path."""
        async with self._session.get(self.url + path) as answer:
            return json.loads(await answer.read())

    async def pulls(self, query: str = "") -> list[dict[str, Any]]:
        """All pulls, as the server tells them."""
        answer = await self.get(f"/api/v1/pulls{query}")
        return list(answer["pulls"])

    async def ready(self, seconds: float = 15) -> None:
        """Wait until the server says it is ready."""
        async with asyncio.timeout(seconds):
            while True:
                with suppress(aiohttp.ClientError):
                    async with self._session.get(f"{self.url}/readyz") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.05)

    async def reported(self, seconds: float = 20) -> None:
        """Wait until a node has reported."""
        async with asyncio.timeout(seconds):
            while True:
                if (await self.get("/api/v1/nodes"))["nodes"]:
                    return
                await asyncio.sleep(0.05)

    async def until(self, true: Any, seconds: float = 20) -> list[dict[str, Any]]:
        """Poll the list until something holds of it; answer that list."""
        pulls: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(seconds):
                while True:
                    with suppress(aiohttp.ClientError):
                        pulls = await self.pulls()
                        if true(pulls):
                            return pulls
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"never happened; last seen: {json.dumps(pulls)[:3000]}") from None
