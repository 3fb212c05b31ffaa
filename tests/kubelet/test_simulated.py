"""The simulated kubelet behaves like a real one: both run the same scenarios."""

from itertools import pairwise

import pytest

from tests.kubelet.behaviour import Node, RealNode, SimulatedNode
from tests.kubelet.lab import Changes

pytestmark = [pytest.mark.kubelet, pytest.mark.asyncio(loop_scope="session")]
SYNC = (10.0, 15.0)
"""Seconds from a failed sync to the next one."""
BUSY = 2.0
"""Seconds by which a busy machine may be late."""


@pytest.fixture(params=["simulated", "real"])
def node(request: pytest.FixtureRequest) -> Node:
    """A node that pulls one image after the other."""
    if request.param == "simulated":
        return SimulatedNode()
    name = request.node.originalname.removeprefix("test_").replace("_", "-")[:40]
    return RealNode(request.getfixturevalue("serial"), f"{name}-")


@pytest.fixture(params=["simulated", "real"])
def failing_node(request: pytest.FixtureRequest) -> Node:
    """A node with the pods `missing`, `invalid` and `never`, each named after the reason why it has no image."""
    if request.param == "simulated":
        return SimulatedNode()
    request.getfixturevalue("failing")
    return RealNode(request.getfixturevalue("parallel"))


async def create_failing(node: Node, name: str, ref: str, policy: str = "IfNotPresent") -> None:
    """Create a pod on the simulated node; on the real node, it has existed since the first test."""
    if isinstance(node, SimulatedNode):
        await node.create(name, ref, policy=policy)


def times(changes: Changes, wanted: str) -> list[float]:
    """Return the time of an event."""
    return [at for at, what in changes if what == wanted]


async def test_retries_begin_at_the_first_sync_after_their_back_off(failing_node: Node) -> None:
    await create_failing(failing_node, "missing", "registry.test/nowhere:1")
    await failing_node.until(lambda: len(times(failing_node.events("missing"), "Pulling")) >= 4, 130)
    tries = times(failing_node.events("missing"), "Pulling")
    for gap, back_off in zip([later - earlier for earlier, later in pairwise(tries)], (10, 20, 40), strict=False):
        assert back_off <= gap <= back_off + SYNC[1] + BUSY


async def test_the_reason_of_a_failed_retry_is_in_the_status_after_the_next_sync(failing_node: Node) -> None:
    await create_failing(failing_node, "missing", "registry.test/nowhere:1")
    await failing_node.until(lambda: len(times(failing_node.statuses("missing"), "ErrImagePull")) >= 2, 60)
    retry = times(failing_node.events("missing"), "Pulling")[1]
    written = times(failing_node.statuses("missing"), "ErrImagePull")[1]
    assert SYNC[0] <= written - retry <= SYNC[1] + BUSY
    # The sync that pulls also writes the back-off to the status, which has already ended by then.
    [backed_off, *_] = times(failing_node.statuses("missing"), "ImagePullBackOff")
    assert abs(backed_off - retry) <= BUSY


@pytest.mark.parametrize(
    ("name", "ref", "policy", "reason"),
    [
        ("invalid", "UPPER/Case:1", "IfNotPresent", "InspectFailed"),
        ("never", "registry.test/never:1", "Never", "ErrImageNeverPull"),
    ],
)
async def test_an_image_that_is_not_pulled_is_reported_at_every_sync(
    failing_node: Node, name: str, ref: str, policy: str, reason: str
) -> None:
    await create_failing(failing_node, name, ref, policy)
    await failing_node.until(lambda: len(times(failing_node.events(name), reason)) >= 5, 80)
    assert not times(failing_node.events(name), "Pulling")
    reported = times(failing_node.events(name), reason)
    # The first sync is followed by another one when the sandbox has started.
    for gap in [later - earlier for earlier, later in pairwise(reported[1:])]:
        assert SYNC[0] <= gap <= SYNC[1] + BUSY


async def test_a_second_pull_is_reported_at_once_and_waits_for_the_first(node: Node) -> None:
    first, second = node.serve("first:1", 5), node.serve("second:1", 2)
    await node.create("first", first)
    await node.until(lambda: times(node.events("first"), "Pulling"))
    await node.create("second", second)
    await node.until(lambda: times(node.events("second"), "Pulled"))
    [pulling], [pulled] = times(node.events("second"), "Pulling"), times(node.events("second"), "Pulled")
    [before] = times(node.events("first"), "Pulled")
    assert pulling < before < pulled


async def test_a_bad_image_does_not_prevent_the_other_container_from_starting(node: Node) -> None:
    good = node.serve("good:1", 1)
    await node.create("mixed", good.replace("good", "bad"), good)
    await node.until(lambda: times(node.statuses("mixed", "c1"), "running"))
    assert not times(node.statuses("mixed"), "running")
    await node.delete("mixed")


async def test_a_present_image_is_pulled_again_only_with_the_policy_always(node: Node) -> None:
    ref = node.serve("present:1", 1)
    for number, policy in enumerate(("IfNotPresent", "IfNotPresent", "Always")):
        name = f"present{number}"
        await node.create(name, ref, policy=policy)
        await node.until(lambda name=name: times(node.events(name), "Pulled"))
        await node.until(lambda name=name: times(node.statuses(name), "running"))
    assert [len(times(node.events(f"present{number}"), "Pulling")) for number in range(3)] == [1, 0, 1]


async def test_the_pull_of_a_deleted_pod_continues(node: Node) -> None:
    await node.create("deleted", node.serve("deleted:1", 5))
    await node.until(lambda: times(node.events("deleted"), "Pulling"))
    began = node.now()
    await node.until(lambda: node.now() > began + 1)
    await node.delete("deleted")
    deleted = node.now()
    await node.until(lambda: times(node.events("deleted"), "Pulled"))
    assert times(node.events("deleted"), "Pulled")[0] > deleted


async def test_a_kubelet_that_stops_cancels_its_pull_and_requests_it_again_when_it_starts(node: Node) -> None:
    await node.create("stopped", node.serve("stopped:1", 5))
    await node.until(lambda: times(node.events("stopped"), "Pulling"))
    began = node.now()
    await node.until(lambda: node.now() > began + 2)
    await node.stop()
    stopped = node.now()
    await node.until(lambda: node.now() > stopped + 6)
    assert not times(node.events("stopped"), "Pulled")
    await node.start()
    await node.until(lambda: times(node.events("stopped"), "Pulled"), 60)
    assert len(times(node.events("stopped"), "Pulling")) == 2
    # The download starts from zero: containerd has deleted the bytes of the cancelled pull.
    assert times(node.events("stopped"), "Pulled")[0] - times(node.events("stopped"), "Pulling")[1] > 4
