"""The way from the agent to the server breaks in each way it can: a real network, of the kernel's own parts."""

import asyncio

import pytest

from tests.faults.lab import Fault
from tests.faults.network import Network, lacking

pytestmark = pytest.mark.skipif(bool(lacking()), reason=lacking() or "never")

FAULTS = {
    "cut": ("packets vanish, nobody is told", Network.cut),
    "unplugged": ("no route to the server", Network.unplug),
    "one-way": ("reports arrive, answers do not", Network.one_way),
    "slow": ("16 kbit/s", lambda network: network.slow("16kbit")),
    "losing": ("a third of the packets", lambda network: network.lose(0.33)),
    "refusing": ("new connections are refused", Network.refuse),
    "resetting": ("every packet answered with a reset", Network.reset),
}


@pytest.fixture
async def network():
    """Two hosts on one cable."""
    async with Network() as made:
        yield made


@pytest.mark.parametrize("how", FAULTS)
async def test_a_pull_that_ended_behind_a_broken_network_is_told_when_it_is_mended(make_lab, network, how):
    what, breaks = FAULTS[how]
    lab = await make_lab(network=network)
    await lab.pulled("done", 1)
    running = await lab.running("app", 8)
    async with Fault(lab, f"network {how}: {what}", "the end is told after it, once") as seen:
        await breaks(network)
        short = lab.pull("short", 4)
        await lab.until(lambda: lab.over(running, short))
        await asyncio.sleep(3)
        await network.mend()
        seen.over()
