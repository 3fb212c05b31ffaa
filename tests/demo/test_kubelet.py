"""Stories of one kubelet: what it says to the API server while its containerd pulls."""

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
    """A factory: let so many seconds pass, and answer what was said meanwhile."""

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


def test_a_pod_whose_image_comes_is_pulling_pulled_running(kubelet, live, push):
    web = pod("web", "n1", {"app": push("app:1", ("app", 4))[0]}, at=NOON)
    kubelet.add(web)
    assert reasons(live(0.2)) == ["Pulling"]
    assert waiting(web) == ["ContainerCreating"]
    assert reasons(live(10)) == ["Pulled"]
    assert web["status"]["phase"] == "Running"


def test_an_init_container_goes_first(kubelet, live, push):
    images = push("init:1", ("init", 2))[0], push("app:1", ("app", 2))[0]
    kubelet.add(pod("web", "n1", {"app": images[1]}, init={"prepare": images[0]}, at=NOON))
    said = [item.object for item in live(20) if item.resource == "events"]
    assert [(item["reason"], item["involvedObject"]["fieldPath"]) for item in said] == [
        ("Pulling", "spec.initContainers{prepare}"),
        ("Pulled", "spec.initContainers{prepare}"),
        ("Pulling", "spec.containers{app}"),
        ("Pulled", "spec.containers{app}"),
    ]


def test_an_image_that_is_there_is_not_pulled_unless_always(kubelet, live, push, node):
    ref, _ = push("app:1", ("app", 2))
    kubelet.add(pod("one", "n1", {"app": ref}))
    live(10)
    kubelet.add(pod("two", "n1", {"app": ref}))
    assert reasons(live(2)) == ["Pulled"]
    kubelet.add(pod("three", "n1", {"app": ref}), policy="Always")
    assert reasons(live(5)) == ["Pulling", "Pulled"]


def test_pulling_is_said_before_the_pulls_turn_comes(kubelet, live, push, node):
    for number in range(3):
        kubelet.add(pod(f"web{number}", "n1", {"app": push(f"app{number}:1", (f"app{number}", 50))[0]}))
    assert reasons(live(1)) == ["Pulling"] * 3
    assert len(node.pulls) == 1


def test_a_failed_pull_is_tried_again_after_ten_twenty_forty_seconds(kubelet, live, push, registries):
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


def test_a_failure_says_why_and_then_that_it_waits(kubelet, live, registries):
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
def test_what_cannot_be_pulled_has_no_lease_and_never_backs_off(kubelet, live, image, policy, reason):
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


def test_a_pull_that_was_waiting_gives_way_when_its_pod_goes(kubelet, live, push):
    for name in ("one", "two", "three"):
        kubelet.add(pod(name, "n1", {"app": push(f"{name}:1", (name, 30))[0]}))
    live(1)
    kubelet.remove("two")
    kubelet.remove("one")
    live(1)
    assert [str(pull.reference) for pull in kubelet.node.pulls] == ["registry.test/three:1"]


def test_only_unused_images_are_tidied_away(kubelet, live, push, node):
    ref, _ = push("app:1", ("app", 2))
    kubelet.add(pod("web", "n1", {"app": ref}))
    live(10)
    kubelet.tidy(ref)
    assert ref in node.store.records
    kubelet.remove("web")
    kubelet.tidy(ref)
    assert node.store.records == {}
