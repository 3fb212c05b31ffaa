"""Tests in which the connection between agent and server breaks, on a virtual network in the kernel."""

import asyncio
import time

import pytest

from tests.faults.lab import Fault
from tests.faults.namespaces import socket_inside
from tests.faults.network import Network, lacking
from tests.patience import PATIENCE

pytestmark = pytest.mark.skipif(bool(lacking()), reason=lacking() or "never")

FAULTS = {
    "cut": ("packets vanish without an error", Network.cut),
    "unplugged": ("no route to the server", Network.unplug),
    "one-way": ("reports arrive, responses do not", Network.one_way),
    "slow": ("16 kbit/s", lambda network: network.slow("16kbit")),
    "lossy": ("a third of the packets is lost", lambda network: network.lose(0.33)),
    "refusing": ("new connections are refused", Network.refuse),
    "resetting": ("every packet is answered with a reset", Network.reset),
}


@pytest.fixture
async def network():
    """Two hosts connected by a cable."""
    async with Network() as made:
        yield made


@pytest.mark.parametrize("how", FAULTS)
async def test_a_pull_that_ended_during_a_network_fault_is_reported_afterwards(make_lab, network, how):
    what, breaks = FAULTS[how]
    lab = await make_lab(network=network)
    await lab.pulled("done", 1)
    running = await lab.running("app", 8)
    async with Fault(lab, f"network {how}: {what}", "the pull's end is published once, after the fault") as seen:
        await breaks(network)
        short = lab.pull("short", 4)
        await lab.until(lambda: lab.over(running, short))
        await asyncio.sleep(3)
        await network.mend()
        seen.over()


ROUND_TRIP = 2.0


async def test_reports_arrive_over_a_link_with_a_round_trip_time_of_two_seconds(make_lab, network):
    lab = await make_lab(network=network)
    await lab.pulled("done", 1)
    running = lab.held("app", 8)
    await lab.until(lambda: lab.row(running, "downloading"))
    async with Fault(
        lab, "network far away: a round trip takes 2 s", "reports still arrive, and no report is lost"
    ) as seen:
        await network.delay(ROUND_TRIP / 2)
        sent = time.monotonic()
        assert await connected(network.agent, network.address, lab.port) - sent >= ROUND_TRIP
        short = lab.pull("short", 4)
        await lab.until(lambda: lab.row(short, "completed"))
        assert running.state is None, "the first pull is reported while the other one still runs"
        lab.release(running)
        await network.mend()
        seen.over()


async def connected(namespace, address, port):
    """Open a connection, and return the monotonic time at which it was established."""
    with socket_inside(namespace) as client:
        client.setblocking(False)
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_connect(client, (address, port))
    return time.monotonic()
