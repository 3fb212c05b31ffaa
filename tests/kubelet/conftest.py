"""Clusters with a real kubelet for the tests in this directory. The `serial` cluster pulls one image at a time, and the
`parallel` cluster pulls several.

The tests spend most of their time waiting. Run them with pytest-xdist (``-n 3``) to use three workers in parallel, each
with its own cluster.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.kubelet.failing import Failing, start_failing
from tests.kubelet.lab import Lab
from tests.real.observed import Observed
from tests.real.versions import APISERVER, CONTAINERD_2, NODE, SYSTEM_PATH

_PROGRAMS = ("unshare", "nsenter", "setpriv", "etcd", "runc", "nft", "ip", "openssl", "host-local")


CLUSTERS = {
    "test_queues.py": "serial",
    "test_simulated.py": "serial",
    "test_phases.py": "serial",
    "test_stops.py": "stops",
    "test_local_cluster.py": "stops",
    "test_pods.py": "pods",
    "test_repeats.py": "pods",
}
"""The cluster that each test module uses. Modules that are not listed use the ``parallel`` cluster. Each cluster is
used by a single pytest worker.
"""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run all tests that use the same cluster in the same worker."""
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 (xdist may not be installed)

    class ByCluster(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return CLUSTERS.get(Path(nodeid.partition("::")[0]).name, "parallel")

    return ByCluster(config, log)


@asynccontextmanager
async def _lab(**kubelet: Any) -> AsyncIterator[Lab]:
    """Start a cluster that runs Pulltrace. At the end, check that the cluster has left nothing behind."""
    if os.geteuid() != 0:
        pytest.skip("a kubelet needs root")
    missing = [part.name for part in (APISERVER, CONTAINERD_2, *NODE) if not part.path.exists()]
    missing += [name for name in _PROGRAMS if shutil.which(name, path=SYSTEM_PATH) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here; `make parts` gets them")
    async with Observed(**kubelet) as observed, Lab(observed) as lab:
        inside = observed.cluster.inside
        # While the namespace's file is open, the kernel does not reuse the namespace's name for another cluster.
        namespace = os.open(f"/proc/{inside.pid}/ns/pid", os.O_RDONLY)
        processes = inside.identity
        yield lab
        await lab.counted()
    for _ in range(900):  # a killed process remains until the kernel has finished its I/O
        if not left_by(observed.cluster.folder, processes):
            break
        await asyncio.sleep(0.2)
    assert left_by(observed.cluster.folder, processes) == []
    os.close(namespace)


def left_by(folder: Path, processes: str) -> list[str]:
    """Return the processes, mounts, control groups and files left over from a cluster that has been stopped."""
    left = [str(folder)] if folder.exists() else []
    left += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if folder.name in line]
    # Other workers remove their own control groups at the same time. ``os.walk`` ignores folders that have disappeared.
    left += [path for path, *_ in os.walk("/sys/fs/cgroup") if Path(path).name == folder.name]
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str((process / "ns/pid").readlink()) == processes:
                left.append((process / "stat").read_text()[:60])  # the file begins with the process's name and state
    return left


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def serial() -> AsyncIterator[Lab]:
    """A cluster whose node pulls one image at a time, which is the kubelet's default."""
    async with _lab() as lab:
        yield lab


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def parallel() -> AsyncIterator[Lab]:
    """A cluster whose node pulls all images in parallel, and whose kubelet does not limit the rate of pulls."""
    async with _lab(serializeImagePulls=False, registryPullQPS=0) as lab:
        yield lab


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def failing(parallel: Lab) -> AsyncIterator[Failing]:
    """Pods whose images cannot be pulled. The pods are created early, so the pulls fail while other tests run."""
    started = await start_failing(parallel)
    yield started
    started.cancel()


@pytest.fixture
def lab(parallel: Lab) -> Lab:
    """The cluster for tests that work with both serial and parallel pulls."""
    return parallel
