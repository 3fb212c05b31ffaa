"""Tests for the list of pods that are waiting for images, and for the list that shows each image's progress across all
nodes.
"""

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.api.query import parse, pod_fits
from pulltrace.server.models import PodCorrelation
from pulltrace.server.pulls import views
from pulltrace.server.pulls.views import count_waiting, rollouts, running
from pulltrace.wire import ErrorReason, LayerPhase, PullPhase, to_time
from tests.server.build import MIB, NOW, SimulatedHub, layer, pull
from tests.server.kubernetes.changes import NOT_FOUND, event, seen
from tests.server.pulls.joined import Joined, web


@pytest.fixture
def sim():
    return Joined()


def test_the_rows_of_a_view_are_created_only_when_they_are_read(sim, monkeypatch):
    made = []
    make = views._rollout
    monkeypatch.setattr(views, "_rollout", lambda image, *rest: made.append(image) or make(image, *rest))
    names = [f"docker.io/library/app-{number}:1" for number in range(5)]
    for node, name in enumerate(names):
        sim.report(pull(name, image_ref=name), node=f"n{node}", at=node)
    rows = rollouts(sim.hub.feed.pulls())
    assert next(rows).image_ref == names[0]
    assert made == names[:1]
    nodes = sim.hub.nodes()
    assert next(nodes).name == "n0"
    sim.hub._pulls.nodes["n1"].snapshotter = "changed since"
    assert next(nodes).snapshotter == "changed since"


def test_running_pulls_are_listed_in_the_same_order_as_on_the_page():
    one = SimulatedHub()
    one.report(pull("l", layer("a", 1)))
    example = one.one
    later = example.started_at + timedelta(seconds=1)
    pulls: dict[str, dict[str, Any]] = {
        "done": {"status": PullPhase.COMPLETED},
        "retry": {"status": PullPhase.RESOLVING, "attempt": 2, "downloaded_bytes": 0},
        "old-b": {"status": PullPhase.EXTRACTING},
        "old-a": {"status": PullPhase.RESOLVING, "downloaded_bytes": 0},
        "waited": {"pods": [PodCorrelation(namespace="n", pod_name="p", container="c", image="i")]},
        "new": {"started_at": later},
        "stalled": {"stalled_since": later},
        "queued": {"status": PullPhase.QUEUED},
    }
    found = running(replace(example, id=id_, **differing) for id_, differing in pulls.items())
    assert [each.id for each in found] == ["stalled", "waited", "new", "old-a", "old-b"]


def unpack_something(sim):
    """Have the node unpack an image in two seconds, because an estimate requires a measured unpacking rate."""
    facts = {"repository": "library/old", "image_ref": "docker.io/library/old:1"}
    begun, over = {"extract_started_at": to_time(NOW)}, {"extracted_at": to_time(NOW + 2)}
    sim.report(pull("old", layer("o", 100 * MIB, state=LayerPhase.EXTRACTING, **begun), **facts), at=1)
    done = layer("o", 100 * MIB, state=LayerPhase.EXTRACTED, **begun, **over)
    sim.report(pull("old", done, status=PullPhase.COMPLETED, ended_at=NOW + 2, **facts), at=2)


