"""Metrics: few labels, correct counters, fast scrapes."""

import time

import pytest

from pulltrace.server.metrics import MAX_REGISTRIES
from pulltrace.wire import PullPhase
from tests.server.build import MIB, NOW, World, layer, pull


def test_the_number_of_registry_labels_is_limited() -> None:
    world = World()
    for number in range(MAX_REGISTRIES + 5):
        done = pull(f"l{number}", layer("a", MIB), registry=f"r{number}.example", status=PullPhase.COMPLETED)
        world.say(done, node=f"n{number}", at=number + 1)
    text = world.metrics.render("", world.hub.gauges()).decode()
    registries = {line.split('registry="')[1].split('"')[0] for line in text.splitlines() if 'registry="' in line}
    assert len(registries) == MAX_REGISTRIES + 1
    assert world.metric("pulls_total", registry="other", result="completed") == 5


def test_an_unused_registry_loses_its_label_to_another_one(monkeypatch) -> None:
    monkeypatch.setattr("pulltrace.server.metrics.KEPT", -1.0)
    world = World()
    for number in range(MAX_REGISTRIES + 1):
        done = pull(f"l{number}", layer("a", MIB), registry=f"r{number}.example", status=PullPhase.COMPLETED)
        world.say(done, node=f"n{number}", at=number + 1)
    text = world.metrics.render("", world.hub.gauges()).decode()
    assert 'registry="r0.example"' not in text
    assert f'registry="r{MAX_REGISTRIES}.example"' in text
    assert 'registry="other"' not in text


def test_a_forgotten_node_leaves_no_series() -> None:
    world = World(HISTORY_TTL="10s")
    world.say(at=1)
    assert "node-1" in world.metrics.render("", world.hub.gauges()).decode()
    world.at(100)
    assert "node-1" not in world.metrics.render("", world.hub.gauges()).decode()


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_reading_the_state_of_5000_nodes_does_not_block_the_loop(accept: str) -> None:
    world = World()
    for number in range(5000):
        world.say(pull("l", layer("a", MIB), at=NOW), node=f"node-{number}")
    began = time.thread_time()
    gauges = world.hub.gauges()
    assert time.thread_time() - began < 0.25, "this part runs in the loop; it takes a few milliseconds"
    assert world.metrics.render(accept, gauges).count(b"node-") == 5000
    assert gauges.active == {PullPhase.DOWNLOADING: 5000}
