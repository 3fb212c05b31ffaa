"""Tests with serial pulls, which are the kubelet's default, and with a limit on parallel pulls."""

import pytest

from tests.kubelet.lab import Lab
from tests.real.images import MIB
from tests.real.manifests import deployment, pod

pytestmark = [pytest.mark.kubelet, pytest.mark.asyncio(loop_scope="session")]


async def test_an_image_for_three_replicas_has_one_row_with_three_waiting_pods(serial: Lab) -> None:
    ref = serial.push("team/replicas:1", 12 * MIB, rate=2 * MIB, layers=3)
    serial.hold(ref, at=MIB)
    await serial.create(deployment("replicas", ref, 3))
    begin = await serial.happened("replicas", "Pulling", times=3)
    await serial.shown(begin.at)
    serial.release(ref)
    pulled = await serial.completed("replicas", ref)
    await serial.until(lambda: len(serial.kubelet.events(pod="replicas", reason="Started")) == 3)
    await serial.until(lambda: not serial.looks[-1].states("replicas"))
    during = serial.during(begin.at, pulled)
    assert during
    for look in during:
        [row] = look.rows(ref)
        assert row["status"] in ("resolving", "downloading", "extracting")
        assert {one["owner"] for one in row["pods"]} == {"Deployment/replicas"}
        assert len(row["pods"]) == 3
    serial.check_completed(pulled)
    await serial.counted(ref)


async def test_the_second_of_two_images_is_queued_until_the_first_has_been_pulled(serial: Lab) -> None:
    first = serial.push("team/first:1", 5 * MIB, rate=MIB)
    second = serial.push("team/second:1", 4 * MIB, rate=MIB)
    serial.hold(first, at=MIB)
    await serial.create(pod("first", first))
    await serial.happened("first", "Pulling")
    await serial.create(pod("second", second))
    waits = await serial.happened("second", "Pulling")
    serial.release(first)
    earlier, later = await serial.completed("first", first), await serial.completed("second", second)
    for look in serial.during(waits.at, earlier):
        assert [row["status"] for row in look.rows(second)] == ["queued"]
        assert look.states("second") == {"c0": "queued"}
    for look in serial.during(earlier.at, later):
        assert {row["status"] for row in look.rows(second)} <= {"resolving", "downloading", "extracting"}
    serial.check_completed(earlier)
    assert serial.the_row(second)["attempt"] == 1
    serial.check_completed(later)
    await serial.counted(first, second)


async def test_the_queued_pull_of_a_deleted_pod_and_the_pull_of_the_corrected_tag_have_separate_rows(
    serial: Lab,
) -> None:
    big = serial.push("team/big:1", 6 * MIB, rate=MIB)
    old, new = (serial.push(f"team/rolled:{tag}", 4 * MIB, rate=MIB) for tag in ("old", "new"))
    serial.hold(big, at=MIB)
    await serial.create(pod("big", big))
    await serial.happened("big", "Pulling")
    await serial.create(replaced := pod("rolled-old", old))
    await serial.happened("rolled-old", "Pulling")
    await serial.cluster.delete(replaced)
    await serial.create(pod("rolled-new", new))
    waits = await serial.happened("rolled-new", "Pulling")
    serial.release(big)
    first, second, third = [
        await serial.completed(*each) for each in (("big", big), ("rolled-old", old), ("rolled-new", new))
    ]
    for look in serial.during(waits.at, second):
        assert [row["status"] for row in look.rows(new)] == ["queued"]
    for look in serial.during(first.at, second):
        assert {row["status"] for row in look.rows(old)} <= {"resolving", "downloading", "extracting"}
    for pulled in (first, second, third):
        serial.check_completed(pulled)
    await serial.counted(big, old, new)


async def test_an_image_that_is_being_resolved_is_not_shown_as_failed(serial: Lab) -> None:
    silent = "silent.test/team/app:1"
    serial.cluster.names.silent.add("silent.test")
    never = f"{serial.registry.host}/team/never:1"
    await serial.create(pod("silent", silent), pod("upper", "UPPER/Case:1"), pod("never", never, policy="Never"))
    begin = await serial.happened("silent", "Pulling")
    await serial.happened("upper", "InspectFailed")
    await serial.happened("never", "ErrImageNeverPull")
    await serial.until(lambda: serial.looks[-1].at > begin.at + 10)
    serial.cluster.names.silent.clear()  # the DNS server now responds that the name does not exist
    failed = await serial.happened("silent", "Failed", image=silent)
    looks = serial.between(begin.at, failed.at)
    # The agent reports a pull with an empty lease only after the second poll.
    assert {row["status"] for look in looks for row in look.rows(silent)} <= {"queued", "resolving"}
    assert {row["status"] for look in looks[len(looks) // 2 :] for row in look.rows(silent)} == {"resolving"}
    for ref in ("UPPER/Case:1", never):
        assert {row["status"] for _, row in serial.history(ref)} == {"failed"}
    await serial.delete_failing(pod("silent", silent), silent)
    await serial.counted(silent, never, "UPPER/Case:1")


async def test_a_pull_beyond_the_limit_on_parallel_pulls_is_queued(serial: Lab) -> None:
    await serial.cluster.reconfigure(serializeImagePulls=False, maxParallelImagePulls=2)
    refs = [serial.push(f"team/limited{number}:1", (5 + 2 * number) * MIB, rate=MIB) for number in range(2)]
    refs.append(serial.push("team/limited0:2", 3 * MIB, rate=MIB))
    serial.hold(*refs[:2], at=MIB)
    for number, ref in enumerate(refs):
        await serial.create(pod(f"limited{number}", ref))
        await serial.happened(f"limited{number}", "Pulling")
    waits = await serial.happened("limited2", "Pulling")
    serial.release(*refs[:2])
    first, second, third = [await serial.completed(f"limited{number}", ref) for number, ref in enumerate(refs)]
    for look in serial.during(waits.at, first):
        assert [row["status"] for row in look.rows(refs[2])] == ["queued"]
        assert {row["status"] for ref in refs[:2] for row in look.rows(ref)} <= {"downloading", "extracting"}
    for pulled in (first, second, third):
        serial.check_completed(pulled)
    await serial.counted(*refs)
    await serial.cluster.reconfigure(serializeImagePulls=True, maxParallelImagePulls=None)
