"""Tests with a containerd that is killed, hangs, or returns garbage or huge lists."""

import asyncio

from pulltrace.demo.grpc_server import Behaviour
from pulltrace.demo.images import make_layer
from pulltrace.demo.store import Ingest
from pulltrace.wire import MAX_LAYERS
from tests.faults.lab import MIB


async def test_a_pull_fails_and_its_retry_completes_if_containerd_is_killed(lab, fault):
    await lab.pulled("done", 1)
    running = await lab.running("app", 12)
    async with fault(
        "containerd killed mid-pull and restarted; the kubelet retries", "the pull fails, and attempt 2 follows"
    ) as seen:
        await lab.containerd.kill()
        await asyncio.sleep(1)
        await lab.containerd.start()
        seen.over()
        await lab.recovered()
        retried = lab.again(str(running.reference))
        seen.over()
    row = await lab.row_of(retried)
    assert row["percent"] == 100


async def test_losing_the_connection_to_containerd_has_no_effect_if_no_pull_is_running(lab, fault):
    await lab.pulled("done", 1)
    async with fault("containerd's socket replaced while no pull is running", "nothing changes") as seen:
        await lab.containerd.close()
        await asyncio.sleep(1)
        await lab.containerd.start()
        seen.over()


async def test_a_pull_resumes_once_containerd_responds_again(lab, fault):
    await lab.pulled("done", 1)
    await lab.running("app", 6)
    async with fault("containerd hangs", "the pull waits, and continues afterwards") as seen:
        lab.containerd.behave(Behaviour.SILENT)
        await asyncio.sleep(3)
        lab.containerd.behave(Behaviour.NORMAL)
        seen.over()


async def test_the_published_state_does_not_change_if_containerd_returns_garbage(lab, fault):
    await lab.pulled("done", 1)
    await lab.running("app", 6)
    async with fault("containerd returns garbage", "the pull waits, and continues afterwards") as seen:
        lab.containerd.behave(Behaviour.INVALID)
        await asyncio.sleep(2)
        lab.containerd.behave(Behaviour.NORMAL)
        seen.over()


async def test_huge_lists_of_stale_leases_do_not_hide_a_pull(lab, fault):
    await lab.pulled("done", 1)
    async with fault(
        "containerd lists 20,000 leases and 20,000 ingests", "the only pull is published, and memory use is bounded"
    ) as seen:
        store, now = lab.node.store, lab.node.now
        leases = [lab.node.new_lease(expires=False) for _ in range(20_000)]
        for number in range(20_000):
            blob = make_layer(f"left-{number}", 9 * MIB).blob
            store.ingests[blob.ref] = Ingest(blob, now - 9000, now - 9000, 5 * MIB)
        await lab.running("app", 6)
        for lease in leases:
            del store.leases[lease.id]
        store.ingests = {ref: item for ref, item in store.ingests.items() if item.updated_at > now - 5000}
        seen.over()


async def test_layers_that_do_not_fit_into_a_single_report_are_spread_over_several_reports(lab, fault):
    await lab.pulled("done", 1)
    async with fault(
        "a node pulls seven images of 512 layers at once",
        "the seven pulls are reported in turns, and each end is reported once",
    ) as seen:
        pulls = [lab.pull(f"app-{number}", *[1 / 64] * MAX_LAYERS) for number in range(7)]

        async def published() -> bool:
            rows = [await lab.row_of(pull) for pull in pulls]
            return all(row and row["layerCount"] == MAX_LAYERS for row in rows)

        await lab.until(published)
        seen.over()
    assert "report not accepted" not in lab.agent.output
    rows = [await lab.row_of(pull) for pull in pulls]
    assert {row["attempt"] for row in rows} == {1}
