"""Tests for the estimate of a pull's usual duration, and for pulls that are slower than usual."""

import pytest

from pulltrace.server.models import UsualBasis
from pulltrace.server.pulls.paces import Paces
from pulltrace.server.pulls.rates import Unpacking
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


def test_the_usual_duration_on_the_same_node_consists_of_the_median_and_the_90th_percentile():
    usual = Usual()
    for seconds in (10, 12, 11, 10, 11, 12, 10, 11, 12, 40):
        record(usual, seconds)
    found = estimate(usual)
    assert (found.basis, found.count, found.median, found.p90) == ("image", 10, 11.0, 40.0)


def test_no_90th_percentile_is_estimated_from_fewer_than_ten_pulls():
    usual = Usual()
    for _ in range(9):
        record(usual, 10)
    assert estimate(usual).p90 is None


def test_there_is_no_usual_duration_without_earlier_pulls():
    assert estimate(Usual()) is None
    assert estimate(Usual(), size=None) is None


def test_only_pulls_of_the_same_image_are_compared_while_the_size_of_the_image_is_unknown():
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


def test_durations_from_other_nodes_are_adjusted_for_a_slow_node():
    usual = Usual()
    for node, slowness in (("fast", 1), ("slow", 5)):
        for number in range(3):
            record(usual, 4 * slowness, image=f"base/{number}:1", node=node)
    record(usual, 8, node="fast")
    found = estimate(usual, node="slow")
    assert (found.basis, found.median) == ("image", 24.0), "four seconds more than such pulls usually take on this node"


def test_durations_measured_on_a_slow_node_are_scaled_down_for_a_fast_node():
    usual = Usual()
    for node, slowness in (("fast", 1), ("slow", 5)):
        for number in range(3):
            record(usual, 4 * slowness, image=f"base/{number}:1", node=node)
    record(usual, 15, node="slow")
    assert estimate(usual, node="fast").median == 3.0


FAST, SLOW = 30e6, 5e6
SMALL = (4, 13, 28, 35, 44, 50, 60, 73)


def pull_small_images(usual, rate, node):
    for number, size in enumerate(SMALL):
        record(usual, 2.5 + size * MB / rate, image=f"small/{number}:1", node=node, size=size * MB)


def test_small_pulls_do_not_determine_the_estimate_for_a_large_pull_on_a_slow_node():
    usual = Usual()
    pull_small_images(usual, FAST, "fast")
    pull_small_images(usual, SLOW, "slow")
    for node, rate in (("fast", FAST), ("slow", SLOW)):
        record(usual, 2.5 + 400 * MB / rate, image="other/large:1", node=node, size=400 * MB)
    record(usual, 2.5 + 1135 * MB / FAST, image="jupyter/scipy:1", node="fast", size=1135 * MB)
    found = estimate(usual, image="jupyter/scipy:1", node="slow", size=1135 * MB)
    assert (found.basis, found.median) == ("image", 229.5)
    assert estimate(usual, image="new/small:1", node="slow", size=10 * MB).median == pytest.approx(4.5, abs=0.5)


def test_a_node_does_not_look_faster_because_it_has_not_pulled_an_image_whose_single_layer_is_slow():
    usual = Usual()
    for node in ("a", "b"):
        pull_small_images(usual, FAST, node)
    record(usual, 90, image="base/one-layer:1", node="a", size=200 * MB)
    found = estimate(usual, image="base/one-layer:1", node="b", size=200 * MB)
    assert (found.basis, found.median) == ("image", 90.0)


def test_a_pull_is_not_expected_to_be_faster_than_all_earlier_pulls_of_the_image():
    usual = Usual()
    for node, rate in (("a", FAST), ("b", FAST), ("c", FAST), ("fast", 4 * FAST)):
        pull_small_images(usual, rate, node)
    for node, seconds in (("a", 6.0), ("b", 6.4)):
        record(usual, seconds, node=node)
    assert estimate(usual, node="fast").median < 5.0, "two pulls are too few"
    record(usual, 6.2, node="c")
    assert estimate(usual, node="fast").median == 6.0


def test_a_stalled_pull_does_not_change_the_estimated_time_per_byte_of_a_node():
    usual = Usual()
    pull_small_images(usual, FAST, "fast")
    pull_small_images(usual, SLOW, "slow")
    record(usual, 75, image="stalled:1", node="slow", size=14 * MB)
    record(usual, 2.5 + 200 * MB / FAST, node="fast", size=200 * MB)
    assert estimate(usual, node="slow", size=200 * MB).median == pytest.approx(42.5, rel=0.15)


