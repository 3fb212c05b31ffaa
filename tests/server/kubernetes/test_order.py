"""Tests with events in arbitrary order and with events from nodes whose clocks are wrong."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pulltrace.server.kubernetes.cluster import Cluster
from pulltrace.server.kubernetes.objects import PodGone, PodsListed
from pulltrace.wire import ErrorReason
from tests.server.kubernetes.changes import NOT_FOUND, T, event, only, seen, web


@pytest.fixture
def cluster():
    return Cluster()


@pytest.mark.parametrize("skew", [-7200, -40, 300, 86400])
def test_a_wrong_clock_on_a_node_does_not_affect_the_order_of_events_or_the_countdown(cluster, skew):
    arrival = web()
    cluster.apply(event(arrival.pulling("app", T + skew)), T)
    assert only(cluster).since == T
    cluster.apply(event(arrival.failed("app", T + 1 + skew, NOT_FOUND)), T + 1)
    demand = only(cluster)
    assert not demand.pulling
    assert demand.failure.at == T + 1
    assert demand.failure.retry.expected_at == T + 13.5


def test_an_event_from_a_node_with_a_correct_clock_can_arrive_late(cluster):
    arrival = web()
    cluster.apply(seen(arrival), T)
    cluster.apply(event(arrival.pulling("app", T)), T + 1)
    late = [arrival.failed("app", T + 5, NOT_FOUND), arrival.pulling("app", T + 15)]
    cluster.apply(event(late[0]), T + 90)
    assert (only(cluster).failure.at, only(cluster).failure.retry.expected_at) == (T + 5, T + 17.5)
    cluster.apply(event(late[1]), T + 90)
    assert (only(cluster).since, only(cluster).attempt) == (T + 15, 2)
    cluster.apply(event(arrival.pulled("app", T + 20)), T + 900)
    assert only(cluster).pulled_at == T + 900, "an event this late means that the node's clock was changed"
    assert cluster.expire(T + 901) == set()


def test_a_failure_within_one_second_is_recognised_regardless_of_the_order_of_the_events(cluster):
    arrival = web()
    items = [arrival.pulling("app", T), arrival.failed("app", T, NOT_FOUND)]
    for order in (items, items[::-1]):
        again = Cluster()
        for item in order:
            again.apply(event(item), T)
        assert not only(again).pulling
        assert only(again).failure.attempt == 1


@settings(max_examples=200)
@given(st.data())
def test_listed_events_lead_to_the_same_state_in_any_order_and_with_duplicates(data):
    arrival = web()
    items = []
    attempts = data.draw(st.integers(1, 4))
    for number in range(attempts):
        at = T + 400 * number
        items.append(arrival.pulling("app", at))
        items.append(arrival.failed("app", at + data.draw(st.integers(0, 5)), NOT_FOUND))
        items.append(arrival.backing_off("app", at + data.draw(st.integers(5, 30))))
    # A list contains only the newest version of each event, sorted by name.
    newest = list({item["metadata"]["name"]: item for item in items}.values())
    order = data.draw(st.permutations(newest + newest))
    cluster = Cluster()
    cluster.apply(seen(arrival), T + 400 * attempts)
    for item in order:
        cluster.apply(event(item, fresh=False), T + 400 * attempts)
    demand = only(cluster)
    assert not demand.pulling
    assert (demand.failure.attempt, demand.failure.reason) == (attempts, ErrorReason.NOT_FOUND)


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["pulling", "pulled", "failed", "backing_off", "already_present", "never", "seen", "gone"]),
            st.integers(0, 3),
            st.integers(0, 2000),
            st.booleans(),
        ),
        max_size=40,
    )
)
@example([("pulling", 0, 0, True), ("gone", 0, 0, False)])
def test_the_cluster_state_stays_valid_regardless_of_the_order_of_changes(happenings):
    cluster, arrivals = Cluster(), [web(f"web-{number}") for number in range(4)]
    for what, number, at, fresh in happenings:
        arrival, now = arrivals[number], T + at
        if what == "seen":
            cluster.apply(seen(arrival), now)
        elif what == "gone":
            cluster.apply(PodGone(arrival.pod["metadata"]["uid"]), now)
        else:
            args = (NOT_FOUND,) if what == "failed" else ()
            cluster.apply(event(getattr(arrival, what)("app", now, *args), fresh=fresh), now)
        for demand in cluster.demands("n1"):
            assert demand.attempt >= 1
            assert demand.pods or demand.waited or demand.abandoned
            assert not (demand.pulling and demand.pulled_at is not None)
            if demand.failure:
                assert demand.failure.attempt <= demand.attempt
    cluster.apply(PodsListed(None, frozenset()), T + 3000)
    cluster.expire(T + 1e6)
    assert not list(cluster.nodes())
    assert not cluster._node_of
