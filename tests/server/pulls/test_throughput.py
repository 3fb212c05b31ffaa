"""The bytes per second from each registry over ten minutes."""

from pulltrace.server.pulls.throughput import MOST_REGISTRIES, STEP, STEPS, Throughput

NOW = 1_700_000_000.0


def test_complete_steps_are_returned_oldest_first() -> None:
    throughput = Throughput(NOW)
    throughput.add("a", 50, NOW)
    throughput.add("a", 50, NOW + STEP - 1)
    assert throughput.series(NOW + 1) == (NOW, {"a": []}), "the first step has not ended"
    throughput.add("b", 500, NOW + 2 * STEP)
    assert throughput.series(NOW + 3 * STEP) == (NOW, {"a": [20.0, 0.0, 0.0], "b": [0.0, 0.0, 100.0]})


def test_steps_are_kept_for_ten_minutes() -> None:
    throughput = Throughput(NOW)
    for step in range(2 * STEPS):
        throughput.add("a", step, NOW + step * STEP)
    since, rates = throughput.series(NOW + 2 * STEPS * STEP)
    assert since == NOW + (STEPS + 1) * STEP
    assert rates == {"a": [step / STEP for step in range(STEPS + 1, 2 * STEPS)]}


def test_an_unused_registry_is_forgotten_and_a_pause_counts_as_zero() -> None:
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


def test_a_clock_that_is_set_back_loses_nothing() -> None:
    throughput = Throughput(NOW)
    throughput.add("a", 5, NOW + STEP)
    throughput.add("a", 5, NOW)
    assert throughput.series(NOW + 2 * STEP)[1] == {"a": [0.0, 2.0]}
