"""A few nodes send reports: which pulls the server publishes after each one, without Kubernetes."""

import pytest

from pulltrace.server.limits import Limits
from pulltrace.server.models import NodeState
from pulltrace.server.pulls.hub import TooSoonError
from pulltrace.server.pulls.inventory import AGENT_GONE, ENDED_UNSEEN, TooManyNodesError
from pulltrace.server.pulls.node import LATE_REPORTS
from pulltrace.wire import UNKNOWN_IMAGE, ErrorReason, LayerPhase, LayerState, PullPhase, PullState, to_time
from tests.server.build import MIB, NOW, SimulatedHub, layer, pull, report

DONE = PullPhase.COMPLETED


def test_a_pull_is_published_from_start_to_end() -> None:
    sim = SimulatedHub()
    sim.report(at=1)
    sim.report(pull("l", at=NOW + 2, status=PullPhase.RESOLVING, total_known=False), at=3)
    assert (sim.one.status, sim.one.percent, sim.one.total_known) == (PullPhase.RESOLVING, 0.0, False)
    sim.report(pull("l", layer("a", 0), layer("b", 0, state=LayerPhase.WAITING), at=NOW + 2), at=4)
    assert (sim.one.total_bytes, sim.one.layer_count) == (200 * MIB, 2)
    sim.report(pull("l", layer("a", 50 * MIB), layer("b", 0, state=LayerPhase.WAITING), at=NOW + 2), at=9)
    assert (sim.one.percent, sim.one.bytes_per_sec) == (25.0, 10 * MIB)
    ready = (layer(name, 100 * MIB, state=LayerPhase.EXTRACTED) for name in "ab")
    sim.report(
        pull("l", *ready, at=NOW + 2, status=DONE, ended_at=NOW + 19, image_ref="docker.io/library/nginx:1"), at=20
    )
    status = sim.one
    assert (status.status, status.percent, status.image_ref) == (DONE, 100.0, "docker.io/library/nginx:1")
    assert (status.completed_at, status.layers_done, status.layers_extracted) == (to_time(NOW + 19), 2, 2)
    assert (status.bytes_per_sec, status.eta_seconds, status.attempt) == (0.0, None, 1)
    assert sim.metric("pulls_total", registry="docker.io", result="completed") == 1
    assert sim.metric("pull_bytes_total", registry="docker.io") == 200 * MIB


def test_two_simultaneous_pulls_have_separate_rates() -> None:
    sim = SimulatedHub()
    for second in range(1, 13):
        one = pull("one", layer("a", second * MIB), repository="one", image_ref="docker.io/one")
        two = pull("two", layer("b", 4 * second * MIB), repository="two", image_ref="docker.io/two")
        sim.report(one, two, at=second)
    rates = {status.image_ref: status.bytes_per_sec for status in sim.shown}
    assert rates == {"docker.io/one": MIB, "docker.io/two": 4 * MIB}


def test_the_rate_of_the_second_pull_on_a_node_is_also_correct() -> None:
    sim = SimulatedHub()
    sim.report(pull("first", layer("a", 90 * MIB)), at=1)
    sim.report(pull("first", layer("a", 100 * MIB), status=DONE, ended_at=NOW + 2), at=2)
    for second in range(10, 16):
        sim.report(pull("second", layer("z", (second - 10) * MIB), at=NOW + 10), at=second)
    assert sim.shown[-1].bytes_per_sec == MIB


def test_an_import_shows_its_progress_but_its_bytes_do_not_count_as_fetched() -> None:
    sim = SimulatedHub()
    sim.report(at=1)
    for second in range(2, 6):
        archive = pull(
            "import", layer("a", second * MIB), image_ref=UNKNOWN_IMAGE, imported=True, registry=None, repository=None
        )
        sim.report(archive, at=second)
    assert (sim.one.imported, sim.one.downloaded_bytes, sim.one.registry) == (True, 5 * MIB, None)
    assert sim.metric("pull_bytes_total", registry="unknown") in (None, 0)


