"""Tests for the rows that the server publishes while a few nodes report to it, without Kubernetes."""

import pytest

from pulltrace.server.pulls.inventory import AGENT_GONE, ENDED_UNSEEN
from pulltrace.server.responses import NodeState
from pulltrace.wire import UNKNOWN_IMAGE, ErrorReason, LayerPhase, PullPhase, to_time
from tests.server.build import MIB, NOW, SimulatedHub, layer, pull

DONE = PullPhase.COMPLETED


def test_a_pull_is_published_from_start_to_finish() -> None:
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


def test_bytes_fetched_by_another_pull_are_counted_as_progress_but_do_not_increase_the_rate() -> None:
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


def test_a_cancelled_pull_has_the_status_failed_and_keeps_its_percentage() -> None:
    sim = SimulatedHub()
    sim.report(pull("l", layer("a", 30 * MIB)), at=1)
    sim.report(pull("l", layer("a", 30 * MIB), status=PullPhase.FAILED, ended_at=NOW + 2, error="cancelled"), at=2)
    assert (sim.one.status, sim.one.percent) == (PullPhase.FAILED, 30.0)
    assert (sim.one.error, sim.one.error_reason) == ("cancelled", ErrorReason.UNKNOWN)
    assert sim.metric("pull_errors_total", registry="docker.io", reason="unknown") == 1


def test_a_pull_that_its_node_no_longer_reports_is_marked_as_failed_with_a_reason() -> None:
    sim = SimulatedHub()
    sim.report(pull("l", layer("a", 30 * MIB)), at=1)
    sim.report(at=2)
    assert (sim.one.status, sim.one.error, sim.one.percent) == (PullPhase.FAILED, ENDED_UNSEEN, 30.0)


def test_a_presumed_failure_is_corrected_by_a_later_report_from_the_agent() -> None:
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


@pytest.mark.parametrize(
    ("below", "times"),
    [
        pytest.param({"extracted_at": to_time(NOW - 600)}, {}, id="the end of the download is unknown"),
        pytest.param({}, {"completed_at": to_time(NOW - 600)}, id="the end of the layer below is unknown"),
    ],
)
def test_a_layer_does_not_count_for_the_unpacking_rate_if_the_time_of_its_turn_is_unknown(below, times) -> None:
    sim = SimulatedHub()
    cached = layer("c", 100 * MIB, state=LayerPhase.CACHED, **below)
    sim.report(pull("old", cached, layer("o", 10 * MIB), at=NOW), at=1)
    extracted = layer("o", 100 * MIB, state=LayerPhase.EXTRACTED, extracted_at=to_time(NOW + 2), **times)
    sim.report(pull("old", cached, extracted, status=DONE, ended_at=NOW + 2), at=3)
    for second in range(4, 9):
        sim.report(pull("new", layer("a", second * MIB), at=NOW + 4), at=second)
    status = next(status for status in sim.shown if status.status is not DONE)
    assert (status.eta_seconds, status.eta_missing) == (
        None,
        "no node with this snapshotter has unpacked a layer yet",
    )


def test_the_time_to_ready_is_unknown_until_the_rate_has_been_measured() -> None:
    sim = SimulatedHub()
    times = {"extracted_at": to_time(NOW + 1), "extract_started_at": to_time(NOW)}
    sim.report(pull("old", layer("o", 100 * MIB, state=LayerPhase.EXTRACTING), at=NOW), at=0)
    sim.report(pull("old", layer("o", 100 * MIB, state=LayerPhase.EXTRACTED, **times), status=DONE), at=1)
    sim.report(pull("new", layer("a", 0), at=NOW + 2), at=2)
    seen = []
    for at, received in ((3, 1), (4, 21), (5, 41)):
        sim.report(pull("new", layer("a", received * MIB), at=NOW + 2), at=at)
        seen.append(next(status.eta_seconds for status in sim.shown if status.status is not DONE))
    assert seen == [None, 8.5, 5.3]


