"""Tests in which the kubelet pulls an image more than once, in most cases while the image is already on the node."""

import asyncio

import pytest

from tests.kubelet.lab import Lab, seconds
from tests.kubelet.truth import Event
from tests.real.images import MIB
from tests.real.manifests import cron_job, deployment, job, pod

pytestmark = [pytest.mark.kubelet, pytest.mark.asyncio(loop_scope="session")]
APART = 3.5
"""The time between two consecutive pulls, in seconds. The kubelet reports times in whole seconds, so Pulltrace cannot
distinguish pulls that follow each other more closely.
"""


def check_repeat(lab: Lab, pulled: Event, known: set[str]) -> None:
    """Check that an image has exactly one new row, and that this row shows a pull that downloaded nothing."""
    ref = pulled.image
    [new] = lab.ids(ref) - known
    [row] = [row for row in lab.looks[-1].rows(ref) if row["id"] == new]
    assert (row["status"], row["attempt"], row["downloadedBytes"]) == ("completed", 1, 0), row
    assert row["imageBytes"] == lab.size(ref)
    assert lab.have_same_duration(row, pulled), (seconds(row), pulled)


def waited(lab: Lab, ref: str, known: set[str]) -> set[str]:
    """Return the names of the pods that waited for the new pulls of an image and are no longer waiting."""
    new = [row for row in lab.looks[-1].rows(ref) if row["id"] not in known]
    return {one["podName"] for row in new for one in row.get("waited", ())}


async def test_each_pull_of_a_cached_image_has_exactly_one_row(lab: Lab) -> None:
    ref = lab.push("team/cached:1", 2 * MIB, rate=MIB)
    await lab.create(pod("cached-first", ref))
    lab.check_completed(await lab.completed("cached-first", ref))
    await lab.create(pod("cached-present", ref))
    await lab.happened("cached-present", "Started")
    assert not lab.pulled("cached-present", ref)
    assert len(lab.ids(ref)) == 1
    for number in range(5):
        await asyncio.sleep(APART)
        known = lab.ids(ref)
        await lab.create(pod(f"cached-again{number}", ref, policy="Always"))
        check_repeat(lab, await lab.completed(f"cached-again{number}", ref), known)
        await lab.until(lambda: waited(lab, ref, known) == {f"cached-again{number}"})  # noqa: B023 (the condition is only used in this iteration)
    assert not any(look.states("cached-present") for look in lab.looks)
    await lab.counted(ref)


async def test_the_first_pull_of_an_image_is_shown_with_its_bytes_even_if_it_is_shorter_than_a_poll_interval(
    lab: Lab,
) -> None:
    for number in range(6):
        ref = lab.push(f"team/short{number}:1", 100_000 * (number + 1))
        await lab.create(pod(f"short{number}", ref, policy="Always" if number % 2 else "IfNotPresent"))
        lab.check_completed(await lab.completed(f"short{number}", ref))
        await lab.counted(ref)


async def test_pulling_a_moved_tag_adds_a_row_with_the_new_size(lab: Lab) -> None:
    ref = lab.push("team/moved:1", 2 * MIB, rate=MIB)
    await lab.create(pod("moved-before", ref, policy="Always"))
    lab.check_completed(await lab.completed("moved-before", ref))
    known = lab.ids(ref)
    lab.push("team/moved:1", 3 * MIB, rate=MIB)
    await lab.create(pod("moved-after", ref, policy="Always"))
    await lab.completed("moved-after", ref)
    [row] = [row for row in lab.looks[-1].rows(ref) if row["id"] not in known]
    assert (row["status"], row["downloadedBytes"]) == ("completed", lab.images[ref])
    await lab.counted(ref)


