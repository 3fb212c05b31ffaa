"""Fixtures: a lab for each version of containerd, and a client that reads its state."""

from collections.abc import AsyncIterator

import pytest

from pulltrace.demo.virtual_containerd import CONTAINERD_1, CONTAINERD_2
from tests.conformance.driver_simulated import SimulatedLab
from tests.conformance.lab import Lab, RealLab
from tests.conformance.look import Look
from tests.real.containerd import Containerd
from tests.real.fixtures import require_containerd

REAL = [pytest.param(line, id=line, marks=pytest.mark.real) for line in ("debian", "1.7", "2.4")]
SIMULATED = [pytest.param(version, id=f"simulated-{version}") for version in (CONTAINERD_1, CONTAINERD_2)]


@pytest.fixture(params=REAL + SIMULATED)
async def lab(request, registry) -> AsyncIterator[Lab]:
    """One lab for each real containerd on this machine and for each of the two versions of the simulated containerd."""
    if request.param in (CONTAINERD_1, CONTAINERD_2):
        async with SimulatedLab(request.param) as simulated:
            yield simulated
    else:
        async with Containerd(require_containerd(request.param)) as node:
            node.trust(registry.host, registry.url)
            yield RealLab(node, registry)


@pytest.fixture
def look(lab) -> Look:
    """Return a client for the lab's containerd."""
    return Look(lab)
