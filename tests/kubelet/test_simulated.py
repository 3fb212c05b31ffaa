"""The simulated kubelet and a real one must both pass these scenarios."""

import pytest

from tests.kubelet.behaviour import Node, RealNode, SimulatedNode, times

pytestmark = [pytest.mark.kubelet, pytest.mark.asyncio(loop_scope="session")]


@pytest.fixture(params=["simulated", "real"])
def node(request: pytest.FixtureRequest) -> Node:
    """A node that pulls one image at a time."""
    if request.param == "simulated":
        return SimulatedNode()
    name = request.node.originalname.removeprefix("test_").replace("_", "-")[:40]
    return RealNode(request.getfixturevalue("serial"), f"{name}-")


async def test_a_second_pull_is_reported_immediately_and_waits_for_the_first(node: Node) -> None:
    first, second = node.serve("first:1", 12), node.serve("second:1", 1)
    await node.create("first", first)
    await node.until(lambda: times(node.events("first"), "Pulling"))
    await node.create("second", second)
    await node.until(lambda: times(node.events("second"), "Pulled"))
    [pulling], [pulled] = times(node.events("second"), "Pulling"), times(node.events("second"), "Pulled")
    [before] = times(node.events("first"), "Pulled")
    assert pulling < before < pulled


async def test_a_container_starts_even_if_the_image_of_another_container_cannot_be_pulled(node: Node) -> None:
    good = node.serve("good:1", 1)
    await node.create("mixed", good.replace("good", "bad"), good)
    await node.until(lambda: times(node.statuses("mixed", "c1"), "running"))
    assert not times(node.statuses("mixed"), "running")
    await node.delete("mixed")


async def test_a_present_image_is_pulled_again_only_if_the_pull_policy_is_always(node: Node) -> None:
    ref = node.serve("present:1", 1)
    for number, policy in enumerate(("IfNotPresent", "IfNotPresent", "Always")):
        name = f"present{number}"
        if policy == "Always":
            # A call within two seconds of the first pull would be counted as part of that pull (docs/limitations.md).
            arrived = times(node.events("present0"), "Pulled")[0]
            await node.until(lambda arrived=arrived: node.now() > arrived + 4)
        await node.create(name, ref, policy=policy)
        await node.until(lambda name=name: times(node.events(name), "Pulled"))
        await node.until(lambda name=name: times(node.statuses(name), "running"))
    assert [len(times(node.events(f"present{number}"), "Pulling")) for number in range(3)] == [1, 0, 1]


async def test_the_pull_of_a_deleted_pod_continues(node: Node) -> None:
    await node.create("deleted", node.serve("deleted:1", 8))
    await node.until(lambda: times(node.events("deleted"), "Pulling"))
    began = node.now()
    await node.until(lambda: node.now() > began + 1)
    await node.delete("deleted")
    deleted = node.now()
    await node.until(lambda: times(node.events("deleted"), "Pulled"))
    assert times(node.events("deleted"), "Pulled")[0] > deleted


async def test_a_kubelet_cancels_its_pull_when_it_stops_and_pulls_again_after_a_restart(node: Node) -> None:
    await node.create("stopped", node.serve("stopped:1", 8))
    await node.until(lambda: times(node.events("stopped"), "Pulling"))
    began = node.now()
    await node.until(lambda: node.now() > began + 2)
    await node.stop()
    stopped = node.now()
    await node.until(lambda: node.now() > stopped + 4)
    assert not times(node.events("stopped"), "Pulled")
    await node.start()
    await node.until(lambda: times(node.events("stopped"), "Pulled"))
    assert len(times(node.events("stopped"), "Pulling")) == 2
    # The pull starts from zero, because containerd has deleted the cancelled pull's bytes.
    assert times(node.events("stopped"), "Pulled")[0] - times(node.events("stopped"), "Pulling")[1] > 7
