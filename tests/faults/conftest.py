"""A lab, and a record of each fault."""

import tempfile
from pathlib import Path

import pytest

from tests.faults.lab import Fault, Lab


@pytest.fixture
async def make_lab():
    """A factory of labs, each ended with the test."""
    labs = []
    with tempfile.TemporaryDirectory(prefix="pulltrace-") as folder:

        async def make(*, server=None, agent=None, **options):
            lab = Lab(Path(folder), **options)
            labs.append(lab)
            return await lab.start(server=server, agent=agent)

        yield make
        for lab in labs:
            await lab.close()


@pytest.fixture
async def lab(make_lab):
    """Return a node with an agent and a server."""
    return await make_lab()


@pytest.fixture
def fault(lab):
    """A factory: ``fault(what, expected)`` records one."""
    return lambda *words, **options: Fault(lab, *words, **options)
