"""Attempts, names and removals of arrivals. Demands, set by the test, take the place of Kubernetes here."""

from pulltrace.server.kubernetes.attempts import Failure
from pulltrace.server.kubernetes.demand import ImageDemand, WaitingPod
from pulltrace.wire import UNKNOWN_IMAGE, ErrorReason, EventType, PodCorrelation, PullPhase
from tests.server.build import MIB, NOW, World, layer, pull

NGINX = "docker.io/library/nginx"
POD = PodCorrelation(namespace="shop", pod_name="web-1", container="web", image="nginx:1")


class Kubelet:
    """The image demands of one node's kubelet, as set by the test."""

    def __init__(self) -> None:
        self.now: list[ImageDemand] = []

    dropped = 0

    def waiting(self) -> list[WaitingPod]:
        return []

    def demands(self, node: str) -> list[ImageDemand]:
        return self.now if node == "node-1" else []

    def expire(self, now: float) -> set[str]:
        return {"node-1"}


def demand(tag: str = "1", since: float = 0.0, image: str = NGINX, **more) -> ImageDemand:
    facts = {"pulling": True, "failure": None, "pulled_at": None, "pods": (POD,)} | more
    return ImageDemand(node="node-1", image=f"{image}:{tag}", since=NOW + since, **facts)


def failure(at: float, attempt: int = 1) -> Failure:
    return Failure(ErrorReason.NOT_FOUND, "manifest unknown", attempt, NOW + at, NOW + at + 10)


def test_without_kubernetes_a_retry_is_the_next_attempt_of_the_same_arrival() -> None:
    world = World()
    world.say(pull("one", layer("a", MIB), manifest_digest="sha256:m"), at=1)
    world.say(pull("one", layer("a", MIB), status=PullPhase.FAILED, ended_at=NOW + 2), at=2)
    arrival = world.one.id
    world.say(pull("two", layer("a", 2 * MIB), at=NOW + 12, manifest_digest="sha256:m"), at=13)
    assert (world.one.id, world.one.attempt, world.one.status) == (arrival, 2, PullPhase.DOWNLOADING)
    world.say(pull("two", layer("a", 9), at=NOW + 12, status=PullPhase.COMPLETED, ended_at=NOW + 14), at=14)
    world.say(pull("three", layer("a"), at=NOW + 20), at=21)
    assert [status.attempt for status in world.shown] == [2, 1], "success ends the arrival"


def test_without_kubernetes_another_manifest_is_another_image() -> None:
    world = World()
    world.say(pull("one", layer("a"), manifest_digest="sha256:m", status=PullPhase.FAILED, ended_at=NOW + 1), at=2)
    world.say(pull("two", layer("b"), manifest_digest="sha256:n", at=NOW + 12), at=13)
    assert [status.attempt for status in world.shown] == [1, 1]


def test_the_name_becomes_more_precise_and_the_id_remains() -> None:
    world = World()
    nothing = {"image_ref": UNKNOWN_IMAGE, "registry": None, "repository": None, "total_known": False}
    world.say(pull("l", status=PullPhase.RESOLVING, **nothing), at=1)
    first = world.one
    world.say(pull("l", layer("a")), at=2)
    second = world.one
    world.say(pull("l", layer("a"), status=PullPhase.COMPLETED, ended_at=NOW + 3, image_ref=f"{NGINX}:1.27"), at=3)
    assert [first.image_ref, second.image_ref, world.one.image_ref] == [UNKNOWN_IMAGE, NGINX, f"{NGINX}:1.27"]
    assert len({first.id, second.id, world.one.id}) == 1


def test_an_image_that_is_queued_then_pulled_then_completed_is_one_arrival() -> None:
    kubelet = Kubelet()
    world = World(cluster=kubelet)
    kubelet.now = [demand()]
    world.at(1)
    queued = world.one
    assert (queued.status, queued.image_ref, queued.pods) == (PullPhase.QUEUED, f"{NGINX}:1", [POD])
    world.say(pull("l", layer("a", MIB), at=NOW + 2), at=3)
    assert (world.one.id, world.one.status, world.one.image_ref) == (queued.id, PullPhase.DOWNLOADING, f"{NGINX}:1")
    assert (world.one.ref_guessed, world.one.pods) == (False, [POD])
    kubelet.now = [demand(pulling=False, pulled_at=NOW + 4)]
    done = pull("l", layer("a", MIB), at=NOW + 2, status=PullPhase.COMPLETED, ended_at=NOW + 4, image_ref=f"{NGINX}:1")
    world.say(done, at=4)
    kubelet.now = []
    world.at(200)
    assert (world.one.id, world.one.status, world.one.waited) == (queued.id, PullPhase.COMPLETED, [POD])
    assert world.one.pods is None


