"""Tests for the attempts and names of arrivals, and for when arrivals are removed. The tests set the image demands
directly, without a kubelet.
"""

from pulltrace.server.kubernetes.attempts import Failure
from pulltrace.server.kubernetes.demand import ImageDemand, WaitingPod
from pulltrace.server.kubernetes.errors import Retry
from pulltrace.server.models import EventType, PodCorrelation
from pulltrace.wire import UNKNOWN_IMAGE, ErrorReason, PullPhase
from tests.server.build import MIB, NOW, SimulatedHub, layer, pull

NGINX = "docker.io/library/nginx"
POD = PodCorrelation(namespace="shop", pod_name="web-1", container="web", image="nginx:1")


class Kubelet:
    """The image demands of a single node's kubelet, set directly by each test."""

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
    return Failure(ErrorReason.NOT_FOUND, "manifest unknown", attempt, NOW + at, Retry(NOW + at + 12, NOW + at + 10))


def test_a_retry_is_the_next_attempt_of_the_same_arrival_even_without_kubernetes() -> None:
    sim = SimulatedHub()
    sim.report(pull("one", layer("a", MIB), manifest_digest="sha256:m"), at=1)
    sim.report(pull("one", layer("a", MIB), status=PullPhase.FAILED, ended_at=NOW + 2), at=2)
    arrival = sim.one.id
    sim.report(pull("two", layer("a", 2 * MIB), at=NOW + 12, manifest_digest="sha256:m"), at=13)
    assert (sim.one.id, sim.one.attempt, sim.one.status) == (arrival, 2, PullPhase.DOWNLOADING)
    sim.report(pull("two", layer("a", 9), at=NOW + 12, status=PullPhase.COMPLETED, ended_at=NOW + 14), at=14)
    sim.report(pull("three", layer("a"), at=NOW + 20), at=21)
    assert [status.attempt for status in sim.shown] == [2, 1], "a success ends the arrival"


def test_without_kubernetes_a_different_manifest_counts_as_a_different_image() -> None:
    sim = SimulatedHub()
    sim.report(pull("one", layer("a"), manifest_digest="sha256:m", status=PullPhase.FAILED, ended_at=NOW + 1), at=2)
    sim.report(pull("two", layer("b"), manifest_digest="sha256:n", at=NOW + 12), at=13)
    assert [status.attempt for status in sim.shown] == [1, 1]


def test_the_id_of_an_arrival_stays_the_same_while_its_name_becomes_more_precise() -> None:
    sim = SimulatedHub()
    nothing = {"image_ref": UNKNOWN_IMAGE, "registry": None, "repository": None, "total_known": False}
    sim.report(pull("l", status=PullPhase.RESOLVING, **nothing), at=1)
    first = sim.one
    sim.report(pull("l", layer("a")), at=2)
    second = sim.one
    sim.report(pull("l", layer("a"), status=PullPhase.COMPLETED, ended_at=NOW + 3, image_ref=f"{NGINX}:1.27"), at=3)
    assert [first.image_ref, second.image_ref, sim.one.image_ref] == [UNKNOWN_IMAGE, NGINX, f"{NGINX}:1.27"]
    assert len({first.id, second.id, sim.one.id}) == 1


def test_an_image_that_is_first_queued_and_then_pulled_counts_as_one_arrival() -> None:
    kubelet = Kubelet()
    sim = SimulatedHub(cluster=kubelet)
    kubelet.now = [demand()]
    sim.at(1)
    queued = sim.one
    assert (queued.status, queued.image_ref, queued.pods) == (PullPhase.QUEUED, f"{NGINX}:1", [POD])
    sim.report(pull("l", layer("a", MIB), at=NOW + 2), at=3)
    assert (sim.one.id, sim.one.status, sim.one.image_ref) == (
        queued.id,
        PullPhase.DOWNLOADING,
        f"{NGINX}:1",
    )
    assert (sim.one.ref_guessed, sim.one.pods) == (False, [POD])
    kubelet.now = [demand(pulling=False, pulled_at=NOW + 4)]
    done = pull("l", layer("a", MIB), at=NOW + 2, status=PullPhase.COMPLETED, ended_at=NOW + 4, image_ref=f"{NGINX}:1")
    sim.report(done, at=4)
    kubelet.now = []
    sim.at(200)
    assert (sim.one.id, sim.one.status, sim.one.waited) == (queued.id, PullPhase.COMPLETED, [POD])
    assert sim.one.pods is None


