"""Tests for agent faults: the agent is killed or frozen, or two agents run on the same node."""

import asyncio
import signal

from tests.faults.lab import Process


async def test_a_pull_keeps_its_row_when_its_agent_is_killed_and_restarted(lab, fault):
    await lab.pulled("done", 1)
    running = await lab.running("app", 12)
    before = await lab.row_of(running)
    async with fault("agent killed mid-pull and started again", "the pull continues in the same row") as seen:
        await lab.agent.kill()
        await lab.agent.start()
        seen.over()
    assert (await lab.row_of(running))["id"] == before["id"]


async def test_an_agent_that_is_restarted_with_sigterm_does_not_lose_any_pulls(lab, fault):
    await lab.pulled("done", 1)
    await lab.running("app", 12)
    async with fault("agent restarted (SIGTERM) mid-pull", "the pull continues in the same row") as seen:
        assert await lab.agent.stop() == 0
        await lab.agent.start()
        seen.over()


async def test_a_frozen_agent_reports_late_and_catches_up(lab, fault):
    running = await lab.running("app", 8)
    lab.hold(running)

    async def is_late():
        return (await lab.api.get("/api/v1/nodes"))["nodes"][0]["state"] == "late"

    async with fault(
        "agent frozen (SIGSTOP) while a pull ends", "the node is late, and the missed end is published afterwards"
    ) as seen:
        lab.agent.signal(signal.SIGSTOP)
        await lab.until(is_late)
        lab.release(running)
        await lab.until(lambda: lab.over(running))
        assert not await lab.row(running, "completed"), "the frozen agent has not reported the end"
        lab.agent.signal(signal.SIGCONT)
        seen.over()


async def test_each_pull_has_one_row_even_if_two_agents_report_for_its_node(lab, fault):
    await lab.pulled("done", 1)
    await lab.running("app", 16)
    async with fault("two agents claim one node", "each pull has one row, and no pull is lost") as seen:
        async with Process("agent", **lab.agent_settings) as other:
            await lab.until(lambda: _said(other, "agent started"))
            await asyncio.sleep(2)
            await lab.recovered()
        seen.over()


async def _said(process, text):
    return text in process.output
