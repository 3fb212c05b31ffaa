"""Tests in which the kubelet, containerd or Pulltrace's server stops during a pull, or in which the kubelet deletes
unused images.
"""

import asyncio
import time
from functools import partial

import grpc.aio
import pytest

from pulltrace.agent.containerd_api.snapshots_pb2 import StatSnapshotRequest
from pulltrace.agent.containerd_api.snapshots_pb2_grpc import SnapshotsStub
from tests.kubelet.lab import ONE_SYNC_WRONG, RETRY_WITHIN, Lab, Look, when
from tests.patience import PATIENCE
from tests.real.cluster import NODE
from tests.real.images import MIB, Layer, make_layer
from tests.real.manifests import pod

pytestmark = [pytest.mark.kubelet, pytest.mark.asyncio(loop_scope="session")]
K8S = (("containerd-namespace", "k8s.io"),)
ACTIVE = {"queued", "resolving", "downloading", "extracting"}


async def halfway(lab: Lab, name: str) -> str:
    """Start pulling an image, and wait until half of it has arrived. The registry sends the rest when ``release`` is
    called.
    """
    ref = lab.push(f"team/{name}:1", 6 * MIB, rate=MIB)
    lab.hold(ref, at=3 * MIB)
    await lab.create(pod(name, ref))
    await lab.until(lambda: any(row["downloadedBytes"] > MIB for row in lab.looks[-1].rows(ref)))
    return ref


async def is_unpacked(lab: Lab, layer: Layer) -> bool:
    """Return whether containerd has the snapshot of the given base layer."""
    request = StatSnapshotRequest(snapshotter="overlayfs", key=layer.diff_id)
    try:
        await SnapshotsStub(lab.cluster.containerd.channel).Stat(request, metadata=K8S, timeout=10)
    except grpc.aio.AioRpcError:
        return False
    return True


def never_two_active(lab: Lab, ref: str) -> bool:
    """Return whether every poll showed at most one active row for the image."""
    return all(len([row for row in look.rows(ref) if row["status"] in ACTIVE]) <= 1 for look in lab.looks)


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_stopping_the_kubelet_cancels_its_pull_and_the_next_pull_is_attempt_2(serial: Lab, how: str) -> None:
    ref = await halfway(serial, f"kubelet-{how}")
    await getattr(serial.cluster.kubelet, how)()
    await serial.until(lambda: [row["status"] for row in serial.looks[-1].rows(ref)] == ["failed"])
    assert serial.looks[-1].rows(ref)[0]["attempt"] == 1
    await serial.until(lambda: serial.looks[-1].rows(ref)[0]["errorReason"] == "canceled")
    serial.release(ref)
    await serial.cluster.kubelet.start()
    pulled = await serial.completed(f"kubelet-{how}", ref)
    row = serial.the_row(ref)
    assert (row["status"], row["attempt"]) == ("completed", 2)
    assert serial.have_same_duration(row, pulled)
    assert never_two_active(serial, ref)
    await serial.counted(ref)


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_pull_fails_and_its_retry_completes_if_containerd_stops(serial: Lab, how: str) -> None:
    name = f"containerd-{how}"
    ref = await halfway(serial, name)
    await getattr(serial.cluster.containerd, how)()
    await serial.happened(name, "Failed", image=ref)
    serial.release(ref)
    await serial.cluster.containerd.start()
    pulled = await serial.completed(name, ref)
    row = serial.the_row(ref)
    tries = serial.kubelet.events(pod=name, reason="Pulling")
    assert (row["status"], row["attempt"]) == ("completed", len(tries))
    assert serial.have_same_duration(row, pulled)
    assert never_two_active(serial, ref)
    await serial.counted(ref)


