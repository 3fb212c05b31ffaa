"""Clusters with a real kubelet for the tests in this directory. The names `serial` and `parallel` say how a cluster
pulls images.

The tests mostly wait. With pytest-xdist (``-n 3``), three workers therefore run in parallel, each with its own cluster.
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
"""The cluster that the tests of each module share. Modules that are not listed use ``parallel``. Each cluster belongs
to one worker.
"""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run all tests of a cluster in the same worker."""
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 (xdist may not be installed)

    class ByCluster(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return CLUSTERS.get(Path(nodeid.partition("::")[0]).name, "parallel")

    return ByCluster(config, log)


@asynccontextmanager
async def _lab(**kubelet: Any) -> AsyncIterator[Lab]:
    """Start a cluster in which Pulltrace runs. At the end, check that nothing of the cluster remains."""
    if os.geteuid() != 0:
        pytest.skip("a kubelet needs root")
    missing = [part.name for part in (APISERVER, CONTAINERD_2, *NODE) if not part.path.exists()]
    missing += [name for name in _PROGRAMS if shutil.which(name, path=SYSTEM_PATH) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here; `make parts` gets them")
    async with Observed(**kubelet) as observed, Lab(observed) as lab:
        inside = observed.cluster.inside
        # While the namespace is open, the kernel gives its name to no other cluster.
        namespace = os.open(f"/proc/{inside.pid}/ns/pid", os.O_RDONLY)
        processes = inside.identity
        yield lab
        await lab.counted()
    for _ in range(300):  # a killed process remains until the kernel has finished its I/O
        if not left_by(observed.cluster.folder, processes):
            break
        await asyncio.sleep(0.2)
    assert left_by(observed.cluster.folder, processes) == []
    os.close(namespace)


def left_by(folder: Path, processes: str) -> list[str]:
    """Return the remaining processes, mounts, control groups and files of a cluster that has ended."""
    left = [str(folder)] if folder.exists() else []
    left += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if folder.name in line]
    left += [str(path) for path in Path("/sys/fs/cgroup").rglob(folder.name)]
    for namespace in Path("/proc").glob("[0-9]*/ns/pid"):
        with suppress(OSError):
            if str(namespace.readlink()) == processes:
                left.append((namespace.parents[1] / "stat").read_text()[:60])  # the process's name and state
    return left


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def serial() -> AsyncIterator[Lab]:
    """A cluster whose node pulls images one after the other, which is the default."""
    async with _lab() as lab:
        yield lab


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def parallel() -> AsyncIterator[Lab]:
    """A cluster whose node pulls all images at the same time."""
    async with _lab(serializeImagePulls=False) as lab:
        yield lab


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def failing(parallel: Lab) -> AsyncIterator[Failing]:
    """Pods whose images cannot be pulled. These pods are created first, so that they fail while the other tests run."""
    started = await start_failing(parallel)
    yield started
    started.cancel()


@pytest.fixture
def lab(parallel: Lab) -> Lab:
    """The cluster for tests that work with both serial and parallel pulls."""
    return parallel
