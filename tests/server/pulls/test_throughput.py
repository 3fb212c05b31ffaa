"""Tests for each registry's throughput in the last ten minutes, and for the counts of pulls that ended in that time."""

from pulltrace.server.pulls.throughput import MOST_REGISTRIES, STEP, STEPS, Throughput
from pulltrace.wire import SNAPSHOTTER, ErrorReason, PullPhase
from tests.server.build import MIB, NOW, SimulatedHub, layer, pull

ENDS = {
    "completed": (PullPhase.COMPLETED, None),
    "failed": (PullPhase.FAILED, ErrorReason.NOT_FOUND),
    "canceled": (PullPhase.FAILED, ErrorReason.CANCELED),
}


def test_complete_throughput_steps_are_returned_oldest_first() -> None:
    throughput = Throughput(NOW)
    throughput.add("a", 50, NOW)
    throughput.add("a", 50, NOW + STEP - 1)
    assert throughput.series(NOW + 1) == (NOW, {"a": []}), "the first step has not ended"
    throughput.add("b", 500, NOW + 2 * STEP)
    assert throughput.series(NOW + 3 * STEP) == (NOW, {"a": [20.0, 0.0, 0.0], "b": [0.0, 0.0, 100.0]})


def test_throughput_steps_are_kept_for_ten_minutes() -> None:
    throughput = Throughput(NOW)
    for step in range(2 * STEPS):
        throughput.add("a", step, NOW + step * STEP)
    since, rates = throughput.series(NOW + 2 * STEPS * STEP)
    assert since == NOW + (STEPS + 1) * STEP
    assert rates == {"a": [step / STEP for step in range(STEPS + 1, 2 * STEPS)]}


def test_a_registry_without_recent_pulls_is_removed_and_a_pause_counts_as_zero_throughput() -> None:
    throughput = Throughput(NOW)
    throughput.add("a", 5, NOW)
    throughput.add("b", 5, NOW + STEPS * STEP - 1)
    _, rates = throughput.series(NOW + STEPS * STEP)
    assert list(rates) == ["b"]
    assert throughput.series(NOW + 10 * STEPS * STEP)[1] == {}


def test_the_number_of_registries_is_bounded() -> None:
    throughput = Throughput(NOW)
    for number in range(2 * MOST_REGISTRIES):
        throughput.add(f"r{number}", 5, NOW)
    _, rates = throughput.series(NOW + STEP)
    assert len(rates) == MOST_REGISTRIES + 1
    assert rates["other"] == [MOST_REGISTRIES * 5 / STEP]


def test_no_bytes_are_lost_when_the_clock_is_set_back() -> None:
    throughput = Throughput(NOW)
    throughput.add("a", 5, NOW + STEP)
    throughput.add("a", 5, NOW)
    assert throughput.series(NOW + 2 * STEP)[1] == {"a": [0.0, 2.0]}


def test_the_throughput_totals_include_the_finished_steps_and_the_current_step() -> None:
    throughput = Throughput(NOW)
    for step in range(STEPS + 10):
        throughput.add("a", 10, NOW + step * STEP)
        throughput.end("completed" if step % 2 else "failed", NOW + step * STEP)
    now = NOW + (STEPS + 9) * STEP
    since, _ = throughput.series(now)
    assert since == NOW + 10 * STEP
    assert throughput.totals(now) == ({"a": 10 * STEPS}, {"completed": STEPS // 2, "failed": STEPS // 2})
    downloaded, ended = throughput.totals(now + STEPS * STEP)
    assert (downloaded.total(), ended["completed"], ended["canceled"]) == (0, 0, 0)


def test_each_finished_attempt_is_counted_once_with_its_result() -> None:
    sim = SimulatedHub()
    names = ["completed", "completed", "failed", "canceled"]
    for seconds, ended in ((1, {}), (2, {"ended_at": NOW + 2}), (3, {"ended_at": NOW + 2})):
        pulls = []
        for number, name in enumerate(names):
            status, reason = ENDS[name] if ended else (PullPhase.DOWNLOADING, None)
            image = {"repository": f"acme/{number}", "image_ref": f"docker.io/acme/{number}:1"}
            more = {"status": status, "error_reason": reason, **ended, **image}
            pulls.append(pull(f"lease-{number}", layer("a", seconds), **more))
        sim.report(*pulls, at=seconds)
    assert sim.hub.throughput.totals(sim.now)[1] == {"completed": 2, "failed": 1, "canceled": 1}
    counted = {name: sim.metric("pulls_total", registry="docker.io", result=name) for name in ENDS}
    assert counted == {"completed": 2.0, "failed": 1.0, "canceled": 1.0}


def test_the_throughput_excludes_only_the_bytes_that_the_snapshotter_fetches_if_containerd_fetches_the_rest() -> None:
    sim = SimulatedHub()
    for at, plain, lazy in ((1, 0, 0), (3, 50 * MIB, 5000 * MIB)):
        layers = layer("plain", plain, 100 * MIB), layer("lazy", lazy, 5000 * MIB, fetched_by=SNAPSHOTTER)
        sim.report(pull("mixed", *layers, at=NOW, registry="mixed"), at=at)
    assert sim.metric("pull_bytes_total", registry="mixed") == 5050 * MIB
    assert sim.hub.throughput.totals(NOW + 3)[0]["mixed"] == 50 * MIB