def test_pulls_of_much_smaller_images_are_not_used_to_estimate_the_duration_of_a_large_pull():
    usual = Usual()
    pull_small_images(usual, FAST, "a")
    assert estimate(usual, image="n/n:1", size=3245 * MB) is None


@pytest.mark.parametrize("finished", [0, 1, 8])
def test_the_estimate_for_a_new_image_on_a_slow_node_is_no_shorter_than_the_rates_of_the_node_allow(finished):
    paces = Paces()
    usual = Usual(paces)
    paces.record("fast", "docker.io", FAST, FAST, NOW)
    paces.record("slow", "docker.io", SLOW, SLOW, NOW)
    paces.unpacking["slow"] = Unpacking()
    paces.unpacking["slow"].saw(40 * MB, 2)
    record(usual, 116, image="pytorch:2", node="fast", size=3245 * MB)
    record(usual, 116, image="pytorch:2", node="fast", size=3245 * MB)
    for number, size in enumerate(SMALL[:finished]):
        record(usual, 6 + size * MB / SLOW, image=f"small/{number}:1", node="slow", size=size * MB)
    for image, basis in (("pytorch:2", "image"), ("pytorch:3", "repository"), ("new:1", "size")):
        found = estimate(usual, image=image, node="slow", size=3245 * MB)
        assert found.basis == basis
        assert 1.5 + 3245 / 5 + 3245 / 20 <= found.median <= 1.1 * (1.5 + 3245 / 5 + 3245 / 20)
        assert not found.is_firm, "no pull of this size has ended on this node"


def test_a_registry_that_is_slow_for_one_node_is_expected_to_be_slow_for_a_new_node():
    usual = Usual()
    for node in ("a", "b"):
        for number in range(3):
            record(usual, 4, image=f"base/{number}:1", node=node)
    record(usual, 90, registry="slow.example", node="a")
    assert estimate(usual, registry="slow.example", node="b").median == 90.0


def test_the_estimate_for_a_new_tag_is_the_pull_time_of_other_tags_scaled_by_size():
    usual = Usual()
    record(usual, 11.5, size=400 * MB)
    found = estimate(usual, image="shop/web:2", size=800 * MB)
    assert (found.basis, found.median) == ("repository", 21.5)


def test_a_new_tag_is_compared_with_this_node_once_three_pulls_of_its_repository_are_known_there():
    usual = Usual()
    for node in ("here", "stalls"):
        pull_small_images(usual, FAST, node)
    for number in range(3):
        record(usual, 60, image=f"shop/web:{number}", node="stalls", size=50 * MB)
    for number in range(3):
        assert estimate(usual, image="shop/web:new", node="here", size=50 * MB).median > 30.0
        record(usual, 5, image=f"shop/web:here-{number}", node="here", size=50 * MB)
    found = estimate(usual, image="shop/web:new", node="here", size=50 * MB)
    assert (found.median, found.count) == (5.0, 3)
    assert estimate(usual, image="shop/web:new", node="here", size=MB).count == 6, "the sizes differ too much"


def test_a_new_repository_is_compared_with_similarly_sized_images_from_the_same_registry():
    usual = Usual()
    record(usual, 10, image="a/a:1")
    assert estimate(usual, image="n/n:1") is None, "one pull is not enough to compare sizes"
    record(usual, 12, image="b/b:1")
    record(usual, 99, image="c/c:1", size=2)
    found = estimate(usual, image="n/n:1")
    assert (found.basis, found.count, found.median) == ("size", 2, 11.0)


def test_a_new_tag_is_compared_with_similarly_sized_images_until_three_pulls_of_its_repository_are_known():
    usual = Usual()
    record(usual, 60)
    for number in range(3):
        record(usual, 9, image=f"{number}/a:1")
    found = estimate(usual, image="shop/web:2")
    assert (found.basis, found.median, found.is_firm) == ("size", 9.0, True), "the one earlier tag may have stalled"
    record(usual, 30, image="shop/web:2")
    record(usual, 30, image="shop/web:3")
    assert (estimate(usual, image="shop/web:4").basis, estimate(usual, image="shop/web:4").median) == ("repository", 30)


def test_the_estimate_falls_back_to_the_closest_larger_images_from_the_registry_if_none_have_a_similar_size():
    usual = Usual()
    for number, size in enumerate((1, 1, 400, 800, 900)):
        record(usual, 1.5 + size / 20, image=f"{number}/a:1", size=size * MB)
    found = estimate(usual, image="n/n:1", size=50 * MB)
    assert (found.basis, found.count, found.median) == (UsualBasis.REGISTRY, 2, 4.0)


