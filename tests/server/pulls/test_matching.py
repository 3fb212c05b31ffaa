"""Tests for each row of the table in the ``matching`` module's docstring."""

from dataclasses import dataclass, replace

import pytest

from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.pulls import matching
from pulltrace.server.pulls.matching import TABLE, Attempt, Match, Source, Time, match
from pulltrace.server.pulls.node import Node, Pull
from pulltrace.wire import PullPhase, PullState
from tests.server.build import MIB, NOW, layer

STARTED, ENDED = NOW + 100, NOW + 130


def documented():
    lines = [line.split() for line in matching.__doc__.splitlines()]
    rows = [line for line in lines if len(line) == 5 and line[0] in {"running", "failed", "completed", "inferred"}]
    return [
        pytest.param(latest, kind, time, Match(expected), id=f"{latest}-{kind}-{time.name}")
        for latest, kind, *expectations in rows
        for time, expected in zip(Time, expectations, strict=True)
    ]


@dataclass
class Arrival:
    """The attributes of an arrival that ``match`` reads."""

    latest: Attempt | None
    pull: Pull | None = None
    demand: ImageDemand | None = None
    has_completed: bool = False

    @property
    def ended_at(self):
        return float("inf") if self.latest is None or self.latest.ended_at is None else self.latest.ended_at


def attempt(state):
    if state == "running":
        return Attempt(1, Source.KUBELET, STARTED)
    outcome = PullPhase.COMPLETED if state == "completed" else PullPhase.FAILED
    source = Source.INFERRED if state == "inferred" else Source.KUBELET
    return Attempt(1, source, STARTED, ENDED, outcome)


def pull(kind, time):
    """Return a pull of this kind that began before, during or after the attempt."""
    started = {Time.BEFORE: STARTED - 20, Time.WITHIN: STARTED + 5, Time.AFTER: ENDED + 20}[time]
    found = Pull("lease", Node("n", NOW, NOW), PullState(image_ref="docker.io/library/nginx"), started)
    if kind == "live":
        found.seen_at = started + 1
    else:
        phase = PullPhase.COMPLETED if kind == "completed" else PullPhase.FAILED
        found.end(phase, started + 10, started + 10, None, None)
        found.presumed = kind == "presumed"
    return found


def test_the_docstring_table_matches_the_table_in_the_code():
    documentation = {}
    for case in documented():
        latest, kind, _, expected = case.values
        documentation.setdefault((latest, kind), []).append(expected)
    assert {key: tuple(row) for key, row in documentation.items()} == TABLE


@pytest.mark.parametrize(("latest", "kind", "time", "expected"), documented())
def test_each_pull_is_matched_as_the_docstring_table_specifies(latest, kind, time, expected):
    if latest == "running" and time is Time.AFTER:
        time = Time.WITHIN  # no pull can begin after the end of an attempt that is still running
    assert match(pull(kind, time), Arrival(attempt(latest))) is expected


@pytest.mark.parametrize(("late", "expected"), [(7, Match.UNDECIDED), (9, Match.NEXT_ATTEMPT)])
def test_a_pull_counts_as_the_next_attempt_if_it_is_reported_as_live_long_after_the_failure(late, expected):
    live = pull("live", Time.WITHIN)
    live.seen_at = ENDED + late
    assert match(live, Arrival(attempt("failed"))) is expected


def test_a_pull_that_begins_after_an_observed_failed_attempt_is_the_next_attempt():
    failed = Attempt(1, Source.AGENT, STARTED, ENDED, PullPhase.FAILED, observed=True)
    done = Attempt(1, Source.AGENT, STARTED, ENDED, PullPhase.COMPLETED, observed=True)
    for kind in ("live", "failed", "completed", "presumed"):
        assert match(pull(kind, Time.AFTER), Arrival(failed)) is Match.NEXT_ATTEMPT
        assert match(pull(kind, Time.AFTER), Arrival(done)) is Match.UNRELATED
        assert match(pull(kind, Time.AFTER), Arrival(None)) is Match.NEXT_ATTEMPT


def test_an_arrival_with_a_running_pull_is_not_matched_with_another_pull():
    assert match(pull("live", Time.AFTER), Arrival(None, pull("live", Time.WITHIN))) is Match.UNRELATED


def test_a_pull_that_overlaps_the_failed_pull_of_another_pod_belongs_to_the_same_attempt():
    """If the agent missed the end of the first pull and the kubelet has since begun another attempt, the two pulls did
    not run at the same time.
    """
    demand = ImageDemand("n", "nginx:1", (), STARTED, pulling=True, failure=None, pulled_at=None)
    live, failed, presumed = (pull(kind, Time.WITHIN) for kind in ("live", "failed", "presumed"))
    assert match(live, Arrival(attempt("running"), failed, demand)) is Match.SAME_ATTEMPT
    assert match(live, Arrival(attempt("running"), failed)) is Match.UNRELATED
    assert match(live, Arrival(attempt("running"), presumed, demand)) is Match.SAME_ATTEMPT
    later = replace(demand, since=presumed.started_at + 15)
    assert match(live, Arrival(attempt("running"), presumed, later)) is Match.UNRELATED


@pytest.mark.parametrize("fetched", [0, MIB])
def test_a_pull_for_another_waiting_pod_counts_as_a_repeated_pull_only_if_it_downloads_nothing(fetched):
    done = Attempt(1, Source.AGENT, STARTED, ENDED, PullPhase.COMPLETED, observed=True)
    demand = ImageDemand("n", "nginx:1", (), STARTED, pulling=True, failure=None, pulled_at=None)
    found = pull("live", Time.AFTER)
    found.state = PullState(layers=[layer("a", fetched)])
    place = match(found, Arrival(done, None, demand, has_completed=True))
    assert place is (Match.UNRELATED if fetched else Match.REPEAT)
