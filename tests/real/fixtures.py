"""Fixtures for tests with real components. If a component is missing, the tests that need it are skipped."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from tests.real.apiserver import APIServer
from tests.real.containerd import Containerd
from tests.real.registry import Registry
from tests.real.versions import APISERVER, containerds


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    """An empty registry that serves all blobs at full speed."""
    async with Registry() as running:
        yield running


def require_containerd(line: str) -> str:
    """Return the path of the containerd binary for a release line, which is `debian`, `1.7` or `2.4`. Skip the test if
    this release of containerd is missing.
    """
    if os.geteuid() != 0:
        pytest.skip("containerd needs root")
    missing = [tool for tool in ("unshare", "setpriv") if not shutil.which(tool)]
    if missing:
        pytest.skip(f"no {' and no '.join(missing)} here (Debian's util-linux)")
    path = containerds()[line]
    if path is None:
        pytest.skip(f"no containerd {line} here; `make parts` gets it")
    return str(path)


@pytest.fixture(params=["debian", "1.7", "2.4"])
def containerd_binary(request: pytest.FixtureRequest) -> str:
    """Run the test with each version of containerd that is available on this machine. For instance, `-k 2.4` selects
    only containerd 2.4.
    """
    return require_containerd(request.param)


@pytest.fixture
async def start_node(containerd_binary: str, registry: Registry) -> AsyncIterator[Callable[..., Any]]:
    """Return a function that starts a node, for example `await start_node(images="max_concurrent_downloads = 1")`. The
    node can pull from the registry.
    """
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Containerd:
            node = await stack.enter_async_context(Containerd(containerd_binary, **settings))
            node.trust(registry.host, registry.url)
            return node

        yield start


@pytest.fixture
async def node(start_node: Callable[..., Any]) -> Containerd:
    """A running containerd that can pull from the registry."""
    running: Containerd = await start_node()
    return running


@pytest.fixture(scope="session")
def apiserver_binary() -> str:
    """The path of the kube-apiserver program."""
    if not APISERVER.path.exists():
        pytest.skip("no kube-apiserver here; `make parts` builds it (needs Go)")
    if not shutil.which("etcd"):
        pytest.skip("no etcd here; `make parts` installs it (as root)")
    return str(APISERVER.path)


@pytest.fixture
async def cluster(apiserver_binary: str) -> AsyncIterator[APIServer]:
    """A running API server with an empty etcd."""
    async with APIServer() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_cluster(apiserver_binary: str) -> AsyncIterator[APIServer]:
    """An API server that all tests in a module share. The tests use this server through ``shared_cluster``."""
    async with APIServer() as running:
        yield running


@pytest.fixture
async def shared_cluster(module_cluster: APIServer) -> AsyncIterator[APIServer]:
    """The API server that the test module shares, initially without pods or events. Other objects remain in the cluster
    from one test to the next.
    """
    async with module_cluster.borrowed():
        yield module_cluster