def test_the_time_to_ready_decreases_while_a_layer_is_being_unpacked() -> None:
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


def test_a_slowly_unpacking_layer_does_not_hide_the_time_to_ready_while_other_layers_are_still_downloading() -> None:
    sim = SimulatedHub()
    unpacked = {"extract_started_at": to_time(NOW), "extracted_at": to_time(NOW + 1)}
    first = layer("o", 100 * MIB, state=LayerPhase.EXTRACTING, extract_started_at=to_time(NOW))
    for second in range(2, 61):
        rest = layer("a", second * MIB, 100 * MIB)
        slow = layer("s", MIB, MIB, state=LayerPhase.EXTRACTING, extract_started_at=to_time(NOW + 2))
        first = layer("o", 100 * MIB, state=LayerPhase.EXTRACTED, **unpacked) if second > 2 else first
        sim.report(pull("l", first, slow, rest), at=second)
    assert sim.one.eta_seconds == 41.0


def test_a_download_that_makes_no_progress_is_stalled_until_it_resumes() -> None:
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
def test_a_pull_is_not_stalled_while_it_is_unpacking_a_layer_or_waiting_for_a_layer_of_another_pull(other) -> None:
    sim = SimulatedHub(STALL_TIMEOUT="5s")
    for second in range(1, 12):
        sim.report(pull("l", layer("a", MIB), other), at=second)
    assert sim.one.stalled_since is None


def test_duplicate_late_or_reordered_reports_do_not_change_anything() -> None:
    sim = SimulatedHub()
    sim.report(pull("l", layer("a", 10 * MIB)), at=1, sequence=5)
    for second, sequence in enumerate((5, 4, 1), start=2):
        sim.report(pull("l", layer("a", 1 * MIB)), pull("ghost", layer("g")), at=second, sequence=sequence)
    assert sim.one.downloaded_bytes == 10 * MIB
    sim.report(pull("l", layer("a", 20 * MIB)), at=6, boot="boot-2", sequence=1)
    sim.report(pull("ghost", layer("g")), at=7, boot="boot-1", sequence=99)
    assert sim.one.downloaded_bytes == 20 * MIB


def test_pulls_keep_their_rows_when_their_agent_is_restarted() -> None:
    sim = SimulatedHub()
    sim.report(pull("l", layer("a", 10 * MIB)), at=1)
    before = sim.one.id
    sim.report(pull("l", layer("a", 30 * MIB)), at=5, boot="boot-2", sequence=1)
    assert (sim.one.id, sim.one.downloaded_bytes, sim.one.status) == (
        before,
        30 * MIB,
        PullPhase.DOWNLOADING,
    )


def test_a_node_that_stops_reporting_is_marked_as_late_then_as_lost_and_is_finally_forgotten() -> None:
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


def test_the_pulls_of_a_lost_node_become_live_again_when_the_node_returns() -> None:
    sim = SimulatedHub()
    sim.report(pull("l", layer("a", 10 * MIB)), at=0)
    before = sim.one.id
    sim.at(70)
    sim.report(pull("l", layer("a", 40 * MIB)), at=71)
    assert (sim.one.id, sim.one.status, sim.one.error) == (before, PullPhase.DOWNLOADING, None)
    sim.report(pull("l", layer("a", 60 * MIB)), at=73)
    assert sim.one.bytes_per_sec == 10 * MIB, "the rate leaves out bytes that arrived while no agent reported"


def test_a_pull_that_reappears_as_queued_is_shown_as_resolving() -> None:
    sim = SimulatedHub()
    sim.report(pull("l", layer("a", MIB)), at=1)
    sim.report(at=2)
    sim.report(pull("l", status=PullPhase.QUEUED), at=3)
    assert (sim.one.status, sim.one.completed_at) == (PullPhase.RESOLVING, None)


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
