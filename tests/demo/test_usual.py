"""Compare the usual durations that the demo shows with the actual durations, over fifteen minutes of virtual time."""

from statistics import median

from tests.demo.usual_day import compare


def test_the_usual_duration_is_close_to_the_actual_duration():
    found = compare(hours=0.25, nodes=3)
    assert len(found.known) > 30
    assert median(found.known) <= 0.15
    assert len(found.new) >= 5
    assert median(found.new) <= 0.40