def test_a_layer_that_another_pull_fetches_counts_as_progress_but_not_in_the_rate() -> None:
    sim = SimulatedHub()
    for second in range(1, 6):
        shared = second * MIB
        first = pull("first", layer("s", shared))
        second_ = pull("second", layer("s", shared, fetched_by="first"), repository="other", at=NOW + 0.5)
        sim.report(first, second_, at=second)
    owner, waiter = sim.shown
    assert (owner.bytes_per_sec, waiter.bytes_per_sec) == (MIB, 0.0)
    assert waiter.downloaded_bytes == 5 * MIB
    assert waiter.layers
    assert waiter.layers[0].fetched_by == owner.id
    assert sim.metric("pull_bytes_total", registry="docker.io") == 5 * MIB


def test_bytes_that_are_already_on_the_node_need_not_be_fetched() -> None:
    sim = SimulatedHub()
    cached = layer("c", 0, total=300 * MIB, state=LayerPhase.CACHED, cached_bytes=300 * MIB)
    resumed = layer("r", 10 * MIB, cached_bytes=40 * MIB)
    sim.report(pull("l", cached, resumed), at=1)
    status = sim.one
    assert (status.image_bytes, status.cached_bytes, status.total_bytes) == (400 * MIB, 340 * MIB, 60 * MIB)
    assert (status.downloaded_bytes, status.percent, status.layers_cached) == (10 * MIB, 16.6, 1)


def test_a_fully_cached_image_is_complete_without_a_download() -> None:
    sim = SimulatedHub()
    cached = layer("c", 0, state=LayerPhase.CACHED, cached_bytes=100 * MIB)
    sim.report(pull("l", cached, status=DONE, ended_at=NOW + 1), at=1)
    assert (sim.one.percent, sim.one.downloaded_bytes, sim.one.total_bytes) == (100.0, 0, 0)
    assert sim.metric("pull_bytes_total", registry="docker.io") == 0
    assert sim.metric("pull_cached_bytes_total", registry="docker.io") == 100 * MIB


def test_a_nearly_complete_pull_is_not_shown_as_100_percent() -> None:
    sim = SimulatedHub()
    sim.report(pull("l", layer("a", 100 * MIB - 1)), at=1)
    assert sim.one.percent == 99.9


def test_a_cancelled_pull_has_failed_and_keeps_its_percentage() -> None:
    sim = SimulatedHub()
    sim.report(pull("l", layer("a", 30 * MIB)), at=1)
    sim.report(pull("l", layer("a", 30 * MIB), status=PullPhase.FAILED, ended_at=NOW + 2, error="cancelled"), at=2)
    assert (sim.one.status, sim.one.percent) == (PullPhase.FAILED, 30.0)
    assert (sim.one.error, sim.one.error_reason) == ("cancelled", ErrorReason.UNKNOWN)
    assert sim.metric("pull_errors_total", registry="docker.io", reason="unknown") == 1


def test_a_pull_that_its_node_no_longer_reports_fails_with_a_reason() -> None:
    sim = SimulatedHub()
    sim.report(pull("l", layer("a", 30 * MIB)), at=1)
    sim.report(at=2)
    assert (sim.one.status, sim.one.error, sim.one.percent) == (PullPhase.FAILED, ENDED_UNSEEN, 30.0)


def test_a_presumed_end_is_corrected_by_the_agent() -> None:
    sim = SimulatedHub()
    sim.report(pull("l", layer("a", 30 * MIB)), at=1)
    sim.report(at=2)
    sim.report(pull("l", layer("a", 100 * MIB), status=DONE, ended_at=NOW + 2), at=3)
    assert (sim.one.status, sim.one.percent, sim.one.error) == (DONE, 100.0, None)


def test_the_percentage_never_falls_within_an_attempt() -> None:
    sim = SimulatedHub()
    sim.report(pull("l", layer("a", 80 * MIB)), at=1)
    sim.report(pull("l", layer("a", 1 * MIB)), at=2)
    assert (sim.one.percent, sim.one.downloaded_bytes) == (80.0, MIB)