async def test_replicas_whose_images_are_pulled_at_the_same_time_share_one_row(lab: Lab) -> None:
    ref = lab.push("team/beside:1", 12 * MIB, rate=MIB, layers=3)
    lab.hold(ref, at=MIB)
    await lab.create(deployment("beside", ref, 3))
    begin = await lab.happened("beside", "Pulling", times=3)
    lab.release(ref)
    await lab.happened("beside", "Pulled", times=3)
    pulled = await lab.completed("beside", ref)
    for look in lab.during(begin.at, pulled):
        [row] = look.rows(ref)
        assert len(row["pods"]) == 3
    assert not any(look.rows(ref.rpartition(":")[0]) for look in lab.looks), "no row may lack the tag"
    row = lab.the_row(ref)
    assert (row["status"], row["attempt"], row["imageBytes"]) == ("completed", 1, lab.size(ref))
    await lab.counted(ref)


async def test_each_pull_for_a_job_has_its_own_row_with_attempt_1(lab: Lab) -> None:
    ref = lab.push("team/job:1", 2 * MIB, rate=2 * MIB)
    await lab.create(job("thrice", ref, policy="Always", completions=3))
    await pulled_times(lab, "thrice-", ref, 3)


async def test_a_container_that_crashes_repeatedly_has_a_row_for_each_pull(lab: Lab) -> None:
    ref = lab.push("team/crashing:1", 2 * MIB, rate=2 * MIB)
    manifest = pod("crashing", ref, policy="Always")
    manifest["spec"]["containers"][0]["args"] = ["4s", "1"]
    await lab.create(manifest)
    await pulled_times(lab, "crashing", ref, 3)
    await lab.cluster.delete(manifest)


async def test_the_pod_of_a_cron_job_is_shown_with_its_owner(lab: Lab) -> None:
    ref = lab.push("team/cron:1", 4 * MIB, rate=MIB)
    lab.hold(ref, at=MIB)
    every = cron_job("minutely", ref, policy="Always")
    await lab.create(every)
    begin = await lab.happened("minutely-", "Pulling")
    await lab.shown(begin.at)
    lab.release(ref)
    pulled = await lab.completed("minutely-", ref)
    await lab.cluster.delete(every)
    looks = lab.during(begin.at, pulled)
    assert {one["owner"].split("-")[0] for look in looks for row in look.rows(ref) for one in row["pods"]} == {
        "Job/minutely"
    }
    lab.check_completed(pulled)
    await lab.counted(ref)


async def pulled_times(lab: Lab, name: str, ref: str, times: int) -> None:
    """Wait until the kubelet has pulled an image the given number of times, and compare each pull with its row."""
    await lab.until(lambda: len(lab.pulled(name, ref)) >= times)
    pulls = lab.pulled(name, ref)
    await lab.until(lambda: lab.looks[-1].at > pulls[-1].at + lab.allowed(pulls[-1].at))
    rows = sorted(lab.looks[-1].rows(ref), key=lambda row: str(row["startedAt"]))
    assert [(row["status"], row["attempt"], row["downloadedBytes"]) for row in rows] == [
        ("completed", 1, lab.images[ref] if number == 0 else 0) for number in range(len(pulls))
    ]
    for row, pulled in zip(rows, pulls, strict=True):
        assert lab.have_same_duration(row, pulled), (seconds(row), pulled)
    assert lab.ids(ref) == {row["id"] for row in rows}
    await lab.counted(ref)


async def test_a_pull_is_shown_as_completed_even_if_its_image_is_removed_right_afterwards(lab: Lab) -> None:
    """Users have reported images that were removed right after their pull (Kubernetes issues #18140 and #103255)."""
    ref = lab.push("team/removed:1", 3 * MIB, rate=MIB)
    await lab.create(pod("removed", ref))
    # If the image is removed before this event, the kubelet pulls the image again.
    await lab.happened("removed", "Created")
    await lab.cluster.containerd.cri.remove(ref)
    await lab.happened("removed", "Started")
    lab.check_completed(await lab.completed("removed", ref))
    await asyncio.sleep(APART)  # later reports must not change the row
    assert lab.the_row(ref)["status"] == "completed"
    await lab.counted(ref)
