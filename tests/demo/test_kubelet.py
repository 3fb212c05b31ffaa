"""Tests for the events and statuses that the simulated kubelet writes while its containerd pulls images."""

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
    """Return a function that advances the time by a number of seconds and returns the kubelet's reports from that
    period.
    """

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


def test_an_image_that_is_already_present_is_pulled_only_if_the_pull_policy_is_always(kubelet, live, push, node):
    ref, _ = push("app:1", ("app", 2))
    kubelet.add(pod("one", "n1", {"app": ref}))
    live(10)
    kubelet.add(pod("two", "n1", {"app": ref}))
    assert reasons(live(2)) == ["Pulled"]
    kubelet.add(pod("three", "n1", {"app": ref}), policy="Always")
    assert reasons(live(5)) == ["Pulling", "Pulled"]


def test_the_pulling_event_is_written_before_the_pull_starts(kubelet, live, push, node):
    for number in range(3):
        kubelet.add(pod(f"web{number}", "n1", {"app": push(f"app{number}:1", (f"app{number}", 50))[0]}))
    assert reasons(live(1)) == ["Pulling"] * 3
    assert len(node.pulls) == 1


def test_a_failed_pull_is_retried_after_ten_twenty_and_forty_seconds(kubelet, live, push, registries):
    ref, _ = push("app:1", ("app", 2))
    registries.refuse(ref, Refusal.RATE_LIMITED)
    web = pod("web", "n1", {"app": ref})
    kubelet.add(web)
    times = [kubelet.node.now for _ in range(1200) if "Pulling" in reasons(live(0.1))]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    # After the back-off, the kubelet waits for its next sync, so a retry may begin up to 15 s late.
    assert [delay <= gap <= delay + 16 for gap, delay in zip(gaps, (10, 20, 40), strict=True)] == [True] * 3, gaps
    registries.refuse(ref, None)
    live(100)
    assert web["status"]["phase"] == "Running"


def test_the_status_shows_a_failure_at_the_next_sync_and_the_back_off_at_the_sync_after_that(kubelet, live, registries):
    kubelet.add(pod("web", "n1", {"app": "registry.test/nothing:1"}))
    said = live(1)
    assert reasons(said) == ["Pulling", "Failed", "Failed"]
    assert [waiting(item.object) for item in said if item.resource == "pods"] == [["ContainerCreating"]] * 2
    # The next sync is early, because the kubelet notices that the sandbox has started.
    said = live(1)
    assert reasons(said) == ["BackOff", "Failed"]
    assert [waiting(item.object) for item in said if item.resource == "pods"] == [["ErrImagePull"]]
    assert live(8) == []
    [*_, written] = [item.object for item in live(7) if item.resource == "pods"]
    assert waiting(written) == ["ImagePullBackOff"]
    message = written["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
    assert message.endswith("registry.test/nothing:1: not found")


def test_the_other_containers_start_even_if_one_image_does_not_exist(kubelet, live, push):
    web = pod("web", "n1", {"bad": "registry.test/nothing:1", "good": push("app:1", ("app", 2))[0]})
    kubelet.add(web)
    live(5)
    assert [next(iter(status["state"])) for status in web["status"]["containerStatuses"]] == ["waiting", "running"]


@pytest.mark.parametrize(
    ("image", "policy", "reason"),
    [
        pytest.param("registry.test/No:1", "IfNotPresent", "InvalidImageName", id="an invalid reference"),
        pytest.param("registry.test/app:1", "Never", "ErrImageNeverPull", id="the pull policy Never"),
    ],
)
def test_an_image_that_the_kubelet_refuses_to_pull_has_no_lease(kubelet, live, image, policy, reason):
    web = pod("web", "n1", {"app": image})
    kubelet.add(web, policy=policy)
    assert "BackOff" not in reasons(live(30))
    assert waiting(web) == [reason]
    assert not kubelet.node.store.leases


def test_the_pull_of_a_deleted_pod_continues_and_its_result_is_reported(kubelet, live, push, node):
    ref, _ = push("app:1", ("app", 90))
    kubelet.add(pod("web", "n1", {"app": ref}))
    live(2)
    kubelet.remove("web")
    kubelet.remove("web")
    assert [(item.resource, item.gone) for item in live(1)] == [("pods", True)]
    said = live(20)
    assert reasons(said) == ["Pulled"]
    assert [(item.resource, item.gone) for item in said] == [("events", False), ("events", True), ("events", True)]
    assert ref in node.store.records


def test_a_deleted_pod_that_is_not_waiting_for_a_pull_disappears_with_its_events(kubelet, live):
    kubelet.add(pod("web", "n1", {"app": "registry.test/nothing:1"}))
    live(3)
    kubelet.remove("web")
    gone = [item.resource for item in live(60) if item.gone]
    assert gone == ["pods"] + ["events"] * 5


def test_the_queued_pull_of_a_deleted_pod_keeps_its_place_in_the_queue(kubelet, live, push):
    for name in ("one", "two", "three"):
        kubelet.add(pod(name, "n1", {"app": push(f"{name}:1", (name, 30))[0]}))
    live(1)
    kubelet.remove("two")
    kubelet.remove("one")
    seen = []
    for _ in range(200):
        live(0.1)
        seen += [str(pull.reference) for pull in kubelet.node.pulls]
    assert list(dict.fromkeys(seen)) == [f"registry.test/{name}:1" for name in ("one", "two", "three")]


def test_a_kubelet_cancels_its_pulls_when_it_stops_and_pulls_again_when_it_starts(kubelet, live, push, node):
    web = pod("web", "n1", {"app": push("app:1", ("app", 30))[0]})
    kubelet.add(web)
    live(2)
    [pull] = node.pulls
    kubelet.stop()
    kubelet.add(pod("later", "n1", {"app": push("later:1", ("later", 1))[0]}))
    assert reasons(live(5)) == []
    assert pull.error.endswith("context canceled")
    assert not node.store.leases
    kubelet.start()
    assert reasons(live(20)) == ["Pulling", "Pulling", "Pulled", "Pulled"]
    assert web["status"]["phase"] == "Running"


def test_garbage_collection_removes_only_unused_images(kubelet, live, push, node):
    ref, _ = push("app:1", ("app", 2))
    kubelet.add(pod("web", "n1", {"app": ref}))
    live(10)
    kubelet.tidy(ref)
    assert ref in node.store.records
    kubelet.remove("web")
    kubelet.tidy(ref)
    assert node.store.records == {}
