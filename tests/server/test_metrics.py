"""Tests for the metrics: few labels, correct counters and fast scrapes."""

import time

import pytest

from pulltrace.server.metrics import MAX_REGISTRIES
from pulltrace.wire import PullPhase
from tests.server.build import MIB, NOW, SimulatedHub, layer, pull


def test_the_number_of_registry_label_values_is_limited() -> None:
    sim = SimulatedHub()
    for number in range(MAX_REGISTRIES + 5):
        done = pull(f"l{number}", layer("a", MIB), registry=f"r{number}.example", status=PullPhase.COMPLETED)
        sim.report(done, node=f"n{number}", at=number + 1)
    text = sim.metrics.render("", sim.hub.gauges()).decode()
    registries = {line.split('registry="')[1].split('"')[0] for line in text.splitlines() if 'registry="' in line}
    assert len(registries) == MAX_REGISTRIES + 1
    assert sim.metric("pulls_total", registry="other", result="completed") == 5


def test_a_new_registry_replaces_an_unused_registry_in_the_metrics(monkeypatch) -> None:
    monkeypatch.setattr("pulltrace.server.metrics.KEPT", -1.0)
    sim = SimulatedHub()
    for number in range(MAX_REGISTRIES + 1):
        done = pull(f"l{number}", layer("a", MIB), registry=f"r{number}.example", status=PullPhase.COMPLETED)
        sim.report(done, node=f"n{number}", at=number + 1)
    text = sim.metrics.render("", sim.hub.gauges()).decode()
    assert 'registry="r0.example"' not in text
    assert f'registry="r{MAX_REGISTRIES}.example"' in text
    assert 'registry="other"' not in text


def test_the_metrics_contain_no_series_for_a_forgotten_node() -> None:
    sim = SimulatedHub(HISTORY_TTL="10s")
    sim.report(at=1)
    assert "node-1" in sim.metrics.render("", sim.hub.gauges()).decode()
    sim.at(100)
    assert "node-1" not in sim.metrics.render("", sim.hub.gauges()).decode()


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_reading_the_state_of_5000_nodes_does_not_block_the_event_loop(accept: str) -> None:
    sim = SimulatedHub()
    for number in range(5000):
        sim.report(pull("l", layer("a", MIB), at=NOW), node=f"node-{number}")
    began = time.thread_time()
    gauges = sim.hub.gauges()
    assert time.thread_time() - began < 0.25, "this part runs in the event loop and takes only a few milliseconds"
    assert sim.metrics.render(accept, gauges).count(b"node-") == 5000
    assert gauges.active == {PullPhase.DOWNLOADING: 5000}