def test_a_new_registry_is_compared_with_other_registries_on_the_same_node():
    usual = Usual()
    record(usual, 10, image="a/a:1")
    assert estimate(usual, image="n/n:1", registry="quay.io") is None
    record(usual, 12, image="b/b:1")
    found = estimate(usual, image="n/n:1", registry="quay.io")
    assert (found.basis, found.count, found.median) == (UsualBasis.NODE, 2, 11.0)
    assert estimate(usual, image="n/n:1", registry="quay.io", node="new") is None


def test_the_estimate_for_a_node_without_finished_pulls_is_scaled_by_the_current_rate_of_that_node():
    paces = Paces()
    usual = Usual(paces)
    record(usual, 10)
    found = estimate(usual, node="slow")
    assert (found.basis, found.median) == (UsualBasis.OTHER_NODES, 10.0)
    paces.record("a", "docker.io", 10e6, 30e6, NOW)
    paces.record("slow", "quay.io", 2e6, 5e6, NOW)
    assert estimate(usual, node="slow").basis is UsualBasis.OTHER_NODES, "quay.io may be slow on every node"
    paces.record("a", "quay.io", 2e6, 12e6, NOW)
    found = estimate(usual, node="slow", size=None)
    assert (found.basis, found.median) == (UsualBasis.IMAGE, 21.5)


def test_a_rate_measured_at_the_beginning_of_a_download_does_not_mark_a_node_as_slow():
    paces = Paces()
    paces.record("a", "docker.io", 30e6, 30e6, NOW)
    paces.record("b", "docker.io", 1e6, 1e6, NOW, is_sustained=False)
    assert paces.slow_node("b") is None
    paces.record("b", "docker.io", 5e6, 5e6, NOW, is_sustained=True)
    assert paces.slow_node("b") == 1 / 5e6
    paces.record("b", "docker.io", 20e6, 20e6, NOW, is_sustained=True)
    assert paces.slow_node("b") is None


def test_an_estimate_is_reliable_only_after_the_node_has_made_enough_similar_pulls_from_the_registry():
    usual = Usual()
    record(usual, 10)
    record(usual, 10)
    assert not estimate(usual).is_firm, "two pulls are too few"
    record(usual, 10)
    assert estimate(usual).is_firm
    assert not estimate(usual, image="shop/web:2", size=900 * MB).is_firm, "the sizes differ too much"
    assert not estimate(usual, node="b").is_firm, "the speed of the node is not known"
    for _ in range(3):
        record(usual, 20, image="other:1", node="b")
    assert estimate(usual, node="b").is_firm
    for number in range(3):
        record(usual, 10, image=f"x/{number}:1", registry="quay.io")
    assert not estimate(usual, image="n:1", registry="new.example").is_firm, "a new registry may be slow"


def test_a_new_tag_of_unknown_size_is_estimated_to_take_as_long_as_other_tags():
    usual = Usual()
    record(usual, 20)
    found = estimate(usual, image="shop/web:2", size=None)
    assert (found.basis, found.median) == (UsualBasis.REPOSITORY, 20.0)


def test_the_memory_used_for_duration_estimates_is_bounded():
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
    """Run a pull to completion, with one report per second."""
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
    assert (second.usual_seconds, second.usual_count, second.slower_than_usual) == (20.0, 1, None)
    assert not second.usual_comparable
    third = pulled(sim, 3, 20, began=200)
    assert (third.usual_seconds, third.slower_than_usual) == (20.5, None)
    fourth = pulled(sim, 4, 60, began=300)
    assert (fourth.usual_seconds, fourth.usual_count, fourth.slower_than_usual) == (20.0, 3, 3.0)
    assert fourth.usual_comparable
    assert sim.metric("pull_duration_to_usual_ratio_count", registry="docker.io") == 3
    assert sim.metrics.render("", sim.hub.gauges()).count(b'pulltrace_slow_nodes{registry="docker.io"} 1.0') == 1
    sim.at(1000)
    assert b"pulltrace_slow_nodes{" not in sim.metrics.render("", sim.hub.gauges())


def test_a_live_pull_is_marked_as_slow_once_it_has_taken_twice_its_usual_duration():
    sim = SimulatedHub()
    for number in range(3):
        pulled(sim, number, 20, began=100 * number)
    for second in range(301, 350):
        sim.report(pull("lease-3", layer("a", MIB), at=NOW + 300, **FACTS), at=second)
        live = max(sim.shown, key=lambda status: status.started_at)
        assert (live.slower_than_usual is not None) == (second >= 340), second


