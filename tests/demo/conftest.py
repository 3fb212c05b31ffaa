"""Fixtures for tests on a single simulated node in virtual time."""

import tempfile
from pathlib import Path

import pytest

from pulltrace.demo.images import make_image, make_layer
from pulltrace.demo.registries import Manner, Registries
from pulltrace.demo.virtual_containerd import CONTAINERD_1, CONTAINERD_2, VirtualContainerd

MIB = 1 << 20
NOON = 1_800_000_000.0
HOST = "registry.test"


@pytest.fixture
def registries():
    """A registry that sends 10 MiB/s per connection, with a latency of 0.1 s."""
    return Registries(manners={HOST: Manner(speed=10 * MIB, latency=0.1)})


@pytest.fixture
def push(registries):
    """Return a function that adds an image to the registry, for example ``push("app:1", ("base", 2), ("app", 3))``.
    Each layer is given as its name and its size in MiB.
    """

    def push(name, *layers, **options):
        image = make_image(name, *(make_layer(layer, size * MIB) for layer, size in layers), **options)
        return registries.push(f"{HOST}/{name}", image), image

    return push


@pytest.fixture(params=[CONTAINERD_1, CONTAINERD_2])
def node(request, registries):
    """A node with a 100 MiB/s network and a 50 MiB/s disk. Tests that use this node run once per containerd version."""
    return VirtualContainerd(registries, now=NOON, version=request.param, bandwidth=100 * MIB, disk=50 * MIB)


@pytest.fixture
def until(node):
    """Return a function that advances the node's time until a condition holds, for at most ten minutes."""

    def until(done, step=0.05):
        for _ in range(int(600 / step)):
            if done():
                return
            node.advance(step)
        raise AssertionError("the condition did not become true within ten minutes")

    return until


@pytest.fixture
def folder():
    """A temporary directory with a short name, because a socket path may be at most 107 bytes long. The names of
    pytest's own directories are too long.
    """
    with tempfile.TemporaryDirectory(prefix="pulltrace-") as path:
        yield Path(path)