async def test_attempt_numbering_continues_after_a_server_restart(serial: Lab) -> None:
    missing = f"{serial.registry.host}/team/restart:1"

    def failures() -> int:
        return len(serial.kubelet.events(pod="restart", reason="Failed", image=missing))

    await serial.create(failing := pod("restart", missing))
    # The kubelet now waits for 40 s before its next attempt. If the server takes longer than that to restart, the test
    # uses a later attempt instead.
    await serial.happened("restart", "Failed", image=missing, times=3)
    await asyncio.sleep(2)
    stopped = failures()
    await serial.observed.restart_server()
    restarted = time.time()
    if failures() > stopped:  # a server does not log the attempts that ended before it started
        serial.overlapping.add(missing)

    def attempts(look: Look) -> list[tuple[str, int]]:
        return [(row["status"], row["attempt"]) for row in look.rows(missing)]

    def is_shown(number: int) -> bool:
        return serial.looks[-1].at > restarted and attempts(serial.looks[-1]) == [("failed", number)]

    looks: list[Look] = []
    while not looks:  # the restart may have lasted until the next attempt began
        await serial.until(lambda: is_shown(failures()))
        shown, failed = serial.looks[-1].at, failures()
        await serial.happened("restart", "Failed", image=missing, times=failed + 1)
        last, following = serial.kubelet.events(pod="restart", reason="Pulling")[failed - 1 : failed + 1]
        await serial.until(partial(is_shown, failed + 1))
        looks = [look for look in serial.between(restarted, following.at) if look.at >= shown]
    assert {tuple(attempts(look)) for look in looks} == {(("failed", failed),)}
    errors = [abs(when(row["nextRetryAt"]) - following.at) for look in looks for row in look.rows(missing)]
    # The predicted time of the retry becomes more precise with each kubelet sync.
    delay = serial.sync_delay("restart", last.at, following.at)
    assert errors[-1] <= RETRY_WITHIN + delay
    assert max(errors) <= ONE_SYNC_WRONG + delay
    await serial.delete_failing(failing, missing)
    if missing not in serial.overlapping:
        await serial.counted(missing)


async def test_the_retry_after_a_kubelet_restart_is_predicted_for_a_new_back_off(serial: Lab) -> None:
    missing = f"{serial.registry.host}/team/forgotten:1"
    await serial.create(failing := pod("forgotten", missing))
    await serial.happened("forgotten", "Failed", image=missing, times=3)
    # The kubelet's times are in whole seconds, so an attempt right after the failure would not be noticed.
    await asyncio.sleep(5)
    # The kubelet would now wait for 40 s, and for 80 s after the fourth failure. A restarted kubelet waits for 10 s.
    await serial.cluster.kubelet.stop()
    await serial.cluster.kubelet.start()
    await serial.happened("forgotten", "Pulling", image=missing, times=5)
    failed = serial.kubelet.events(pod="forgotten", reason="Failed", image=missing)[3]
    following = serial.kubelet.events(pod="forgotten", reason="Pulling")[4]
    await serial.until(lambda: serial.looks[-1].at > following.at)
    rows = [row for look in serial.between(failed.at, following.at) for row in look.rows(missing)]
    assert {(row["status"], row["attempt"]) for row in rows} == {("failed", 4)}
    delay = serial.sync_delay("forgotten", failed.at, following.at)
    assert abs(when(rows[-1]["nextRetryAt"]) - following.at) <= RETRY_WITHIN + delay
    await serial.delete_failing(failing, missing)
    await serial.counted(missing)


async def test_an_image_that_the_kubelet_garbage_collects_is_pulled_again_in_a_new_row(serial: Lab) -> None:
    """This test must be the last one on its cluster, because a kubelet that is short of disk space also evicts pods."""
    layer = make_layer(2 * MIB)
    ref = serial.push_layers("team/collected:1", layer, rate=MIB)
    await serial.create(once := pod("collected-before", ref))
    serial.check_completed(await serial.completed("collected-before", ref))
    ids = serial.ids(ref)
    await serial.cluster.delete(once)
    cluster = serial.cluster
    # No disk is ever 99 % free, so the kubelet is always short of disk space and removes every unused image.
    await cluster.reconfigure(evictionHard={"imagefs.available": "99%"}, imageMinimumGCAge="1s")
    async with asyncio.timeout(PATIENCE):
        while await is_unpacked(serial, layer):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    assert "Removing image to free bytes" in cluster.kubelet_log.read_text()
    assert [row["status"] for row in serial.looks[-1].rows(ref)] == ["completed"]
    await cluster.reconfigure(evictionHard=None, imageMinimumGCAge=None)
    async with asyncio.timeout(PATIENCE):
        while await has_pressure(serial):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    await serial.create(pod("collected-after", ref))
    again = await serial.completed("collected-after", ref)
    rows = {row["id"]: row for row in serial.looks[-1].rows(ref)}
    assert {row["status"] for row in rows.values()} == {"completed"}
    [new] = rows.keys() - ids
    assert rows[new]["downloadedBytes"] == serial.images[ref]
    assert serial.have_same_duration(rows[new], again)
    await serial.counted(ref)


async def has_pressure(lab: Lab) -> bool:
    """Return whether the node rejects pods because its disk is full."""
    node = await lab.cluster.api.request("GET", f"/api/v1/nodes/{NODE}")
    return bool(node["spec"].get("taints"))