def test_the_estimate_for_a_pod_is_the_estimate_for_its_longest_pull(sim):
    arrival = PodEvents(
        pod("web-1", "node-1", {"app": "nginx:1.27", "side": "redis:7"}, init={"init": "busybox"}, at=NOW)
    )
    sim.apply(
        seen(arrival), event(arrival.pulling("app", NOW)), event(arrival.pulling("side", NOW)), at=0
    )  # both pulls run in parallel, as is possible for image volumes or for two pods
    redis = {"repository": "library/redis", "image_ref": "docker.io/library/redis"}
    unpack_something(sim)
    for second in range(3, 8):
        sim.report(
            pull("lease-1", layer("a", second * 10 * MIB), at=NOW),
            pull("lease-2", layer("b", second * 2 * MIB), at=NOW, **redis),
            at=second,
        )
    (waiting,) = sim.waiting
    assert [(item.container, item.kind, item.state.value) for item in waiting.containers] == [
        ("init", "init", "waiting"),
        ("app", "app", "downloading"),
        ("side", "app", "downloading"),
    ]
    app, side = waiting.containers[1:]
    assert side.eta_seconds > app.eta_seconds > 0
    assert waiting.eta_seconds == side.eta_seconds
    assert waiting.ready_estimate.timestamp() == pytest.approx(sim.now + side.eta_seconds, abs=0.01)
    assert app.pull_id in {status.id for status in sim.shown}
    assert waiting.waiting_since.timestamp() == NOW
    assert count_waiting(sim.cluster.waiting(), sim.hub.feed.pulls()) == 1


def test_a_pod_can_wait_for_an_image_volume(sim):
    arrival = PodEvents(pod("web-1", "node-1", {"model": "web:1"}, volumes={"model": "nginx:1.27"}, at=NOW))
    sim.apply(seen(arrival), event(arrival.pulling("model", NOW + 1)), at=1)
    (waiting,) = sim.waiting
    assert [(item.container, item.kind, item.state.value) for item in waiting.containers] == [
        ("model", "volume", "queued"),
        ("model", "app", "waiting"),
    ]
    assert count_waiting(sim.cluster.waiting(), sim.hub.feed.pulls()) == 1


def test_a_pod_has_no_estimate_if_one_of_its_pulls_has_no_estimate(sim):
    arrival = PodEvents(pod("web-1", "node-1", {"app": "nginx:1.27", "side": "redis:7"}, at=NOW))
    sim.apply(seen(arrival), event(arrival.pulling("app", NOW)), event(arrival.failed("side", NOW, NOT_FOUND)), at=0)
    unpack_something(sim)
    for second in range(3, 8):
        sim.report(pull("lease-1", layer("a", second * 10 * MIB), at=NOW), at=second)
    (waiting,) = sim.waiting
    assert waiting.eta_seconds is None
    assert waiting.containers[0].eta_seconds is not None
    side = waiting.containers[1]
    assert (side.state.value, side.error, side.error_reason) == ("failed", NOT_FOUND, ErrorReason.NOT_FOUND)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, {"a", "b"}),
        ({"namespace": "shop"}, {"b"}),
        ({"node": "node-1"}, {"a", "b"}),
        ({"node": "node-2"}, set()),
        ({"pod": "a"}, {"a"}),
        ({"image": "redis"}, {"b"}),
        ({"image": "redis:7"}, {"b"}),
        ({"image": "redis:8"}, set()),
        ({"status": "failed"}, {"a"}),
        ({"status": "queued,failed"}, {"a", "b"}),
        ({"status": "failed", "image": "redis"}, set()),
    ],
)
def test_waiting_pods_are_filtered_like_pulls(sim, asked, found):
    one, two = web("a"), web("b", "redis:7", namespace="shop")
    sim.apply(seen(one), event(one.failed("app", NOW, NOT_FOUND)), at=0)
    sim.apply(seen(two), event(two.pulling("app", NOW)), at=0)
    assert {item.pod_name for item in sim.waiting if pod_fits(item, parse(asked.items()))} == found


