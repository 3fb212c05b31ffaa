"""Tests for which kinds of containers and volumes can wait for an image, and with which waiting reasons."""

import pytest

from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.kubernetes.cluster import Cluster
from pulltrace.wire import ErrorReason
from tests.server.kubernetes.changes import NGINX, NOT_FOUND, T, event, only, seen, web


@pytest.fixture
def cluster():
    return Cluster()


def test_init_containers_are_listed_first_and_the_app_container_waits_for_its_own_image(cluster):
    arrival = PodEvents(pod("web-1", "n1", {"app": "nginx"}, init={"migrate": "migrate:3"}, at=T))
    cluster.apply(seen(arrival), T)
    (waiting,) = cluster.waiting()
    assert [(item.name, item.kind, item.reason) for item in waiting.containers] == [
        ("migrate", "init", "PodInitializing"),
        ("app", "app", "PodInitializing"),
    ]
    cluster.apply(event(arrival.pulling("migrate", T + 1)), T + 1)
    assert [(demand.image, demand.pulling) for demand in cluster.demands("n1")] == [
        ("docker.io/library/migrate:3", True),
        ("docker.io/library/nginx:latest", False),
    ]


def test_an_image_volume_waits_like_a_container_and_fails_independently_of_containers(cluster):
    arrival = PodEvents(pod("web-1", "n1", {"app": "web:1"}, volumes={"model": "nginx:1.27"}, at=T))

    def waiting():
        (it,) = cluster.waiting()
        return [(item.name, item.kind, item.reason) for item in it.containers]

    cluster.apply(seen(arrival), T)
    assert waiting() == [("model", "volume", ""), ("app", "app", "ContainerCreating")]
    cluster.apply(event(arrival.pulling("model", T + 1)), T + 1)
    asked = cluster.demands("n1")[0]
    assert (asked.image, asked.pulling, asked.pods[0].container) == (NGINX, True, "model")
    failed = event(arrival.failed("model", T + 2, NOT_FOUND))
    for happens in ("failed", "backing off"):
        cluster.apply(seen(arrival), T + 3)
        assert [reason for _, _, reason in waiting()][1] == "", "the app's own image was not requested"
        asked, other = cluster.demands("n1")
        assert (asked.image, asked.failure.reason, other.requested) == (NGINX, ErrorReason.NOT_FOUND, False), happens
        arrival.backing_off("model", T + 4)
    cluster.apply(failed, T + 4)
    assert cluster.demands("n1")[0].failure.at == T + 2
    cluster.apply(event(arrival.pulling("model", T + 12)), T + 12)
    arrival.started("app", T + 20)
    cluster.apply(seen(arrival), T + 20)
    assert only(cluster).pulled_at == T + 20, "the container that mounts the image has started"
    assert not list(cluster.waiting())


def test_a_volume_and_a_container_can_have_the_same_name(cluster):
    arrival = PodEvents(pod("web-1", "n1", {"app": "web:1"}, volumes={"app": "nginx:1.27"}, at=T))
    cluster.apply(event(arrival.pulling("app", T)), T)
    cluster.apply(seen(arrival), T)
    cluster.apply(seen(arrival), T + 1)
    assert [(demand.image, demand.pulling) for demand in cluster.demands("n1")] == [
        (NGINX, True),
        ("docker.io/library/web:1", False),
    ]


def test_a_second_pull_can_fail_even_if_another_container_already_uses_the_image(cluster):
    arrival = PodEvents(pod("web-1", "n1", {"app": "nginx:1.27"}, init={"prepare": "nginx:1.27"}, at=T))
    arrival.started("prepare", T)
    cluster.apply(event(arrival.pulling("app", T + 1)), T + 1)
    cluster.apply(event(arrival.failed("app", T + 2, NOT_FOUND)), T + 2)
    for later in (3, 30):
        cluster.apply(seen(arrival), T + later)
        assert only(cluster).failure.at == T + 2


def test_ephemeral_containers_also_wait_for_their_images(cluster):
    item = pod("web-1", "n1", {"app": "nginx"}, at=T)
    arrival = PodEvents(item)
    arrival.started("app", T)
    item["spec"]["ephemeralContainers"] = [{"name": "debug", "image": "busybox"}]
    item["status"]["ephemeralContainerStatuses"] = [
        {"name": "debug", "imageID": "", "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}
    ]
    cluster.apply(seen(item), T)
    (waiting,) = cluster.waiting()
    assert [(it.name, it.kind) for it in waiting.containers] == [("debug", "ephemeral")]
    assert only(cluster).failure.reason is ErrorReason.NOT_FOUND


@pytest.mark.parametrize(
    ("happens", "reason", "retries"),
    [
        pytest.param("invalid", ErrorReason.INVALID_REFERENCE, False, id="InvalidImageName"),
        pytest.param("never", ErrorReason.NOT_FOUND, False, id="ErrImageNeverPull"),
    ],
)
def test_no_retry_is_shown_for_an_image_that_the_kubelet_will_never_pull(cluster, happens, reason, retries):
    arrival = PodEvents(pod("web-1", "n1", {"app": "Nginx:Bad:Name" if happens == "invalid" else "nginx"}, at=T))
    item = getattr(arrival, happens)("app", T)
    for change in (seen(arrival), event(item)):
        for order in ((change,), (seen(arrival), event(item))):
            fresh = Cluster()
            for one in order:
                fresh.apply(one, T)
            demand = only(fresh)
            assert demand.failure.reason is reason
            assert (demand.failure.retry is not None) is retries


@pytest.mark.parametrize("reason", ["ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed"])
def test_any_other_waiting_reason_for_a_missing_image_is_treated_as_a_failure(cluster, reason):
    arrival = web()
    arrival.pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": reason, "message": "it is so"}}
    cluster.apply(seen(arrival), T)
    assert only(cluster).failure.message == "it is so"
    assert only(cluster).failure.retry.expected_at == T + 12.5


def test_a_late_status_about_a_failed_image_inspection_does_not_end_the_next_pull(cluster):
    """containerd was down during one kubelet sync and was running again by the next sync."""
    arrival = web()
    cluster.apply(seen(arrival), T)
    cluster.apply(event(arrival.pulling("app", T + 10)), T + 10)
    waiting = {"reason": "ImageInspectError", "message": 'Failed to inspect image "": connection refused'}
    arrival.pod["status"]["containerStatuses"][0]["state"] = {"waiting": waiting}
    cluster.apply(seen(arrival), T + 11)
    assert only(cluster).pulling
    assert only(cluster).failure is None
    cluster.apply(event(arrival.pulled("app", T + 15)), T + 15)
    assert (only(cluster).attempt, only(cluster).pulled_at) == (1, T + 15)


def test_containers_that_are_waiting_for_something_else_are_not_listed_as_waiting_for_an_image(cluster):
    arrival = web()
    for reason in ("CreateContainerConfigError", "CrashLoopBackOff", "RunContainerError"):
        arrival.pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": reason}}
        cluster.apply(seen(arrival), T)
        assert not list(cluster.waiting())
