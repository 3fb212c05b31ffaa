"""The way from the agent to the server breaks in each way it can."""

import asyncio

import pytest

FAULTS = {
    "cut": ("nothing passes, nobody is told", lambda wire: wire.cut()),
    "one-way": ("reports arrive, answers do not", lambda wire: wire.one_way()),
    "slow": ("2 kB/s", lambda wire: wire.slow(2000)),
    "refused": ("connections closed and refused", lambda wire: wire.refuse()),
    "reset": ("every connection reset", lambda wire: wire.reset()),
}


@pytest.mark.parametrize("how", FAULTS)
async def test_a_pull_that_ended_behind_a_broken_network_is_told_when_it_is_mended(lab, fault, how):
    what, breaks = FAULTS[how]
    await lab.pulled("done", 1)
    running = await lab.running("app", 4)
    async with fault(f"network {how}: {what}", "the end is told after it, once") as seen:
        breaks(lab.wire)
        short = lab.pull("short", 4)
        await lab.until(lambda: _over(running, short))
        await asyncio.sleep(1.5)
        lab.wire.mend()
        seen.over()


async def _over(*pulls):
    return all(pull.state for pull in pulls)
