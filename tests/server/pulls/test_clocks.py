"""Tests for the start and end times of pulls on nodes whose clocks differ from the server's."""

from pulltrace.server.pulls.clocks import LATE_REPORTS
from pulltrace.wire import PullPhase, to_time
from tests.server.build import MIB, NOW, SimulatedHub, layer, pull

DONE = PullPhase.COMPLETED


def test_timestamps_from_a_node_whose_clock_is_hours_off_are_corrected() -> None:
    sim = SimulatedHub()
    ahead = 5 * 3600.0
    begun = layer("a", MIB, started_at=to_time(NOW + ahead))
    sim.report(pull("l", begun, at=NOW + ahead), at=1, timestamp=to_time(NOW + 1 + ahead))
    assert sim.one.started_at == to_time(NOW)
    assert sim.one.layers
    assert sim.one.layers[0].started_at == to_time(NOW)


def test_a_late_report_is_not_mistaken_for_a_slow_clock() -> None:
    sim = SimulatedHub()
    sim.report(pull("l", layer("a", 1), at=NOW), timestamp=to_time(NOW + 1), at=1)
    sim.report(pull("l", layer("a"), at=NOW, status=DONE, ended_at=NOW + 2), timestamp=to_time(NOW + 2), at=7)
    assert sim.one.completed_at == to_time(NOW + 2)


def test_the_time_of_a_node_whose_clock_was_set_back_is_accepted_after_a_few_reports() -> None:
    sim = SimulatedHub()
    sim.report(timestamp=to_time(NOW + 1), at=1)
    for second in range(2, 2 + LATE_REPORTS):
        sim.report(timestamp=to_time(NOW + second - 3600), at=second)
    sim.report(pull("l", layer("a", 1), at=NOW + 20 - 3600), timestamp=to_time(NOW + 21 - 3600), at=21)
    assert sim.one.started_at == to_time(NOW + 20)


def test_a_small_difference_between_clocks_is_ignored() -> None:
    sim = SimulatedHub()
    sim.report(pull("l", layer("a", MIB), at=NOW), at=1, timestamp=to_time(NOW + 1.5))
    assert sim.one.started_at == to_time(NOW)


def test_a_start_time_in_the_future_or_in_the_distant_past_is_corrected() -> None:
    sim = SimulatedHub()
    sim.report(pull("future", layer("a"), at=NOW + 1e6), pull("past", layer("b"), at=NOW - 1e9, repository="b"), at=1)
    assert {status.started_at for status in sim.shown} == {to_time(NOW + 1)}
