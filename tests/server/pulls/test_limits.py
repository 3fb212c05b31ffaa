"""Tests for the limits on the server's history and on the data that it accepts from nodes."""

import pytest

from pulltrace.server.limits import Limits
from pulltrace.server.pulls.hub import TooSoonError
from pulltrace.server.pulls.inventory import TooManyNodesError
from pulltrace.wire import LayerState, PullPhase, PullState
from tests.server.build import MIB, NOW, SimulatedHub, layer, pull, report

DONE = PullPhase.COMPLETED


def test_finished_pulls_that_are_reported_again_appear_in_the_history_but_are_not_counted_again() -> None:
    sim = SimulatedHub(HISTORY_TTL="30m")
    old = [pull(f"l{n}", layer("a", 100 * MIB), status=DONE, at=NOW - 700, ended_at=NOW - 600 - n) for n in range(3)]
    sim.report(*old, pull("live", layer("z", 50 * MIB), at=NOW - 20), at=1)
    sim.report(*old, pull("live", layer("z", 60 * MIB), at=NOW - 20), at=2)
    assert len(sim.shown) == 4
    assert sim.metric("pulls_total", registry="docker.io", result="completed") == 0
    assert sim.metric("pull_bytes_total", registry="docker.io") == 10 * MIB
    sim.at(1250)
    assert [status.status for status in sim.shown] == [PullPhase.FAILED], (
        "they expire according to when they ended, not when they were reported"
    )


def test_a_pull_that_is_older_than_the_history_is_rejected() -> None:
    sim = SimulatedHub(HISTORY_TTL="60s")
    sim.report(pull("l", layer("a", MIB), status=DONE, ended_at=NOW - 61, at=NOW - 90), at=1)
    assert sim.shown == []


def test_the_history_keeps_every_pull_of_a_node_until_it_expires() -> None:
    sim = SimulatedHub(HISTORY_TTL="60s")
    for n in range(5):
        sim.report(pull(f"l{n}", layer("a", MIB), at=NOW + n, status=DONE, ended_at=NOW + 10 * n), at=10 * n)
    assert len(sim.shown) == 5
    sim.at(75)
    assert len(sim.shown) == 3


def test_the_numbers_of_nodes_pulls_and_layers_are_limited_and_dropped_items_are_counted() -> None:
    sim = SimulatedHub(Limits(nodes=2, active_per_node=3, layers_per_pull=2, history_per_node=4, history=3))
    sim.report(*(pull(f"l{n}", layer("a"), layer("b"), layer("c")) for n in range(5)), at=1)
    assert len(sim.shown) == 3
    assert all(status.layer_count == 2 for status in sim.shown)
    for n in range(10):
        sim.report(pull(f"done{n}", status=DONE, ended_at=NOW + n), at=2 + n, node="node-2")
    assert sum(status.node_name == "node-2" for status in sim.shown) == 3
    with pytest.raises(TooManyNodesError):
        sim.hub.report(report(node="node-3"))
    assert sim.metric("dropped_total") > 0


def test_a_pull_that_did_not_fit_in_the_report_stays_unchanged() -> None:
    sim = SimulatedHub()
    sim.report(pull("a", layer("a", 10 * MIB)), pull("b", layer("b", 20 * MIB), at=NOW + 0.5, repository="b"), at=1)
    sim.report(pull("a", layer("a", 30 * MIB)), at=2, others=["b", "never heard of"])
    assert [(status.status, status.percent) for status in sim.shown] == [
        (PullPhase.DOWNLOADING, 30.0),
        (PullPhase.DOWNLOADING, 20.0),
    ]
    sim.report(pull("a", layer("a", 40 * MIB)), at=3)
    assert sim.shown[1].status is PullPhase.FAILED


