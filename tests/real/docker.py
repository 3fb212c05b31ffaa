"""A Docker daemon that stores its images in a running containerd.

The daemon has no bridge, does not change firewall rules, and exits when the tests end.

Example:

    async with Docker(node) as docker:
        await docker.pull(ref)
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Self

import aiohttp

from tests.patience import PATIENCE
from tests.real.containerd import Containerd
from tests.real.process import Process
from tests.real.versions import DOCKER, SYSTEM_PATH

NAMESPACE = "moby"
"""The containerd namespace in which Docker stores its images."""
_OPTIONS = (
    *("--feature", "containerd-snapshotter=true"),
    *("--bridge=none", "--iptables=false", "--ip6tables=false", "--userland-proxy=false"),
)


class Docker:
    """A Docker daemon as an async context manager, which waits until the daemon responds. Registries on loopback need
    no TLS.
    """

    def __init__(self, node: Containerd) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pulltrace-"))
        self._socket = self._folder / "docker.sock"
        places = {name: self._folder / name for name in ("data-root", "exec-root", "pidfile")}
        self._command = [
            *("unshare", "--mount", "env", f"PATH={SYSTEM_PATH}", DOCKER.path, *_OPTIONS),
            *(
                f"--host=unix://{self._socket}",
                f"--containerd={node.socket}",
                f"--config-file={self._folder / 'daemon.json'}",
            ),
            *(f"--{name}={place}" for name, place in places.items()),
        ]
        (self._folder / "daemon.json").write_text("{}")

    async def __aenter__(self) -> Self:
        self._process = Process(self._command, self._folder / "dockerd.log")
        self._client = aiohttp.ClientSession("http://docker", connector=aiohttp.UnixConnector(str(self._socket)))
        try:
            async with asyncio.timeout(PATIENCE):
                while not await self._responds():
                    self._process.check()
                    await asyncio.sleep(0.1)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
        await self._process.end(signal.SIGTERM)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _responds(self) -> bool:
        try:
            async with self._client.get("/_ping") as answer:
                return answer.ok
        except aiohttp.ClientConnectorError:
            return False

    async def pull(self, ref: str) -> None:
        """Pull an image, as `docker pull` does. Raises RuntimeError with Docker's message if the pull fails."""
        async with self._client.post("/images/create", params={"fromImage": ref}) as answer:
            async for line in answer.content:
                if error := json.loads(line).get("error") or (not answer.ok and line.decode()):
                    raise RuntimeError(error)
