"""How the usual duration of a pull is estimated, and when a pull counts as slower than usual."""

import pytest

from pulltrace.server.pulls.usual import KEPT, MAX_IMAGES, Usual
from pulltrace.wire import LayerPhase, PullPhase
from tests.server.build import MIB, NOW, SimulatedHub, layer, pull

MB = 10**6


def record(usual, seconds, *, image="shop/web:1", registry="docker.io", node="a", size=100 * MB):
    usual.record(
        image=f"{registry}/{image}",
        repository=image.partition(":")[0],
        registry=registry,
        node=node,
        size=size,
        seconds=seconds,
    )


def estimate(usual, *, image="shop/web:1", registry="docker.io", node="a", size=100 * MB):
    return usual.estimate(
        image=f"{registry}/{image}", repository=image.partition(":")[0], registry=registry, node=node, size=size
    )


def test_the_usual_duration_on_the_same_node_is_the_median_and_the_90th_percentile():
    usual = Usual()
    for seconds in (10, 12, 11, 10, 11, 12, 10, 11, 12, 40):
        record(usual, seconds)
    found = estimate(usual)
    assert (found.basis, found.count, found.median, found.p90) == ("image", 10, 11.0, 40.0)


def test_there_is_no_usual_duration_without_earlier_pulls():
    assert estimate(Usual()) is None
    assert estimate(Usual(), size=None) is None


def test_only_pulls_of_the_same_image_are_compared_before_the_size_is_known():
    usual = Usual()
    record(usual, 10)
    assert estimate(usual, size=None).median == 10.0
    assert estimate(usual, image="shop/other:1", size=None) is None


def test_a_pull_with_cached_layers_is_not_compared_with_a_pull_that_fetches_everything():
    usual = Usual()
    record(usual, 2, size=10 * MB)
    record(usual, 20, size=100 * MB)
    assert estimate(usual).median == 20.0
    assert estimate(usual, size=10 * MB).median == 2.0


def test_durations_from_another_node_are_scaled_by_the_speed_ratio_of_the_two_nodes():
    usual = Usual()
    for node, slowness in (("fast", 1), ("slow", 5)):
        for number in range(3):
            record(usual, 4 * slowness, image=f"base/{number}:1", node=node)
    record(usual, 8, node="fast")
    found = estimate(usual, node="slow")
    assert (found.basis, found.median) == ("image", 40.0)


def test_a_node_that_is_new_to_a_slow_registry_is_not_expected_to_be_fast_there():
    usual = Usual()
    for node in ("a", "b"):
        for number in range(3):
            record(usual, 4, image=f"base/{number}:1", node=node)
    record(usual, 90, registry="slow.example", node="a")
    assert estimate(usual, registry="slow.example", node="b").median == 90.0


def test_the_estimate_for_a_new_tag_is_the_duration_of_other_tags_scaled_by_size():
    usual = Usual()
    record(usual, 11.5, size=400 * MB)
    found = estimate(usual, image="shop/web:2", size=800 * MB)
    assert (found.basis, found.median) == ("repository", 21.5)


def test_a_new_repository_is_compared_with_images_of_its_size_from_this_registry():
    usual = Usual()
    record(usual, 10, image="a/a:1")
    assert estimate(usual, image="n/n:1") is None, "one pull is not enough to compare sizes"
    record(usual, 12, image="b/b:1")
    record(usual, 99, image="c/c:1", size=2)
    found = estimate(usual, image="n/n:1")
    assert (found.basis, found.count, found.median) == ("size", 2, 11.0)
    assert estimate(usual, image="n/n:1", registry="quay.io") is None


def test_memory_is_bounded():
    usual = Usual()
    for number in range(MAX_IMAGES + 50):
        record(usual, 10, image=f"app:{number}")
    for _ in range(3 * KEPT):
        record(usual, 7, image="app:new")
    assert len(usual._images._samples) == MAX_IMAGES
    assert estimate(usual, image="app:new").count == KEPT
    assert estimate(usual, image="app:0").basis == "repository", "the oldest image is forgotten"