def test_the_time_to_ready_includes_unpacking_at_the_rate_measured_on_the_node() -> None:
    sim = SimulatedHub()
    begun, over = to_time(NOW + 2), to_time(NOW + 4)
    sim.report(pull("old", layer("o", 100 * MIB, state=LayerPhase.EXTRACTING, extract_started_at=begun)), at=2)
    sim.report(pull("new", layer("a", 0)), pull("old", layer("o", 100 * MIB)), at=3)
    assert sim.shown[0].eta_seconds is None, "the unpacking rate of this node is unknown"
    extracted = layer("o", 100 * MIB, state=LayerPhase.EXTRACTED, extract_started_at=begun, extracted_at=over)
    sim.report(pull("new", layer("a", 20 * MIB)), pull("old", extracted, status=DONE, ended_at=NOW + 4), at=5)
    eta = next(status.eta_seconds for status in sim.shown if status.status is not DONE)
    assert eta == 80 / 10 + 2.0


def test_the_time_to_ready_decreases_while_a_layer_is_unpacked() -> None:
    sim = SimulatedHub()
    unpacked = {"extract_started_at": to_time(NOW), "extracted_at": to_time(NOW + 10)}
    sim.report(pull("old", layer("o", 100 * MIB, state=LayerPhase.EXTRACTING, extract_started_at=to_time(NOW))), at=1)
    over = layer("o", 100 * MIB, state=LayerPhase.EXTRACTED, **unpacked)
    sim.report(pull("old", over, status=DONE, ended_at=NOW + 10), at=10)
    large = layer("a", 200 * MIB, 200 * MIB, state=LayerPhase.EXTRACTING, extract_started_at=to_time(NOW + 12))
    last = layer("b", 50 * MIB, 50 * MIB, state=LayerPhase.DOWNLOADED)

    def left(at: float) -> tuple[float | None, str | None]:
        sim.report(pull("new", large, last, at=NOW + 11, status=PullPhase.EXTRACTING), at=at)
        status = next(status for status in sim.shown if status.status is not DONE)
        return status.eta_seconds, status.eta_missing

    assert [left(at) for at in (12, 17, 32, 41)] == [(25.0, None), (20.0, None), (5.0, None), (5.0, None)]
    assert left(43) == (None, "unpacking takes longer than usual on this node")


def test_a_slow_layer_does_not_hide_the_time_to_ready_of_a_download() -> None:
    sim = SimulatedHub()
    unpacked = {"extract_started_at": to_time(NOW), "extracted_at": to_time(NOW + 1)}
    first = layer("o", 100 * MIB, state=LayerPhase.EXTRACTING, extract_started_at=to_time(NOW))
    for second in range(2, 61):
        rest = layer("a", second * MIB, 100 * MIB)
        slow = layer("s", MIB, MIB, state=LayerPhase.EXTRACTING, extract_started_at=to_time(NOW + 2))
        first = layer("o", 100 * MIB, state=LayerPhase.EXTRACTED, **unpacked) if second > 2 else first
        sim.report(pull("l", first, slow, rest), at=second)
    assert sim.one.eta_seconds == 41.0


def test_a_download_without_progress_is_stalled_until_it_continues() -> None:
    sim = SimulatedHub(STALL_TIMEOUT="5s")
    for second in range(1, 8):
        sim.report(pull("l", layer("a", MIB)), at=second)
    assert sim.one.stalled_since == to_time(NOW + 1)
    assert sim.hub.gauges().stalled == 1
    sim.report(pull("l", layer("a", 2 * MIB)), at=8)
    assert sim.one.stalled_since is None


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(layer("b", 100 * MIB, state=LayerPhase.EXTRACTING), id="unpacking"),
        pytest.param(layer("b", 0, fetched_by="another"), id="another pull's layer"),
    ],
)
def test_a_pull_that_waits_for_something_else_is_not_stalled(other) -> None:
    sim = SimulatedHub(STALL_TIMEOUT="5s")
    for second in range(1, 12):
        sim.report(pull("l", layer("a", MIB), other), at=second)
    assert sim.one.stalled_since is None


def test_duplicate_and_late_and_reordered_reports_change_nothing() -> None:
    sim = SimulatedHub()
    sim.report(pull("l", layer("a", 10 * MIB)), at=1, sequence=5)
    for second, sequence in enumerate((5, 4, 1), start=2):
        sim.report(pull("l", layer("a", 1 * MIB)), pull("ghost", layer("g")), at=second, sequence=sequence)
    assert sim.one.downloaded_bytes == 10 * MIB
    sim.report(pull("l", layer("a", 20 * MIB)), at=6, boot="boot-2", sequence=1)
    sim.report(pull("ghost", layer("g")), at=7, boot="boot-1", sequence=99)
    assert sim.one.downloaded_bytes == 20 * MIB


