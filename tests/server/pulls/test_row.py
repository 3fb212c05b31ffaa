"""Tests for the rows that clients see (one per image and node), and for their pods, names and published end times."""

import pytest

from pulltrace.wire import ErrorReason, LayerPhase, PullPhase, to_time
from tests.server.build import MIB, NOW, layer, pull
from tests.server.kubernetes.changes import NOT_FOUND, event, seen
from tests.server.pulls.joined import UNSEEN, Joined, web


@pytest.fixture
def sim():
    return Joined()


def test_a_pull_states_when_it_was_queued_and_when_its_last_byte_arrived(sim):
    arrival = web()
    sim.apply(seen(arrival), event(arrival.pulling("app", NOW + 1)), at=1)
    assert sim.one.queued_at is None, "the start of a queued pull is the time of the request"
    failed = {"status": PullPhase.FAILED, "ended_at": NOW + 8}
    sim.report(pull("lease-1", layer("a", MIB), at=NOW + 6), at=7)
    sim.report(pull("lease-1", layer("a", MIB), at=NOW + 6, **failed), at=8)
    sim.apply(event(arrival.failed("app", NOW + 8, NOT_FOUND)), event(arrival.pulling("app", NOW + 18)), at=18)
    sim.report(pull("lease-2", layer("a", 50 * MIB), at=NOW + 20), at=21)
    assert (sim.one.queued_at.timestamp(), sim.one.downloaded_at) == (NOW + 18, None)
    assert sim.one.earlier_attempts[0].queued_at.timestamp() == NOW + 1
    fetched = layer("a", 100 * MIB, state=LayerPhase.EXTRACTED, completed_at=to_time(NOW + 23))
    cached = layer("b", state=LayerPhase.CACHED, cached_bytes=100 * MIB, completed_at=to_time(NOW + 24))
    completed = {"status": PullPhase.COMPLETED, "ended_at": NOW + 29}
    sim.report(pull("lease-2", fetched, cached, at=NOW + 20, **completed), at=29)
    assert sim.one.queued_at.timestamp() == NOW + 18
    assert sim.one.downloaded_at.timestamp() == NOW + 23


def test_a_queued_image_keeps_its_row_and_its_pod_while_it_is_being_pulled(sim):
    arrival = web(owner=("ReplicaSet", "web-5d4f7c9b8d"))
    sim.apply(seen(arrival), event(arrival.pulling("app", NOW + 1)), at=1)
    queued = sim.one
    assert (queued.status, queued.image_ref, queued.error) == (PullPhase.QUEUED, "docker.io/library/nginx:1.27", None)
    assert queued.started_at.timestamp() == NOW + 1
    assert queued.pods[0].owner == "Deployment/web"
    sim.report(pull(at=NOW + 6, status=PullPhase.RESOLVING, **UNSEEN), at=6.2)
    assert (sim.one.id, sim.one.status, sim.one.image_ref) == (
        queued.id,
        PullPhase.RESOLVING,
        "docker.io/library/nginx:1.27",
    )
    assert sim.one.ref_guessed
    sim.report(pull("lease-1", layer("a", 50 * MIB), at=NOW + 6), at=8)
    assert (sim.one.percent, sim.one.ref_guessed) == (50.0, False)
    done = layer("a", 100 * MIB, state=LayerPhase.EXTRACTED)
    full = {"image_ref": "docker.io/library/nginx:1.27", "status": PullPhase.COMPLETED, "ended_at": NOW + 10}
    sim.report(pull("lease-1", done, at=NOW + 6, **full), at=10)
    sim.apply(event(arrival.pulled("app", NOW + 10)), at=11)
    assert (sim.one.id, sim.one.status, sim.one.pods[0].pod_name) == (
        queued.id,
        PullPhase.COMPLETED,
        "web-1",
    )
    assert sim.metric("pull_phase_duration_seconds_sum", phase="queued") == 5.0
    sim.at(200)
    assert sim.one.status is PullPhase.COMPLETED


