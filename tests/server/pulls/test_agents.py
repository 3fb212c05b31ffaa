"""Two machines with the same node name are shown as a conflict."""

import logging

from pulltrace.server.pulls.agents import Agents
from pulltrace.server.responses import NodeState
from pulltrace.wire import PullPhase
from tests.server.build import MIB, NOW, SimulatedHub, layer, pull


def test_two_agents_with_the_same_node_name_are_reported_as_a_conflict_but_their_pulls_do_not_fail(caplog) -> None:
    caplog.set_level(logging.INFO, "pulltrace")
    sim = SimulatedHub()
    for second in range(1, 40):
        mine = pull(f"lease-{second % 2}", layer("a", second * MIB), at=NOW, repository=f"r{second % 2}")
        sim.report(mine, at=second, boot=f"machine-{second % 2}", sequence=second)
    assert {status.status for status in sim.shown} == {PullPhase.DOWNLOADING}
    assert len(sim.shown) == 2
    (node,) = sim.hub.nodes()
    assert (node.state, "same name" in (node.problem or "")) == (NodeState.CONFLICT, True)
    assert caplog.messages.count("node.conflict") == 1
    assert b"pulltrace_agent_conflicts 1.0" in sim.metrics.render("", sim.hub.gauges())
    for second in range(40, 140):
        sim.report(
            pull("lease-0", layer("a", 50 * MIB), at=NOW, repository="r0"), at=second, boot="machine-0", sequence=second
        )
    assert next(sim.hub.nodes()).state is NodeState.REPORTING
    assert {status.status for status in sim.shown} == {PullPhase.DOWNLOADING, PullPhase.FAILED}


def test_a_single_late_report_from_a_replaced_agent_is_not_treated_as_a_conflict() -> None:
    agents = Agents()
    assert agents.accept("a", 1, NOW, 30)
    assert agents.accept("b", 1, NOW + 1, 30)
    assert not agents.accept("a", 2, NOW + 1.5, 30)
    assert agents.accept("b", 2, NOW + 2, 30)
    assert not agents.has_conflict(NOW + 2)
    assert not agents.accept("b", 2, NOW + 3, 30), "a duplicate"
    assert agents.accept("a", 3, NOW + 100, 30), "the other agent no longer reports"
    assert not agents.has_conflict(NOW + 100)
