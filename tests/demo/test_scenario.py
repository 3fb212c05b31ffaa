"""Tests that run the demo's scenario in virtual time, where an hour takes a second or two."""

import pytest

from pulltrace.demo.catalogue import IMAGES, SLOW, registries
from pulltrace.demo.kubelet import Said
from pulltrace.demo.scenario import Crashed, Scenario
from pulltrace.images import normalise
from tests.demo.conftest import NOON


def play(scenario, seconds, tick=0.5):
    """Run the scenario for the given number of virtual seconds. Return the list of changes in each tick."""
    return [scenario.advance(tick) for _ in range(round(seconds / tick))]


@pytest.fixture(scope="module")
def half_an_hour():
    scenario = Scenario(12, now=NOON)
    active, happened = [], []
    for _ in range(3600):
        happened += scenario.advance(0.5)
        active.append(sum(len(node.pulls) for node in scenario.nodes.values()))
    return scenario, happened, active


def test_the_images_range_from_three_megabytes_to_more_than_eight_gigabytes():
    images = registries().images
    sizes = sorted(images[normalise(name)].size for name in IMAGES)
    assert sizes[0] < 4e6
    assert sizes[-1] > 8e9


def test_several_images_can_share_a_base():
    images = registries().images
    nginx, redis = (images[normalise(f"docker.io/library/{name}")] for name in ("nginx:1.29", "redis:8.4"))
    assert nginx.layers[0] == redis.layers[0]
    assert nginx.chain_ids[0] == redis.chain_ids[0]


def test_at_least_one_pull_is_always_in_progress(half_an_hour):
    _, _, active = half_an_hour
    assert min(active[10:]) >= 1
    assert sum(active) / len(active) > 4


def test_every_kind_of_failure_occurs(half_an_hour):
    _, happened, _ = half_an_hour
    assert any(isinstance(item, Crashed) for item in happened)
    said = [item.object for item in happened if isinstance(item, Said)]
    failures = {item["message"] for item in said if item.get("reason") == "Failed"}
    for words in ("not found", "401", "429", "i/o timeout", "x509", "503", "context canceled"):
        assert any(words in message for message in failures) or words == "context canceled", words
    reasons = {item.get("reason") for item in said}
    assert {"Pulling", "Pulled", "BackOff", "Failed", "InspectFailed", "ErrImageNeverPull"} <= reasons


def test_the_simulated_node_stores_do_not_grow_without_limit(half_an_hour):
    scenario, _, _ = half_an_hour
    before = size(scenario)
    play(scenario, 1800)
    assert size(scenario) < before * 1.6


def size(scenario):
    return sum(
        len(part)
        for node in scenario.nodes.values()
        for part in (node.store.content, node.store.snapshots, node.store.leases, node.store.records)
    )


def test_the_same_seed_gives_the_same_scenario():
    arrivals = [play(Scenario(5, now=NOON, seed=7), 60) for _ in range(2)]
    assert arrivals[0] == arrivals[1]
    assert arrivals[0] != play(Scenario(5, now=NOON, seed=8), 60)


def test_a_rollout_reaches_every_node(half_an_hour):
    scenario, happened, _ = half_an_hour
    pods = [item.object for item in happened if isinstance(item, Said) and item.resource == "pods"]
    nodes = {pod["spec"]["nodeName"] for pod in pods if pod["metadata"]["name"].startswith("node-exporter-")}
    assert nodes == set(scenario.kubelets)


def test_the_soci_snapshotter_on_a_gpu_node_fetches_layers_itself():
    scenario = Scenario(12, now=NOON)
    play(scenario, 30)
    node = scenario.nodes["gpu-2"]
    (pull,) = [pull for pull in node.pulls if "vllm" in str(pull.reference)]
    assert pull.snapshotter.name == "soci"
    assert sum(node.store.snapshotter.files.values()) > 1e9
    assert {kind for kind, _ in pull.lease.resources} <= {"content", "snapshots/soci"}


def test_a_pull_from_the_slow_registry_takes_more_than_a_minute():
    scenario = Scenario(3, now=NOON)
    play(scenario, 60)
    slow = [pull for node in scenario.nodes.values() for pull in node.pulls if pull.reference.registry == SLOW]
    assert slow
    assert slow[0].image


@pytest.mark.parametrize("nodes", [1, 2, 3, 40])
def test_the_scenario_works_with_any_number_of_nodes(nodes):
    scenario = Scenario(nodes, now=NOON)
    assert len(scenario.kubelets) == nodes
    assert any(play(scenario, 20))


@pytest.mark.parametrize("speed", [0.1, 10, 100])
def test_the_clocks_of_simulated_nodes_follow_real_time_at_any_simulation_speed(speed):
    scenario = Scenario(2, now=NOON, speed=speed)
    play(scenario, 10, tick=0.2)
    assert {round(node.now - NOON, 3) for node in scenario.nodes.values()} == {10}