def test_a_restarted_agent_continues_its_pulls() -> None:
    sim = SimulatedHub()
    sim.report(pull("l", layer("a", 10 * MIB)), at=1)
    before = sim.one.id
    sim.report(pull("l", layer("a", 30 * MIB)), at=5, boot="boot-2", sequence=1)
    assert (sim.one.id, sim.one.downloaded_bytes, sim.one.status) == (
        before,
        30 * MIB,
        PullPhase.DOWNLOADING,
    )


def test_a_node_that_stops_reporting_is_late_then_lost_then_forgotten() -> None:
    sim = SimulatedHub(HISTORY_TTL="60s")
    sim.report(pull("l", layer("a", 10 * MIB)), at=0, heartbeat_seconds=10.0)

    def state() -> NodeState | None:
        return next((node.state for node in sim.hub.nodes()), None)

    sim.at(29)
    assert state() is NodeState.REPORTING
    sim.at(31)
    assert state() is NodeState.LATE
    assert sim.one.status is PullPhase.DOWNLOADING
    sim.at(61)
    assert state() is NodeState.LOST
    assert (sim.one.status, sim.one.error) == (PullPhase.FAILED, AGENT_GONE)
    sim.at(130)
    assert state() is None
    assert sim.shown == []


def test_the_pulls_of_a_lost_node_are_live_again_when_the_node_returns() -> None:
    sim = SimulatedHub()
    sim.report(pull("l", layer("a", 10 * MIB)), at=0)
    before = sim.one.id
    sim.at(70)
    sim.report(pull("l", layer("a", 40 * MIB)), at=71)
    assert (sim.one.id, sim.one.status, sim.one.error) == (before, PullPhase.DOWNLOADING, None)
    sim.report(pull("l", layer("a", 60 * MIB)), at=73)
    assert sim.one.bytes_per_sec == 10 * MIB, "the rate leaves out bytes that arrived while no agent reported"


def test_a_pull_that_is_reported_again_as_queued_is_shown_as_resolving() -> None:
    sim = SimulatedHub()
    sim.report(pull("l", layer("a", MIB)), at=1)
    sim.report(at=2)
    sim.report(pull("l", status=PullPhase.QUEUED), at=3)
    assert (sim.one.status, sim.one.completed_at) == (PullPhase.RESOLVING, None)


def test_times_from_a_clock_that_is_hours_off_are_corrected() -> None:
    sim = SimulatedHub()
    ahead = 5 * 3600.0
    begun = layer("a", MIB, started_at=to_time(NOW + ahead))
    sim.report(pull("l", begun, at=NOW + ahead), at=1, timestamp=to_time(NOW + 1 + ahead))
    assert sim.one.started_at == to_time(NOW)
    assert sim.one.layers
    assert sim.one.layers[0].started_at == to_time(NOW)


def test_a_late_report_does_not_count_as_a_slow_clock() -> None:
    sim = SimulatedHub()
    sim.report(pull("l", layer("a", 1), at=NOW), timestamp=to_time(NOW + 1), at=1)
    sim.report(pull("l", layer("a"), at=NOW, status=DONE, ended_at=NOW + 2), timestamp=to_time(NOW + 2), at=7)
    assert sim.one.completed_at == to_time(NOW + 2)


def test_a_clock_that_was_set_back_is_accepted_after_some_reports() -> None:
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


def test_no_pull_begins_in_the_future_or_in_the_distant_past() -> None:
    sim = SimulatedHub()
    sim.report(pull("future", layer("a"), at=NOW + 1e6), pull("past", layer("b"), at=NOW - 1e9, repository="b"), at=1)
    assert {status.started_at for status in sim.shown} == {to_time(NOW + 1)}


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


def test_a_pull_that_is_older_than_the_history_is_not_accepted() -> None:
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


def test_nodes_and_pulls_and_layers_are_limited_and_dropped_ones_are_counted() -> None:
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