def test_a_pod_that_no_longer_waits_is_removed() -> None:
    kubelet = Kubelet()
    world = World(cluster=kubelet)
    kubelet.now = [demand()]
    world.at(1)
    kubelet.now = []
    world.at(2)
    assert world.shown == []
    assert world.hub.feed.frame.entries[0].type is EventType.REMOVED


def test_two_tags_of_one_repository_are_matched_by_order_and_corrected_by_containerd() -> None:
    kubelet = Kubelet()
    world = World(cluster=kubelet)
    kubelet.now = [demand("1", 0), demand("2", 1)]
    one, two = pull("l1", layer("a", MIB), at=NOW + 2), pull("l2", layer("b", MIB), at=NOW + 3)
    world.say(one, two, at=4)
    assert [status.image_ref for status in world.shown] == [f"{NGINX}:1", f"{NGINX}:2"]
    assert world.shown[0].ref_guessed
    reported = pull("l1", layer("a"), at=NOW + 2, status=PullPhase.COMPLETED, ended_at=NOW + 5, image_ref=f"{NGINX}:2")
    world.say(reported, two, at=5)
    names = {status.image_ref: (status.status, status.ref_guessed) for status in world.shown}
    assert names[f"{NGINX}:2"] == (PullPhase.COMPLETED, False)
    assert names[f"{NGINX}:1"][0] is PullPhase.DOWNLOADING
    assert len(world.shown) == 2


def test_an_image_that_cannot_be_resolved_fails_and_is_retried_in_one_arrival() -> None:
    kubelet = Kubelet()
    world = World(cluster=kubelet)
    world.say(at=0)
    kubelet.now = [demand(pulling=False, failure=failure(2))]
    world.at(3)
    first = world.one
    assert (first.status, first.error_reason, first.error) == (
        PullPhase.FAILED,
        ErrorReason.NOT_FOUND,
        "manifest unknown",
    )
    assert first.next_retry_at is not None
    kubelet.now = [demand(since=12, failure=failure(2), attempt=2)]
    world.at(13)
    assert (world.one.id, world.one.status, world.one.attempt) == (first.id, PullPhase.QUEUED, 2)
    assert world.one.error is None
    world.say(pull("l", layer("a", MIB), at=NOW + 13), at=14)
    assert (world.one.id, world.one.status, world.one.attempt) == (first.id, PullPhase.DOWNLOADING, 2)


def test_the_kubelets_later_reason_explains_why_a_pull_failed() -> None:
    kubelet = Kubelet()
    world = World(cluster=kubelet)
    kubelet.now = [demand()]
    world.say(pull("l", layer("a", MIB), at=NOW + 1), at=2)
    world.say(pull("l", layer("a", MIB), at=NOW + 1, status=PullPhase.FAILED, ended_at=NOW + 3), at=3)
    assert world.one.error_reason is ErrorReason.UNKNOWN
    kubelet.now = [demand(pulling=False, failure=failure(3))]
    world.at(4)
    assert (world.one.error_reason, world.one.error) == (ErrorReason.NOT_FOUND, "manifest unknown")
    assert world.metric("pull_errors_total", registry="docker.io", reason="not_found") == 1
    world.at(20)
    assert world.metric("pull_errors_total", registry="docker.io", reason="unknown") == 0


def test_a_failure_without_a_known_cause_is_counted_as_unknown_after_a_while() -> None:
    world = World(cluster=Kubelet())
    world.say(pull("l", layer("a", MIB), at=NOW + 1, status=PullPhase.FAILED, ended_at=NOW + 3), at=3)
    assert world.metric("pull_errors_total", registry="docker.io", reason="unknown") == 0
    world.at(10)
    assert world.metric("pull_errors_total", registry="docker.io", reason="unknown") == 1