@pytest.mark.parametrize(("usual", "took", "slower"), [(4, 13, None), (4, 14, 3.5), (20, 39, None), (20, 40, 2.0)])
def test_a_pull_is_slow_if_it_takes_at_least_twice_the_usual_time_and_at_least_ten_seconds_longer(usual, took, slower):
    sim = SimulatedHub()
    for number in range(3):
        pulled(sim, number, usual, began=100 * number)
    assert pulled(sim, 3, took, began=300).slower_than_usual == slower


def test_a_pull_counts_as_slow_even_if_an_earlier_pull_took_just_as_long():
    sim = SimulatedHub()
    for number, took in enumerate((9, 62, 9, 9)):
        pulled(sim, number, took, began=100 * number)
    slow = pulled(sim, 4, 62, began=400)
    assert (slow.usual_seconds, slow.slower_than_usual) == (9.0, 6.9)


def test_a_pull_is_not_slow_if_one_in_ten_earlier_pulls_took_as_long():
    sim = SimulatedHub()
    for number in range(10):
        pulled(sim, number, 62 if number == 4 else 9, began=100 * number)
    assert pulled(sim, 10, 62, began=1000).slower_than_usual is None
    assert pulled(sim, 11, 63, began=1100).slower_than_usual == 7.0


def test_the_time_to_ready_is_estimated_before_the_first_byte_arrives():
    sim = SimulatedHub()
    pulled(sim, 1, 20, began=0)
    sim.report(pull("lease-2", status=PullPhase.RESOLVING, total_known=False, at=NOW + 100, **FACTS), at=104)
    resolving = max(sim.shown, key=lambda status: status.started_at)
    assert (resolving.status, resolving.usual_seconds, resolving.eta_seconds) == (PullPhase.RESOLVING, 20.0, 16.0)
    sim.report(pull("lease-2", layer("a", 0, state=LayerPhase.WAITING), at=NOW + 100, **FACTS), at=106)
    assert max(sim.shown, key=lambda status: status.started_at).eta_seconds == 14.0


def test_a_restarted_server_restores_usual_durations_from_the_histories_that_agents_report():
    sim = SimulatedHub()
    done = layer("a", 100 * MIB, state=LayerPhase.EXTRACTED)
    history = {"status": PullPhase.COMPLETED, "ended_at": NOW - 60, **FACTS}
    sim.report(pull("old", done, at=NOW - 80, **history), at=1)
    assert pulled(sim, 2, 22, began=100).usual_seconds == 20.0


@pytest.mark.parametrize("state", [LayerPhase.CACHED])
def test_the_duration_of_a_cached_pull_is_not_used_for_estimates(state):
    sim = SimulatedHub()
    cached = layer("a", 0, state=state, cached_bytes=100 * MIB)
    sim.report(pull("old", cached, at=NOW, status=PullPhase.COMPLETED, ended_at=NOW + 1, **FACTS), at=1)
    assert pulled(sim, 2, 22, began=100).usual_seconds is None


def test_a_running_pull_without_an_estimate_is_compared_with_pulls_that_ended_after_it_started():
    sim = SimulatedHub()
    slow = {"registry": "slow.example", "image_ref": "slow.example/library/nginx:1"}
    for second in range(1, 40):
        others = [
            pull(f"quick-{number}", layer(f"q{number}", MIB), at=NOW, image_ref=f"docker.io/library/app:{number}")
            for number in (1, 2)
        ]
        if second >= 5:
            done = {"status": PullPhase.COMPLETED, "ended_at": NOW + 5}
            others = [
                pull(
                    f"quick-{number}",
                    layer(f"q{number}", 100 * MIB, state=LayerPhase.EXTRACTED),
                    at=NOW,
                    **(done | {"image_ref": f"docker.io/library/app:{number}"}),
                )
                for number in (1, 2)
            ]
        sim.report(pull("slow", layer("s", second * MIB), at=NOW, **slow), *others, at=second)
        live = next(status for status in sim.shown if status.registry == "slow.example")
        assert (live.usual_basis is UsualBasis.NODE) == (second >= 11), second
    assert (live.usual_seconds, live.slower_than_usual) == (5.0, None), "the registry itself may be slow"
    assert "pulltrace_slow_nodes{" not in sim.metrics.render("", sim.hub.gauges()).decode()