def test_a_pull_that_did_not_fit_into_a_report_stays_unchanged() -> None:
    sim = SimulatedHub()
    sim.report(pull("a", layer("a", 10 * MIB)), pull("b", layer("b", 20 * MIB), at=NOW + 0.5, repository="b"), at=1)
    sim.report(pull("a", layer("a", 30 * MIB)), at=2, others=["b", "never heard of"])
    assert [(status.status, status.percent) for status in sim.shown] == [
        (PullPhase.DOWNLOADING, 30.0),
        (PullPhase.DOWNLOADING, 20.0),
    ]
    sim.report(pull("a", layer("a", 40 * MIB)), at=3)
    assert sim.shown[1].status is PullPhase.FAILED


def test_the_limit_of_pulls_per_node_also_holds_if_each_report_contains_another_pull() -> None:
    sim = SimulatedHub(Limits(active_per_node=3))
    names = [f"l{number}" for number in range(9)]
    for second, name in enumerate(names, start=1):
        others = [other for other in names if other != name]
        sim.report(pull(name, layer(name), repository=name, at=NOW), at=second, others=others)
    assert {status.repository for status in sim.shown} == set(names[:3])
    assert sim.metric("dropped_total") == 6
    sim.report(pull("l8", layer("l8"), repository="l8", status=DONE, at=NOW, ended_at=NOW + 9), at=10, others=names[:3])
    assert len(sim.shown) == 4, "ended pulls are published despite the limit"


def test_ended_pulls_make_room_for_new_ones() -> None:
    sim = SimulatedHub(Limits(active_per_node=2))
    sim.report(*(pull(name, layer(name), repository=name) for name in "ab"), at=1)
    end = pull("a", layer("a"), repository="a", status=DONE, ended_at=NOW + 2)
    sim.report(end, pull("c", layer("c"), repository="c", at=NOW + 2), at=3, others=["b"])
    assert {status.repository for status in sim.shown} == {"a", "b", "c"}
    assert sim.metric("dropped_total") == 0


def test_the_bytes_of_pulls_that_had_to_wait_for_a_later_report_are_counted() -> None:
    sim = SimulatedHub()
    sim.report(at=1)
    sim.report(pull("a", layer("a", MIB), at=NOW + 1.2), at=2, others=["live", "over"])
    live = pull("live", layer("live", 20 * MIB), repository="live", at=NOW + 1.4)
    over = pull("over", layer("o", 5 * MIB), repository="o", at=NOW + 1.6, status=DONE, ended_at=NOW + 1.9)
    sim.report(pull("a", layer("a", MIB), at=NOW + 1.2), live, over, at=3)
    assert sim.metric("pull_bytes_total", registry="docker.io") == 26 * MIB


def test_ingests_of_the_go_agent_are_limited_before_they_are_processed() -> None:
    sim = SimulatedHub(Limits(layers_per_pull=3))
    ingests = [
        PullState(image_ref=f"layer-sha256:{number:064x}", layers=[LayerState(digest="x", total_bytes=5)])
        for number in range(1000)
    ]
    sim.report(*ingests, at=1, boot="")
    assert [status.layer_count for status in sim.shown] == [3]
    assert sim.metric("dropped_total") == 997


def test_the_second_of_two_simultaneous_reports_from_one_node_is_rejected() -> None:
    sim = SimulatedHub()
    sim.report(at=1)
    with pytest.raises(TooSoonError):
        sim.hub.report(report(sequence=9))
    sim.report(node="node-2", at=1)


def test_the_duration_of_each_phase_is_measured() -> None:
    sim = SimulatedHub()
    sim.report(at=0)
    sim.report(pull("l", at=NOW + 1, status=PullPhase.RESOLVING, total_known=False), at=2)
    sim.report(pull("l", layer("a", 1), at=NOW + 1), at=4)
    sim.report(pull("l", layer("a", 100 * MIB), at=NOW + 1, status=PullPhase.EXTRACTING), at=14)
    sim.report(pull("l", layer("a", 100 * MIB), at=NOW + 1, status=DONE, ended_at=NOW + 16), at=17)
    spent = {phase: sim.metric("pull_phase_duration_seconds_sum", phase=phase) for phase in PullPhase}
    assert {phase: seconds for phase, seconds in spent.items() if seconds} == {
        "resolving": 3.0,
        "downloading": 10.0,
        "extracting": 2.0,
    }
