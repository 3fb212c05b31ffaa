"""Tests for what Pulltrace shows when a node's disk is full. A real containerd uses a small file system, and the test
reports its error as a kubelet would.
"""

import asyncio
import subprocess
from contextlib import AsyncExitStack

import pytest

from pulltrace.server.kubernetes.errors import FIRST_BACK_OFF
from tests.e2e.programs import Api
from tests.faults.lab import AGENT_ENVIRONMENT, SERVER_ENVIRONMENT, Fault, Process
from tests.patience import PATIENCE
from tests.real.containerd import Containerd
from tests.real.fixtures import require_containerd
from tests.real.images import MIB, make_image, make_layer
from tests.real.process import free_port
from tests.server.kubernetes.test_real_pulls import Kubelet, _agent_reports
from tests.server.kubernetes.writing import Writer

pytestmark = [pytest.mark.real, pytest.mark.cluster]


class SmallDisk(Containerd):
    """A containerd that keeps its content and snapshots on a small file system (``size`` in MiB)."""

    def __init__(self, binary, size):
        super().__init__(binary)
        self._root = self.folder / "root"
        self._size = size

    async def __aenter__(self):
        self._root.mkdir()
        _run("mount", "-t", "tmpfs", "-o", f"size={self._size}m", "tmpfs", self._root)
        return await super().__aenter__()

    def grow(self, size):
        """Enlarge the file system, in containerd's own mount namespace."""
        _run("nsenter", "--mount", f"--target={self.pid}", "mount", "-o", f"remount,size={size}m", self._root)

    async def __aexit__(self, *exc):
        await self.kill()
        _run("umount", "--lazy", self._root)
        await super().__aexit__(*exc)


class Lab:
    """A minimal lab with a real node and only the methods that ``Fault`` needs."""

    def __init__(self, api, server, agent, images):
        self.api, self.server, self.agent, self._images = api, server, agent, images

    async def recovered(self, seconds):
        """Wait until the server reports every image as completed."""
        await self.api.until(lambda pulls: all(_is(pulls, image, "completed") for image in self._images), seconds)

    async def finished(self):
        """Do nothing, because ``recovered`` has already waited for all pulls to end."""

    async def lost(self):
        """Return the number of images that are missing from the server's list."""
        return len(set(self._images) - {row["imageRef"] for row in await self.api.pulls()})


async def test_a_full_disk_is_reported_as_the_reason_and_the_retry_is_shown_in_the_same_row(registry, cluster):
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        node = await enter(SmallDisk(require_containerd("2.4"), 40))
        node.trust(registry.host, registry.url)
        port = free_port()
        listen = {"HTTP_ADDR": f"127.0.0.1:{port}", "METRICS_ADDR": "127.0.0.1:0"}
        environment = SERVER_ENVIRONMENT | {"KUBECONFIG": str(cluster.kubeconfig)}
        server = await enter(Process("server", environment=environment, **listen))
        api = await enter(Api(port))
        await api.ready()
        settings = {"NODE_NAME": "worker-1", "SERVER_URL": api.url, "CONTAINERD_SOCKET": str(node.socket)}
        agent = await enter(Process("agent", environment=AGENT_ENVIRONMENT, REPORT_INTERVAL="500ms", **settings))
        await _agent_reports(api)
        registry.limit(MIB)
        kubelet = Kubelet(node, Writer(cluster))
        small = registry.push("shop/small:1", make_image(make_layer(MIB)))
        # The large image does not fit on the disk.
        large = registry.push("shop/large:1", make_image(*(make_layer(8 * MIB) for _ in range(6))))
        assert await kubelet.pull(await kubelet.create("small", small)) is None
        await api.until(lambda pulls: _is(pulls, small, "completed"))
        lab = Lab(api, server, agent, [small, large])
        arrival = await kubelet.create("large", large)
        async with Fault(
            lab, "the node's disk is full", "the pull fails with the reason disk_full, and attempt 2 follows"
        ) as seen:
            registry.limit(16 * MIB)
            assert "no space left on device" in await kubelet.pull(arrival)
            pulls = await api.until(lambda pulls: _is(pulls, large, "failed", errorReason="disk_full"))
            failed = next(pull for pull in pulls if pull["imageRef"] == large)
            assert failed["percent"] < 100
            assert _is(pulls, small, "completed")
            node.grow(400)
            # Wait until the back-off is over, as a kubelet would. Event times are in whole seconds, so a retry must not
            # follow immediately.
            await asyncio.sleep(FIRST_BACK_OFF)
            assert await kubelet.pull(arrival) is None
            seen.over()
        (done,) = [pull for pull in await api.pulls() if pull["imageRef"] == large]
        assert (done["id"], done["attempt"]) == (failed["id"], 2)
        assert done["downloadedBytes"] == done["totalBytes"]


def _is(pulls, image, status, **more):
    wanted = {"status": status} | more
    return any(pull["imageRef"] == image and wanted.items() <= pull.items() for pull in pulls)


def _run(*command):
    subprocess.run([str(word) for word in command], check=True, timeout=PATIENCE)
