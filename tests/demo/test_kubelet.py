"""The simulated kubelet: the objects that it writes to the API server while its containerd pulls."""

from itertools import pairwise

import pytest

from pulltrace.demo.kubelet import Kubelet
from pulltrace.demo.pod_events import pod
from pulltrace.demo.registries import Refusal
from tests.demo.conftest import NOON


@pytest.fixture
def kubelet(node):
    return Kubelet(node)


@pytest.fixture
def live(kubelet):
    """Return a function that advances time by some seconds and returns the objects written meanwhile."""

    def live(seconds):
        for _ in range(round(seconds * 10)):
            kubelet.node.advance(0.1)
            kubelet.advance(0.1)
        said = list(kubelet.outbox)
        kubelet.outbox.clear()
        return said

    return live


def reasons(said):
    return [item.object["reason"] for item in said if item.resource == "events" and not item.gone]


def waiting(pod):
    return [status["state"].get("waiting", {}).get("reason") for status in pod["status"]["containerStatuses"]]


def test_a_pod_goes_from_pulling_to_pulled_to_running(kubelet, live, push):
    web = pod("web", "n1", {"app": push("app:1", ("app", 4))[0]}, at=NOON)
    kubelet.add(web)
    assert reasons(live(0.2)) == ["Pulling"]
    assert waiting(web) == ["ContainerCreating"]
    assert reasons(live(10)) == ["Pulled"]
    assert web["status"]["phase"] == "Running"


def test_an_init_container_runs_first(kubelet, live, push):
    images = push("init:1", ("init", 2))[0], push("app:1", ("app", 2))[0]
    kubelet.add(pod("web", "n1", {"app": images[1]}, init={"prepare": images[0]}, at=NOON))
    said = [item.object for item in live(20) if item.resource == "events"]
    assert [(item["reason"], item["involvedObject"]["fieldPath"]) for item in said] == [
        ("Pulling", "spec.initContainers{prepare}"),
        ("Pulled", "spec.initContainers{prepare}"),
        ("Pulling", "spec.containers{app}"),
        ("Pulled", "spec.containers{app}"),
    ]


def test_a_present_image_is_pulled_only_with_the_policy_always(kubelet, live, push, node):
    ref, _ = push("app:1", ("app", 2))
    kubelet.add(pod("one", "n1", {"app": ref}))
    live(10)
    kubelet.add(pod("two", "n1", {"app": ref}))
    assert reasons(live(2)) == ["Pulled"]
    kubelet.add(pod("three", "n1", {"app": ref}), policy="Always")
    assert reasons(live(5)) == ["Pulling", "Pulled"]


def test_the_pulling_event_precedes_the_turn_of_the_pull(kubelet, live, push, node):
    for number in range(3):
        kubelet.add(pod(f"web{number}", "n1", {"app": push(f"app{number}:1", (f"app{number}", 50))[0]}))
    assert reasons(live(1)) == ["Pulling"] * 3
    assert len(node.pulls) == 1


def test_a_failed_pull_is_retried_after_ten_twenty_forty_seconds(kubelet, live, push, registries):
    ref, _ = push("app:1", ("app", 2))
    registries.refuse(ref, Refusal.RATE_LIMITED)
    web = pod("web", "n1", {"app": ref})
    kubelet.add(web)
    times = [kubelet.node.now for _ in range(900) if "Pulling" in reasons(live(0.1))]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert [round(gap / 10) * 10 for gap in gaps] == [10, 20, 40]
    registries.refuse(ref, None)
    live(90)
    assert web["status"]["phase"] == "Running"


def test_a_failure_is_reported_with_its_reason_and_then_as_back_off(kubelet, live, registries):
    web = pod("web", "n1", {"app": "registry.test/nothing:1"})
    kubelet.add(web)
    assert reasons(live(1)) == ["Pulling", "Failed"]
    assert waiting(web) == ["ErrImagePull"]
    assert reasons(live(3)) == ["BackOff"]
    assert waiting(web) == ["ImagePullBackOff"]
    message = web["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
    assert message.endswith("registry.test/nothing:1: not found")


@pytest.mark.parametrize(
    ("image", "policy", "reason"),
    [
        pytest.param("registry.test/No:1", "IfNotPresent", "InvalidImageName", id="no reference"),
        pytest.param("registry.test/app:1", "Never", "ErrImageNeverPull", id="never pulled"),
    ],
)
def test_an_image_that_cannot_be_pulled_has_no_lease_and_no_back_off(kubelet, live, image, policy, reason):
    web = pod("web", "n1", {"app": image})
    kubelet.add(web, policy=policy)
    assert "BackOff" not in reasons(live(30))
    assert waiting(web) == [reason]
    assert not kubelet.node.store.leases


def test_a_deleted_pod_takes_its_pull_and_its_events_along(kubelet, live, push, node):
    kubelet.add(pod("web", "n1", {"app": push("app:1", ("app", 90))[0]}))
    live(2)
    kubelet.remove("web")
    kubelet.remove("web")
    said = live(1)
    assert [(item.resource, item.gone) for item in said] == [("events", True), ("pods", True)]
    assert not node.store.leases
    assert not node.pulls


def test_a_queued_pull_ends_when_its_pod_is_deleted(kubelet, live, push):
    for name in ("one", "two", "three"):
        kubelet.add(pod(name, "n1", {"app": push(f"{name}:1", (name, 30))[0]}))
    live(1)
    kubelet.remove("two")
    kubelet.remove("one")
    live(1)
    assert [str(pull.reference) for pull in kubelet.node.pulls] == ["registry.test/three:1"]


def test_garbage_collection_removes_only_unused_images(kubelet, live, push, node):
    ref, _ = push("app:1", ("app", 2))
    kubelet.add(pod("web", "n1", {"app": ref}))
    live(10)
    kubelet.tidy(ref)
    assert ref in node.store.records
    kubelet.remove("web")
    kubelet.tidy(ref)
    assert node.store.records == {}
