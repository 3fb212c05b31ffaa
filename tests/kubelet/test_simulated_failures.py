"""The simulated kubelet and a real one must report the same failures and retries in these scenarios."""

from itertools import pairwise

import pytest

from tests.kubelet.behaviour import Node, RealNode, SimulatedNode, times
from tests.kubelet.lab import SYNC

pytestmark = [pytest.mark.kubelet, pytest.mark.asyncio(loop_scope="session")]
BACK_OFFS = (10, 20, 40, 80)
"""The kubelet's back-offs between its attempts to pull an image, in seconds."""


def check_gap(node: Node, seconds: float, earliest: float, latest: float) -> None:
    """Check that the time between two reports is within limits. On a busy machine, a real kubelet and its log lines are
    delayed.
    """
    if isinstance(node, SimulatedNode):
        assert earliest <= seconds <= latest + 2
    else:
        assert earliest - 2 <= seconds


@pytest.fixture(params=["simulated", "real"])
def failing_node(request: pytest.FixtureRequest) -> Node:
    """A node for the `missing`, `invalid` and `never` pods, whose images cannot be pulled."""
    if request.param == "simulated":
        return SimulatedNode()
    request.getfixturevalue("failing")
    return RealNode(request.getfixturevalue("parallel"))


async def create_failing(node: Node, name: str, ref: str, policy: str = "IfNotPresent") -> None:
    """Create a pod on the simulated node. On the real node, the pod already exists."""
    if isinstance(node, SimulatedNode):
        await node.create(name, ref, policy=policy)


async def test_a_retry_begins_at_the_first_sync_after_the_back_off(failing_node: Node) -> None:
    await create_failing(failing_node, "missing", "registry.test/nowhere:1")
    await failing_node.until(lambda: len(times(failing_node.events("missing"), "Pulling")) >= 4)
    tries = times(failing_node.events("missing"), "Pulling")
    for gap, back_off in zip([later - earlier for earlier, later in pairwise(tries)], BACK_OFFS, strict=False):
        check_gap(failing_node, gap, back_off, back_off + SYNC[1])


async def test_the_reason_for_a_failed_retry_appears_in_the_status_after_the_next_sync(failing_node: Node) -> None:
    await create_failing(failing_node, "missing", "registry.test/nowhere:1")
    await failing_node.until(lambda: len(times(failing_node.statuses("missing"), "ErrImagePull")) >= 2)
    retry = times(failing_node.events("missing"), "Pulling")[1]
    written = times(failing_node.statuses("missing"), "ErrImagePull")[1]
    check_gap(failing_node, written - retry, *SYNC)
    # The back-off appears in the status only at the next sync, when it is already over and the kubelet retries.
    [backed_off, *_] = times(failing_node.statuses("missing"), "ImagePullBackOff")
    check_gap(failing_node, backed_off - retry, -2, 0)
    assert backed_off < written


@pytest.mark.parametrize(
    ("name", "ref", "policy", "reason"),
    [
        ("invalid", "UPPER/Case:1", "IfNotPresent", "InspectFailed"),
        ("never", "registry.test/never:1", "Never", "ErrImageNeverPull"),
    ],
)
async def test_an_image_that_the_kubelet_refuses_to_pull_is_reported_at_every_sync(
    failing_node: Node, name: str, ref: str, policy: str, reason: str
) -> None:
    await create_failing(failing_node, name, ref, policy)
    await failing_node.until(lambda: len(times(failing_node.events(name), reason)) >= 5)
    assert not times(failing_node.events(name), "Pulling")
    reported = times(failing_node.events(name), reason)
    assert reported[4] - reported[0] < sum(BACK_OFFS), "there is no back-off"
    # The first gap between syncs is ignored, because the kubelet syncs the pod again as soon as the sandbox has
    # started.
    for gap in [later - earlier for earlier, later in pairwise(reported[1:])]:
        check_gap(failing_node, gap, *SYNC)
