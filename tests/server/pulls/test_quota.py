"""Tests for counting each owner's pulls from each registry in the last hour."""

from pulltrace.server.pulls.quota import HOUR, MAX_PULLS, MAX_REGISTRIES, Quota


def test_pulls_are_counted_per_owner_for_an_hour_and_the_highest_count_is_listed_first():
    quota = Quota()
    for at, owner in ((0, "a"), (10, "b"), (20, "b"), (30, "c")):
        quota.record("docker.io", owner, at)
    assert quota.owners("docker.io", 40) == [("b", 2), ("a", 1), ("c", 1)]
    assert quota.owners("docker.io", HOUR + 15) == [("b", 1), ("c", 1)]
    assert quota.owners("docker.io", HOUR + 30) == []
    assert quota.owners("quay.io", 40) == []


def test_the_memory_used_for_counting_pulls_is_bounded():
    quota = Quota()
    for number in range(MAX_PULLS + 10):
        quota.record("docker.io", f"owner {number}", number / MAX_PULLS)
    assert len(quota.owners("docker.io", 2)) == MAX_PULLS
    for number in range(MAX_REGISTRIES + 5):
        quota.record(f"r{number}", "a", 2)
    assert len(list(quota.registries())) == MAX_REGISTRIES
    assert quota.owners("docker.io", 2) == []