def test_the_second_of_two_serial_pulls_is_queued(sim):
    first, second = web("a"), web("b", "redis:7")
    sim.apply(seen(first), seen(second), event(first.pulling("app", NOW)), event(second.pulling("app", NOW + 1)), at=1)
    sim.report(pull("lease-1", layer("a", 10 * MIB), at=NOW), at=2)
    assert [(status.image_ref.rpartition("/")[2], status.status) for status in sim.shown] == [
        ("nginx:1.27", PullPhase.DOWNLOADING),
        ("redis:7", PullPhase.QUEUED),
    ]


def test_a_live_pull_keeps_its_name_after_its_pod_is_deleted(sim):
    arrival = web()
    sim.apply(seen(arrival), event(arrival.pulling("app", NOW)), at=0)
    sim.report(pull("lease-1", layer("a", MIB), at=NOW), at=1)
    gone = arrival.pod | {"metadata": arrival.pod["metadata"] | {"deletionTimestamp": "2023-11-14T22:13:20Z"}}
    sim.apply(seen(gone), at=2)
    sim.report(pull("lease-1", layer("a", 2 * MIB), at=NOW), at=3)
    assert (sim.one.image_ref, sim.one.waited[0].pod_name) == ("docker.io/library/nginx:1.27", "web-1")
    assert sim.one.pods is None, "no pod is waiting any more"
    ended = {"status": PullPhase.FAILED, "ended_at": NOW + 4, "error_reason": ErrorReason.UNKNOWN}
    sim.report(pull("lease-1", layer("a", 2 * MIB), at=NOW, **ended), at=4)
    assert sim.one.image_ref == "docker.io/library/nginx:1.27"


def test_a_failed_pull_keeps_its_name_after_its_pod_is_deleted(sim):
    arrival = web()
    sim.apply(seen(arrival), event(arrival.pulling("app", NOW)), at=0)
    ended = {"status": PullPhase.FAILED, "ended_at": NOW + 3, "error_reason": ErrorReason.UNKNOWN}
    sim.report(pull("lease-1", layer("a", MIB), at=NOW, **ended), at=3)
    sim.apply(event(arrival.failed("app", NOW + 3, NOT_FOUND)), at=3)
    before = sim.one
    assert before.image_ref == "docker.io/library/nginx:1.27"
    gone = arrival.pod | {"metadata": arrival.pod["metadata"] | {"deletionTimestamp": "2023-11-14T22:13:20Z"}}
    sim.apply(seen(gone), at=5)
    sim.at(60)
    assert (sim.one.id, sim.one.image_ref, sim.one.error) == (before.id, before.image_ref, NOT_FOUND)


def test_a_failure_is_counted_as_one_failed_pull_even_if_it_affects_several_pods(sim):
    arrivals = [web(f"web-{number}") for number in range(3)]
    for number, arrival in enumerate(arrivals):
        sim.apply(seen(arrival), event(arrival.pulling("app", NOW + number)), at=number)
    for number, arrival in enumerate(arrivals):
        sim.apply(event(arrival.failed("app", NOW + 5 + number, NOT_FOUND)), seen(arrival), at=5 + number)
    assert (sim.one.status, len(sim.one.pods)) == (PullPhase.FAILED, 3)
    assert sim.one.next_retry_at.timestamp() == NOW + 17.5
    assert sim.metric("pull_errors_total", registry="docker.io", reason="not_found") == 1


def test_a_container_has_no_row_before_the_kubelet_sends_an_event_about_it(sim):
    sim.apply(seen(web()), at=0)
    assert not sim.shown
    assert not sim.waiting


def test_a_deleted_pod_is_no_longer_queued(sim):
    arrival = web()
    sim.apply(seen(arrival), event(arrival.pulling("app", NOW)), at=0)
    assert sim.one.status is PullPhase.QUEUED
    deleted = arrival.pod | {"metadata": arrival.pod["metadata"] | {"deletionTimestamp": "2023-11-14T22:13:20Z"}}
    sim.apply(seen(deleted), at=1)
    assert not sim.shown


def test_a_pull_with_an_invalid_image_name_is_shown_as_failed(sim):
    arrival = web(image="Registry.io/UPPER:1")
    sim.apply(seen(arrival), event(arrival.invalid("app", NOW)), seen(arrival), at=0)
    assert (sim.one.status, sim.one.error_reason) == (PullPhase.FAILED, ErrorReason.INVALID_REFERENCE)
    assert sim.one.image_ref == "Registry.io/UPPER:1"
    assert sim.one.next_retry_at is None