def test_a_queued_row_is_removed_when_its_pod_stops_waiting() -> None:
    kubelet = Kubelet()
    sim = SimulatedHub(cluster=kubelet)
    kubelet.now = [demand()]
    sim.at(1)
    kubelet.now = []
    sim.at(2)
    assert sim.shown == []
    assert sim.hub.feed.frame.entries[0].type is EventType.REMOVED


def test_two_tags_of_the_same_repository_are_matched_in_request_order_until_containerd_reports_the_names() -> None:
    kubelet = Kubelet()
    sim = SimulatedHub(cluster=kubelet)
    kubelet.now = [demand("1", 0), demand("2", 1)]
    one, two = pull("l1", layer("a", MIB), at=NOW + 2), pull("l2", layer("b", MIB), at=NOW + 3)
    sim.report(one, two, at=4)
    assert [status.image_ref for status in sim.shown] == [f"{NGINX}:1", f"{NGINX}:2"]
    assert sim.shown[0].ref_guessed
    reported = pull("l1", layer("a"), at=NOW + 2, status=PullPhase.COMPLETED, ended_at=NOW + 5, image_ref=f"{NGINX}:2")
    sim.report(reported, two, at=5)
    names = {status.image_ref: (status.status, status.ref_guessed) for status in sim.shown}
    assert names[f"{NGINX}:2"] == (PullPhase.COMPLETED, False)
    assert names[f"{NGINX}:1"][0] is PullPhase.DOWNLOADING
    assert len(sim.shown) == 2


def test_an_image_that_cannot_be_resolved_fails_and_is_retried_in_the_same_row() -> None:
    kubelet = Kubelet()
    sim = SimulatedHub(cluster=kubelet)
    sim.report(at=0)
    kubelet.now = [demand(pulling=False, failure=failure(2))]
    sim.at(3)
    first = sim.one
    assert (first.status, first.error_reason, first.error) == (
        PullPhase.FAILED,
        ErrorReason.NOT_FOUND,
        "manifest unknown",
    )
    assert first.next_retry_at is not None
    kubelet.now = [demand(since=12, failure=failure(2), attempt=2)]
    sim.at(13)
    assert (sim.one.id, sim.one.status, sim.one.attempt) == (first.id, PullPhase.QUEUED, 2)
    assert sim.one.error is None
    sim.report(pull("l", layer("a", MIB), at=NOW + 13), at=14)
    assert (sim.one.id, sim.one.status, sim.one.attempt) == (first.id, PullPhase.DOWNLOADING, 2)


def test_a_failed_pull_gets_the_reason_that_the_kubelet_reports_later() -> None:
    kubelet = Kubelet()
    sim = SimulatedHub(cluster=kubelet)
    kubelet.now = [demand()]
    sim.report(pull("l", layer("a", MIB), at=NOW + 1), at=2)
    sim.report(pull("l", layer("a", MIB), at=NOW + 1, status=PullPhase.FAILED, ended_at=NOW + 3), at=3)
    assert sim.one.error_reason is ErrorReason.UNKNOWN
    kubelet.now = [demand(pulling=False, failure=failure(3))]
    sim.at(4)
    assert (sim.one.error_reason, sim.one.error) == (ErrorReason.NOT_FOUND, "manifest unknown")
    assert sim.metric("pull_errors_total", registry="docker.io", reason="not_found") == 1
    sim.at(20)
    assert sim.metric("pull_errors_total", registry="docker.io", reason="unknown") == 0


def test_a_failure_is_eventually_counted_as_unknown_if_its_cause_stays_unknown() -> None:
    sim = SimulatedHub(cluster=Kubelet())
    sim.report(pull("l", layer("a", MIB), at=NOW + 1, status=PullPhase.FAILED, ended_at=NOW + 3), at=3)
    assert sim.metric("pull_errors_total", registry="docker.io", reason="unknown") == 0
    sim.at(10)
    assert sim.metric("pull_errors_total", registry="docker.io", reason="unknown") == 1
