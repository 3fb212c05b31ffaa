"""Fixtures: a lab, a record of each fault, and a server process."""

import tempfile
from pathlib import Path

import pytest

from tests.e2e.programs import Api
from tests.faults.lab import SERVER_ENVIRONMENT, Fault, Lab, Process
from tests.real.process import free_port


@pytest.fixture
async def make_lab():
    """Return a function that starts a lab. All labs are closed when the test ends."""
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
    """A lab with a node, an agent and a server."""
    return await make_lab()


@pytest.fixture
def fault(lab):
    """Return the function ``fault(what, expected)``, which records a fault in the lab."""
    return lambda *words, **options: Fault(lab, *words, **options)


@pytest.fixture
async def served():
    """A server process and its two ports."""
    port, metrics_port = free_port(), free_port()
    addresses = {"HTTP_ADDR": f"127.0.0.1:{port}", "METRICS_ADDR": f"127.0.0.1:{metrics_port}"}
    async with Process("server", environment=SERVER_ENVIRONMENT, **addresses) as server, Api(port) as api:
        await api.ready()
        yield server, port, metrics_port
