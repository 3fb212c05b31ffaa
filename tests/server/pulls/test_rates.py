import pytest

from pulltrace.server.pulls.rates import Speed, Unpacking, seconds_left

MIB = 1 << 20


def grow(speed: Speed, rate: float, start: float, end: float, step: int = 1) -> None:
    """Add one sample per second, with a byte count that grows steadily in steps of ``step`` bytes."""
    for second in range(int(start) + 1, int(end) + 1):
        speed.saw(int(rate * (second - start)) // step * step, float(second))


def test_the_first_sample_is_the_baseline_and_does_not_produce_a_rate() -> None:
    assert Speed(500 * MIB, 100.0).rate(101.0) == 0.0


def test_the_rate_of_a_resumed_ingest_excludes_the_bytes_that_were_already_on_the_node() -> None:
    speed = Speed(500 * MIB, 0.0)
    speed.saw(510 * MIB, 5.0)
    assert speed.rate(5.0) == 2 * MIB


def test_a_steady_rate_is_reported_unchanged() -> None:
    speed = Speed(0, 0.0)
    grow(speed, 3 * MIB, 0, 60, step=MIB)
    assert speed.rate(60.0) == pytest.approx(3 * MIB)


def test_the_rate_follows_a_change_in_speed_within_the_window() -> None:
    speed = Speed(0, 0.0)
    speed.saw(100 * MIB, 10.0)
    for second in range(11, 31):
        speed.saw(100 * MIB + (second - 10) * MIB, float(second))
    assert speed.rate(30.0) == pytest.approx(MIB)


@pytest.mark.parametrize("rate", [60_000, 100_000, 200_000, 500_000])
def test_the_rate_of_a_slow_download_does_not_jump_if_the_offset_grows_in_one_mebibyte_steps(rate: int) -> None:
    speed = Speed(0, 0.0)
    seen = []
    for second in range(1, 200):
        speed.saw(rate * second // MIB * MIB, float(second))
        if second > 90:
            seen.append(speed.rate(float(second)))
    assert min(seen) > 0.45 * rate
    assert max(seen) < 1.6 * rate


def test_the_rate_of_a_stopped_download_falls_to_zero_after_the_window() -> None:
    speed = Speed(0, 0.0)
    grow(speed, MIB, 0, 20)
    assert 0 < speed.rate(25.0) < MIB
    assert speed.rate(31.0) == 0.0


def test_omitting_unchanged_samples_does_not_change_the_rate() -> None:
    every, fewer = Speed(0, 0.0), Speed(0, 0.0)
    for second in range(1, 9):
        every.saw(0, float(second))
    for speed in (every, fewer):
        speed.saw(MIB, 9.0, 8.0)
    assert fewer.rate(12.0) == every.rate(12.0) > 0


def test_the_rate_measurement_restarts_if_the_byte_count_decreases() -> None:
    speed = Speed(0, 0.0)
    grow(speed, 10 * MIB, 0, 5)
    assert speed.saw(MIB, 6.0) == 0
    assert speed.rate(7.0) == 0.0
    assert speed.saw(3 * MIB, 8.0) == 2 * MIB
    assert speed.rate(8.0) == MIB


def test_a_download_that_resumes_after_a_long_wait_shows_its_full_rate_immediately() -> None:
    speed = Speed(0, 0.0)
    for second in range(100):
        speed.saw(0, float(second))
    grow(speed, 10 * MIB, 99, 102)
    assert speed.rate(102.0) == 10 * MIB


def test_new_bytes_are_counted_only_once() -> None:
    speed = Speed(5, 0.0)
    assert [speed.saw(total, now) for total, now in ((5, 1.0), (9, 2.0), (9, 3.0), (10, 4.0))] == [0, 4, 0, 1]
    assert speed.grew_at == 4.0


def test_memory_does_not_grow_with_the_length_of_a_download() -> None:
    speed = Speed(0, 0.0)
    grow(speed, MIB, 0, 10_000)
    assert len(speed._steps) < 70


def test_the_unpacking_rate_is_unknown_until_there_is_enough_data() -> None:
    unpacking = Unpacking()
    unpacking.saw(1000, 0.0)
    assert unpacking.rate is None
    unpacking.saw(100 * MIB, 2.0)
    assert unpacking.rate == pytest.approx(50 * MIB, rel=0.01)


def test_recent_layers_affect_the_unpacking_rate_more_than_older_ones() -> None:
    unpacking = Unpacking()
    for _ in range(40):
        unpacking.saw(10 * MIB, 1.0)
    for _ in range(40):
        unpacking.saw(20 * MIB, 1.0)
    assert unpacking.rate == pytest.approx(20 * MIB, rel=0.02)


@pytest.mark.parametrize(
    ("to_download", "rate", "to_unpack", "unpack_rate", "seconds"),
    [
        pytest.param(100, 10.0, 0, None, 10.0, id="download only"),
        pytest.param(100, 10.0, 300, 100.0, 13.0, id="then unpacking"),
        pytest.param(0, 0.0, 300, 100.0, 3.0, id="unpacking only"),
        pytest.param(100, 0.0, 0, None, None, id="no rate"),
        pytest.param(100, 10.0, 300, None, None, id="the node's unpacking rate is unknown"),
        pytest.param(0, 0.0, 0, None, 0.0, id="nothing left"),
    ],
)
def test_the_time_to_ready_is_the_sum_of_the_download_and_unpacking_times(
    to_download, rate, to_unpack, unpack_rate, seconds
) -> None:
    assert seconds_left(to_download, rate, to_unpack, unpack_rate) == seconds


def test_a_copied_speed_meter_starts_with_the_same_samples_and_changes_independently_afterwards() -> None:
    original = Speed(0, 0.0)
    for second in range(1, 8):
        original.saw(second * 1000, float(second))
    copy = original.copy()
    assert (copy.total, copy.grew_at, copy.rate(8.0)) == (7000, 7.0, original.rate(8.0))
    copy.saw(50_000, 8.0)
    assert original.total == 7000
    assert copy.rate(9.0) > original.rate(9.0)