def test_the_limit_on_pulls_per_node_is_also_enforced_across_several_reports() -> None:
    sim = SimulatedHub(Limits(active_per_node=3))
    names = [f"l{number}" for number in range(9)]
    for second, name in enumerate(names, start=1):
        others = [other for other in names if other != name]
        sim.report(pull(name, layer(name), repository=name, at=NOW), at=second, others=others)
    assert {status.repository for status in sim.shown} == set(names[:3])
    assert sim.metric("dropped_total") == 6
    sim.report(pull("l8", layer("l8"), repository="l8", status=DONE, at=NOW, ended_at=NOW + 9), at=10, others=names[:3])
    assert len(sim.shown) == 4, "ended pulls are published despite the limit"


def test_finished_pulls_do_not_count_towards_the_limit_on_live_pulls_per_node() -> None:
    sim = SimulatedHub(Limits(active_per_node=2))
    sim.report(*(pull(name, layer(name), repository=name) for name in "ab"), at=1)
    end = pull("a", layer("a"), repository="a", status=DONE, ended_at=NOW + 2)
    sim.report(end, pull("c", layer("c"), repository="c", at=NOW + 2), at=3, others=["b"])
    assert {status.repository for status in sim.shown} == {"a", "b", "c"}
    assert sim.metric("dropped_total") == 0


def test_bytes_are_still_counted_if_their_pull_had_to_wait_for_a_later_report() -> None:
    sim = SimulatedHub()
    sim.report(at=1)
    sim.report(pull("a", layer("a", MIB), at=NOW + 1.2), at=2, others=["live", "over"])
    live = pull("live", layer("live", 20 * MIB), repository="live", at=NOW + 1.4)
    over = pull("over", layer("o", 5 * MIB), repository="o", at=NOW + 1.6, status=DONE, ended_at=NOW + 1.9)
    sim.report(pull("a", layer("a", MIB), at=NOW + 1.2), live, over, at=3)
    assert sim.metric("pull_bytes_total", registry="docker.io") == 26 * MIB


def test_the_number_of_ingests_from_the_go_agent_is_limited_before_they_are_processed() -> None:
    sim = SimulatedHub(Limits(layers_per_pull=3))
    ingests = [
        PullState(image_ref=f"layer-sha256:{number:064x}", layers=[LayerState(digest="x", total_bytes=5)])
        for number in range(1000)
    ]
    sim.report(*ingests, at=1, boot="")
    assert [status.layer_count for status in sim.shown] == [3]
    assert sim.metric("dropped_total") == 997


def test_the_second_of_two_simultaneous_reports_from_the_same_node_is_rejected() -> None:
    sim = SimulatedHub()
    sim.report(at=1)
    with pytest.raises(TooSoonError):
        sim.hub.report(report(sequence=9))
    sim.report(node="node-2", at=1)


def test_a_pull_whose_end_time_was_corrected_to_a_later_time_still_expires() -> None:
    sim = SimulatedHub(HISTORY_TTL="60s")
    sim.report(pull("a", layer("a", 100 * MIB), at=NOW, status=DONE, ended_at=NOW + 1), at=1)
    inventory = sim.hub._pulls
    [ended] = inventory.nodes["node-1"].ended.values()
    ended.ended_at = NOW + 30
    for second in range(2, 90):
        sim.report(at=second)
    assert len(inventory.nodes["node-1"].ended) == 1
    sim.report(at=91)
    assert (len(inventory.nodes["node-1"].ended), inventory.bytes) == (0, 0)


def test_pulls_with_corrected_end_times_are_still_removed_to_make_room_for_new_pulls() -> None:
    sim = SimulatedHub(Limits(report_interval=0.0, history=20))
    inventory = sim.hub._pulls
    for number in range(1500):
        state = pull(f"p{number}", layer("a", MIB), at=NOW, status=DONE, ended_at=NOW + 1)
        sim.report(state, at=2 + number / 1000, node=f"n{number % 40}")
        for node in inventory.nodes.values():
            for ended in node.ended.values():
                ended.ended_at = NOW + 2
    assert sum(len(node.ended) for node in inventory.nodes.values()) == 20
    sim.at(4000)
    assert inventory.bytes == 0
