"""Fixtures for tests with real components. If a component is missing, its tests are skipped with a reason."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.real.apiserver import APIServer
from tests.real.containerd import Containerd
from tests.real.registry import Registry
from tests.real.versions import APISERVER, containerds


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    """An empty registry that serves everything at full speed."""
    async with Registry() as running:
        yield running


def require_containerd(line: str) -> str:
    """Return the path of the containerd for a release line: `debian`, `1.7` or `2.4`. Skip the test if this containerd
    is missing.
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
    """Each containerd on this machine, one after another. For instance, `-k 2.4` selects only containerd 2.4."""
    return require_containerd(request.param)


@pytest.fixture
async def start_node(containerd_binary: str, registry: Registry) -> AsyncIterator[Callable[..., Any]]:
    """Return a function: `await start_node(images="max_concurrent_downloads = 1")` starts a node that can pull from the
    registry.
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


@pytest.fixture
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