FACTS = {"image_ref": "docker.io/library/nginx:1"}


def pulled(sim, number, took, *, began, node="node-1"):
    """Run one pull to its end, with one report per second."""
    for second in range(1, took):
        done = layer("a", second * 100 * MIB // took)
        sim.report(pull(f"lease-{number}", done, at=NOW + began, **FACTS), at=began + second, node=node)
    done = layer("a", 100 * MIB, state=LayerPhase.EXTRACTED)
    ended = {"status": PullPhase.COMPLETED, "ended_at": NOW + began + took}
    sim.report(pull(f"lease-{number}", done, at=NOW + began, **(FACTS | ended)), at=began + took, node=node)
    return max(sim.shown, key=lambda status: status.started_at)


def test_the_usual_duration_of_a_pull_is_estimated_from_earlier_pulls():
    sim = SimulatedHub()
    assert pulled(sim, 1, 20, began=0).usual_seconds is None
    second = pulled(sim, 2, 21, began=100)
    assert (second.usual_seconds, second.slower_than_usual) == (20.0, None)
    third = pulled(sim, 3, 60, began=200)
    assert (third.usual_seconds, third.slower_than_usual) == (20.5, 2.9)
    assert sim.metric("pull_duration_to_usual_ratio_count", registry="docker.io") == 2
    assert sim.metrics.render("", sim.hub.gauges()).count(b'pulltrace_slow_nodes{registry="docker.io"} 1.0') == 1
    sim.at(900)
    assert b"pulltrace_slow_nodes{" not in sim.metrics.render("", sim.hub.gauges())


def test_a_live_pull_is_slower_than_usual_as_soon_as_it_exceeds_the_usual_duration():
    sim = SimulatedHub()
    pulled(sim, 1, 20, began=0)
    for second in range(101, 140):
        sim.report(pull("lease-2", layer("a", MIB), at=NOW + 100, **FACTS), at=second)
        live = max(sim.shown, key=lambda status: status.started_at)
        assert (live.slower_than_usual is not None) == (second >= 130), second


def test_the_time_to_ready_is_estimated_before_the_first_byte_arrives():
    sim = SimulatedHub()
    pulled(sim, 1, 20, began=0)
    sim.report(pull("lease-2", status=PullPhase.RESOLVING, total_known=False, at=NOW + 100, **FACTS), at=104)
    resolving = max(sim.shown, key=lambda status: status.started_at)
    assert (resolving.status, resolving.usual_seconds, resolving.eta_seconds) == (PullPhase.RESOLVING, 20.0, 16.0)
    sim.report(pull("lease-2", layer("a", 0, state=LayerPhase.WAITING), at=NOW + 100, **FACTS), at=106)
    assert max(sim.shown, key=lambda status: status.started_at).eta_seconds == 14.0


def test_a_restarted_server_learns_usual_durations_from_the_agents_history():
    sim = SimulatedHub()
    done = layer("a", 100 * MIB, state=LayerPhase.EXTRACTED)
    history = {"status": PullPhase.COMPLETED, "ended_at": NOW - 60, **FACTS}
    sim.report(pull("old", done, at=NOW - 80, **history), at=1)
    assert pulled(sim, 2, 22, began=100).usual_seconds == 20.0


@pytest.mark.parametrize("state", [LayerPhase.CACHED])
def test_a_cached_pull_is_not_used_as_a_measurement(state):
    sim = SimulatedHub()
    cached = layer("a", 0, state=state, cached_bytes=100 * MIB)
    sim.report(pull("old", cached, at=NOW, status=PullPhase.COMPLETED, ended_at=NOW + 1, **FACTS), at=1)
    assert pulled(sim, 2, 22, began=100).usual_seconds is None