def test_the_view_of_a_rollout_counts_the_nodes_in_each_state(sim):
    done = {"status": PullPhase.COMPLETED, "image_ref": "docker.io/library/nginx:1.27"}
    for number, seconds in enumerate((10, 20, 60)):
        full = layer("a", 100 * MIB, state=LayerPhase.EXTRACTED)
        sim.report(pull("lease", full, at=NOW, ended_at=NOW + seconds, **done), at=60, node=f"done-{number}")
    cached = layer("a", 0, state=LayerPhase.CACHED, cached_bytes=100 * MIB)
    sim.report(pull("lease", cached, at=NOW, ended_at=NOW + 1, **done), at=61, node="had-it")
    half = layer("a", 50 * MIB)
    sim.report(pull("lease", half, at=NOW, image_ref="docker.io/library/nginx:1.27"), at=62, node="pulling")
    queued, failed = web("q", node="queued"), web("f", node="failed")
    for arrival in (queued, failed):
        sim.apply(seen(arrival), event(arrival.pulling("app", NOW + 60)), at=62)
    sim.apply(event(failed.failed("app", NOW + 62, NOT_FOUND)), at=62)
    (row,) = rollouts(sim.hub.feed.pulls())
    assert (row.image_ref, row.registry, row.repository) == (
        "docker.io/library/nginx:1.27",
        "docker.io",
        "library/nginx",
    )
    assert (row.nodes.done, row.nodes.pulling, row.nodes.queued, row.nodes.failed) == (4, 1, 1, 1)
    assert (row.median_seconds, row.worst_seconds, row.slowest_node) == (20.0, 60.0, "failed")
    assert (row.total_bytes, row.image_bytes) == (400 * MIB, 100 * MIB)


def test_the_median_and_maximum_duration_of_an_image_include_a_pull_that_the_node_repeated_later():
    one = SimulatedHub()
    one.report(pull("l", layer("a", 1)))

    def completed(name, node, seconds, downloaded=1, after=0):
        start = one.one.started_at + timedelta(seconds=after)
        return replace(
            one.one,
            id=name,
            node_name=node,
            status=PullPhase.COMPLETED,
            downloaded_bytes=downloaded,
            started_at=start,
            completed_at=start + timedelta(seconds=seconds),
        )

    pulls = [completed("a", "n1", 100), completed("b", "n1", 1, 0, after=200), completed("c", "n2", 20)]
    (row,) = rollouts(pulls)
    assert (row.completed_pulls, row.nodes.done) == (3, 2)
    assert (row.median_seconds, row.worst_seconds) == (60.0, 100.0)


def test_the_choice_of_the_slowest_node_of_an_image_takes_pulls_ahead_in_the_queue_into_account():
    one = SimulatedHub()
    one.report(pull("l", layer("a", 1)))
    example = one.one

    def live(name, node, status, **more):
        started = example.started_at + timedelta(seconds=more.pop("after", 0))
        return replace(
            example,
            id=name,
            node_name=node,
            image_ref=more.pop("image", "app"),
            status=status,
            started_at=started,
            eta_seconds=more.pop("eta", None),
            usual_seconds=more.pop("usual", None),
        )

    running = live("now", "n1", PullPhase.DOWNLOADING, eta=50.0)
    ahead = live("ahead", "n2", PullPhase.DOWNLOADING, eta=45.0, image="big")
    queued = live("later", "n2", PullPhase.QUEUED, usual=10.0, after=1)
    soon = live("soon", "n3", PullPhase.QUEUED, usual=10.0)

    def slowest(*pulls):
        return {row.image_ref: row.slowest_node for row in rollouts(pulls)}["app"]

    assert slowest(running, ahead, queued, soon) == "n2"
    assert slowest(running, queued, soon) == "n1"
    second = live("second", "n3", PullPhase.QUEUED, usual=45.0, after=-1, image="other")
    assert slowest(running, second, soon) == "n3"
    unknown = replace(running, eta_seconds=None)
    assert slowest(unknown, ahead, replace(queued, usual_seconds=None)) == "n2"
    cancelled = replace(running, id="gone", node_name="n4", status=PullPhase.FAILED, error_reason=ErrorReason.CANCELED)
    assert slowest(running, cancelled) == "n1", "no pod is waiting for the cancelled pull"
    assert slowest(running, replace(cancelled, error_reason=ErrorReason.NOT_FOUND)) == "n4"
