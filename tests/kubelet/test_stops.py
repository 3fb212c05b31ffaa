"""The kubelet, containerd and Pulltrace's server end in the middle of something, and images are collected."""

import time

import pytest

from tests.kubelet.lab import SAME_DURATION, Lab, seconds
from tests.real.images import MIB
from tests.real.manifests import pod

pytestmark = [pytest.mark.kubelet, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]
ACTIVE = {"queued", "resolving", "downloading", "extracting"}


async def halfway(lab: Lab, name: str, *, rate: float = MIB) -> str:
    """Start the pull of an image and wait until a part of it has arrived."""
    ref = lab.push(f"team/{name}:1", 8 * MIB, rate=rate)
    await lab.create(pod(name, ref))
    await lab.until(lambda: any(row["downloadedBytes"] > MIB for row in lab.looks[-1].rows(ref)))
    return ref


def never_two_active(lab: Lab, ref: str) -> bool:
    """Whether no look has two live rows of an image."""
    return all(len([row for row in look.rows(ref) if row["status"] in ACTIVE]) <= 1 for look in lab.looks)


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_kubelet_that_ends_cancels_its_pull_and_the_next_one_is_attempt_two(serial: Lab, how: str) -> None:
    ref = await halfway(serial, f"kubelet-{how}")
    ended = time.time()
    await getattr(serial.cluster.kubelet, how)()
    await serial.until(lambda: [row["status"] for row in serial.looks[-1].rows(ref)] == ["failed"], 10)
    assert serial.looks[-1].at - ended < 5
    assert serial.looks[-1].rows(ref)[0]["attempt"] == 1
    await serial.cluster.kubelet.start()
    pulled = await serial.completed(f"kubelet-{how}", ref, seconds=90)
    row = serial.the_row(ref)
    assert (row["status"], row["attempt"]) == ("completed", 2)
    assert abs(seconds(row) - pulled.seconds) <= SAME_DURATION
    assert never_two_active(serial, ref)


async def test_a_containerd_that_is_killed_fails_its_pull_and_the_retry_completes(serial: Lab) -> None:
    ref = await halfway(serial, "containerd-kill")
    await serial.cluster.containerd.kill()
    await serial.happened("containerd-kill", "Failed", image=ref)
    await serial.cluster.containerd.start()
    pulled = await serial.completed("containerd-kill", ref, seconds=90)
    row = serial.the_row(ref)
    tries = serial.kubelet.events(pod="containerd-kill", reason="Pulling")
    assert (row["status"], row["attempt"]) == ("completed", len(tries))
    assert abs(seconds(row) - pulled.seconds) <= SAME_DURATION
    assert never_two_active(serial, ref)


async def test_an_image_that_was_collected_is_pulled_again_as_a_new_row(serial: Lab) -> None:
    ref = serial.push("team/collected:1", 2 * MIB, rate=MIB)
    await serial.create(once := pod("collected-before", ref))
    before = await serial.completed("collected-before", ref)
    serial.check_completed(before)
    ids = serial.ids(ref)
    await serial.cluster.delete(once)
    await serial.cluster.containerd.cri.remove(ref)
    await serial.create(pod("collected-after", ref))
    again = await serial.completed("collected-after", ref)
    rows = {row["id"]: row for row in serial.looks[-1].rows(ref)}
    assert {row["status"] for row in rows.values()} == {"completed"}
    [new] = rows.keys() - ids
    assert rows[new]["downloadedBytes"] == serial.images[ref]
    assert abs(seconds(rows[new]) - again.seconds) <= SAME_DURATION