@pytest.mark.parametrize(
    ("precise", "published"),
    [
        (4.98, 5.0),  # the event was logged in the next second
        (5.4, 5.4),
        (6.01, 5.999),  # the clocks differ slightly
        (2.5, 2.5),  # the kubelet was so busy that its event was late
    ],
)
@pytest.mark.parametrize("failed", [False, True])
def test_the_precise_end_time_is_in_the_same_second_as_the_first_published_end_time(sim, precise, published, failed):
    arrival = web()
    sim.apply(seen(arrival), event(arrival.pulling("app", NOW)), at=1)
    sim.apply(event(arrival.failed("app", NOW + 5, NOT_FOUND) if failed else arrival.pulled("app", NOW + 5)), at=5)
    first = sim.one
    assert first.completed_at.timestamp() == NOW + 5
    phase = PullPhase.FAILED if failed else PullPhase.COMPLETED
    ended = {"image_ref": "docker.io/library/nginx:1.27", "status": phase, "ended_at": NOW + precise}
    for at in (7, 8):
        sim.report(pull("lease-1", layer("a", 100 * MIB), at=NOW + 0.5, **ended), at=at)
        assert (sim.one.id, sim.one.attempt, sim.one.status) == (first.id, 1, phase)
        assert sim.one.completed_at.timestamp() == pytest.approx(NOW + published)


def test_a_second_pull_of_the_same_image_gets_its_own_row(sim):
    arrival, again = web(), web("web-2")
    sim.apply(seen(arrival), event(arrival.pulling("app", NOW)), at=0)
    sim.apply(event(arrival.pulled("app", NOW + 1)), at=1)
    first = sim.one
    sim.apply(seen(again), event(again.pulling("app", NOW + 10)), at=10)
    kept, second = sim.shown
    assert kept == first
    assert (first.status, second.status) == (PullPhase.COMPLETED, PullPhase.QUEUED)
    assert first.id != second.id


DIGESTS = {name: "sha256:" + number * 64 for name, number in (("nginx", "1"), ("redis", "2"))}


def cached(lease: str, name: str, at: float, *, known: bool = False, **more):
    """Return a pull of an image that is already on the node. The repository is not known at first."""
    repository = {"repository": f"library/{name}", "image_ref": f"docker.io/library/{name}"} if known else UNSEEN
    part = layer(name, state=LayerPhase.CACHED, cached_bytes=100 * MIB)
    more = {"status": PullPhase.EXTRACTING, "manifest_digest": DIGESTS[name]} | more
    return pull(lease, part, at=NOW + at, **(repository | more))


def completed(lease: str, name: str, at: float, ended_at: float):
    done = {"status": PullPhase.COMPLETED, "ended_at": NOW + ended_at, "image_ref": f"docker.io/library/{name}:1"}
    return cached(lease, name, at, known=True, **done)


def test_cached_pulls_of_two_images_for_many_pods_have_one_row_per_image_from_the_first_report_onwards():
    """On a busy node, the repositories of these pulls are not yet known in the first report that contains them."""
    sim, names = Joined(), ("nginx", "redis")
    sim.report(*(completed(f"first-{name}", name, 0, 1) for name in names), at=1)
    pods = {f"{name}-{number}": web(f"{name}-{number}", f"{name}:1") for number in range(4) for name in names}
    for number, waiting in enumerate(pods.values()):
        sim.apply(seen(waiting), event(waiting.pulling("app", NOW + 20 + number // 4)), at=22)
    leases = {lease: (lease.partition("-")[0], 20.1 + number / 4) for number, lease in enumerate(pods)}
    sim.report(*(cached(lease, name, at) for lease, (name, at) in leases.items()), at=24)
    live = {row.image_ref: row.id for row in sim.shown if not row.status.ended}
    assert set(live) == {f"docker.io/library/{name}:1" for name in names}
    sim.report(*(cached(lease, name, at, known=True) for lease, (name, at) in leases.items()), at=26)
    assert {row.image_ref: row.id for row in sim.shown if not row.status.ended} == live
    sim.report(*(completed(lease, name, at, 28) for lease, (name, at) in leases.items()), at=28.5)
    assert len(sim.shown) == 4, "each image has the first pull, and one row for all pods"
