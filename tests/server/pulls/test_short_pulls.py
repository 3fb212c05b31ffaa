"""Tests that each pull that is shorter than the time between two polls has exactly one row, regardless of the order in
which events and reports arrive.
"""

from itertools import permutations

import pytest

from pulltrace.wire import ErrorReason, LayerPhase, PullPhase
from tests.server.build import MIB, NOW, layer, pull
from tests.server.kubernetes.changes import event, seen
from tests.server.pulls.joined import Joined, web

FULL = {"image_ref": "docker.io/library/nginx:1.27"}
CACHED = layer("a", 0, 4 * MIB, state=LayerPhase.CACHED, cached_bytes=4 * MIB)
FACTS = ("pulling", "pulled", "report")


@pytest.fixture
def sim():
    """A node that has already pulled an image for one pod. The pull took two seconds."""
    sim = Joined()
    one = web("first")
    sim.apply(seen(one), event(one.pulling("app", NOW)), at=0)
    fetched = layer("a", 4 * MIB, 4 * MIB, state=LayerPhase.EXTRACTED)
    done = {"status": PullPhase.COMPLETED, "ended_at": NOW + 2}
    sim.report(pull("lease-1", fetched, at=NOW, **done, **FULL), at=2.2)
    sim.apply(event(one.pulled("app", NOW + 2, seconds=2.0, size=5 * MIB)), at=2.3)
    one.started("app", NOW + 3)
    sim.apply(seen(one), at=3.5)
    return sim


def short(at, id_="image-a", *, live=False):
    """Return the state that the agent reports for a pull of the cached image."""
    ended = {} if live else {"status": PullPhase.COMPLETED, "ended_at": NOW + at + 0.06} | FULL
    return pull(id_, CACHED, at=NOW + at, **ended)


def pulling(pod, at):
    return event(pod.pulling("app", NOW + at))


def pulled(pod, at):
    return event(pod.pulled("app", NOW + at, seconds=0.06, size=5 * MIB))


def check(sim, *, rows=2):
    assert len(sim.shown) == rows
    first, *others = sim.shown
    assert (first.status, first.downloaded_bytes) == (PullPhase.COMPLETED, 4 * MIB)
    assert [pod.pod_name for pod in first.waited or ()] == ["first"]
    for row in others:
        assert (row.status, row.image_ref, row.attempt) == (PullPhase.COMPLETED, FULL["image_ref"], 1)
        assert (row.completed_at - row.started_at).total_seconds() < 0.3
        assert (row.downloaded_bytes, row.image_bytes) == (0, 4 * MIB)
        assert [pod.pod_name for pod in row.waited or ()] == ["again"]
    assert sim.metric("pulls_total", registry="docker.io", result="completed") == rows


@pytest.mark.parametrize("apart", [0.0, 0.4])
@pytest.mark.parametrize(
    "order", [order for order in permutations(FACTS) if order.index("pulling") < order.index("pulled")]
)
def test_a_cached_image_that_is_pulled_again_gets_a_second_row(sim, order, apart):
    again = web("again")
    sim.apply(seen(again), at=8)
    events = {"pulling": pulling(again, 10), "pulled": pulled(again, 10)}
    sim.at(11)
    for number, fact in enumerate(order):
        if fact == "report":
            sim.report(short(10.1), at=11 + number * apart)
        else:
            sim.apply(events[fact], at=11 + number * apart)
    again.started("app", NOW + 12)
    sim.apply(seen(again), at=13)
    sim.at(30)
    check(sim)


@pytest.mark.parametrize("late", [0.0, 0.7])
def test_a_short_pull_gets_its_full_name_even_if_it_is_reported_before_the_kubelet_event_arrives(sim, late):
    again = web("again")
    sim.apply(seen(again), at=8)
    sim.report(short(10.9, "lease-2", live=True), at=11)
    assert {row.image_ref for row in sim.shown} == {FULL["image_ref"]}
    if not late:
        sim.apply(pulling(again, 10), pulled(again, 10), at=11.3)
    sim.report(short(10.9, "lease-2"), at=12)
    if late:
        sim.apply(pulling(again, 10), pulled(again, 10), at=12.3)
    again.started("app", NOW + 12)
    sim.apply(seen(again), at=13)
    sim.at(30)
    check(sim)


def test_a_pull_for_a_restarted_container_has_its_full_image_name_from_the_first_report_onwards(sim):
    """A poll sees the pull before the kubelet event arrives. No pod is waiting, because the container already
    exists.
    """
    one = web("first")
    sim.report(short(30, "lease-2", live=True), at=30.5)
    assert [row.image_ref for row in sim.shown] == [FULL["image_ref"]] * 2
    sim.apply(pulling(one, 30), pulled(one, 30), at=30.8)
    sim.report(short(30, "lease-2"), at=31.5)
    sim.at(60)
    assert [(row.image_ref, row.status) for row in sim.shown] == [(FULL["image_ref"], PullPhase.COMPLETED)] * 2


def test_a_short_pull_that_no_agent_reports_gets_its_times_and_size_from_the_kubelet(sim):
    again = web("again")
    sim.apply(seen(again), at=8)
    sim.apply(pulling(again, 10), pulled(again, 10), at=10.5)
    sim.at(30)
    _, row = sim.shown
    assert (row.status, row.image_bytes, row.attempt) == (PullPhase.COMPLETED, 5 * MIB, 1)
    assert (row.completed_at - row.started_at).total_seconds() == pytest.approx(0.06)


def test_a_pull_that_began_after_the_image_had_arrived_is_attributed_to_a_different_tag():
    """The agent does not see the first pull, and the kubelet's events arrive so late that they seem to belong to the
    second pull.
    """
    sim, first, second = Joined(), web("a", "nginx:1.28"), web("b", "nginx:1.27")
    sim.apply(seen(first), at=2)
    sim.report(pull("lease-2", layer("x", 28 * MIB), at=NOW + 4), at=4.5)
    sim.apply(event(first.pulling("app", NOW)), seen(second), at=6)
    assert (sim.one.image_ref, sim.one.status) == ("docker.io/library/nginx:1.28", PullPhase.DOWNLOADING)
    sim.apply(event(first.pulled("app", NOW)), at=6.4)
    sim.at(9)
    assert {(row.image_ref.rpartition(":")[2], row.status) for row in sim.shown} == {
        ("1.28", PullPhase.COMPLETED),
        ("1.27", PullPhase.DOWNLOADING),
    }


def test_three_consecutive_pulls_get_three_rows(sim):
    for number in (1, 2, 3):
        again, at = web(f"again-{number}"), 20 * number
        sim.apply(seen(again), pulling(again, at), at=at)
        sim.apply(pulled(again, at), at=at + 0.5)
        sim.report(short(at + 0.2, f"image-{number}"), at=at + 1)
        again.started("app", NOW + at + 1)
        sim.apply(seen(again), at=at + 2)
    sim.at(80)
    assert [(row.downloaded_bytes, row.attempt) for row in sim.shown] == [(4 * MIB, 1), (0, 1), (0, 1), (0, 1)]
    assert [[pod.pod_name for pod in row.waited] for row in sim.shown] == [
        ["first"],
        ["again-1"],
        ["again-2"],
        ["again-3"],
    ]


def test_the_attempts_of_an_earlier_pull_are_not_counted_for_a_later_one(sim):
    other = "docker.io/library/redis:7"
    one, again = web("late", "redis:7"), web("later", "redis:7")
    sim.apply(seen(one), at=20)
    for attempt, at in ((1, 20), (2, 32)):
        sim.apply(event(one.pulling("app", NOW + at)), at=at)
        sim.apply(event(one.failed("app", NOW + at + 1, "not found")), at=at + 1) if attempt == 1 else None
    sim.apply(event(one.pulled("app", NOW + 33, seconds=0.9, size=5 * MIB)), at=33)
    one.started("app", NOW + 34)
    sim.apply(seen(one), at=35)
    sim.apply(seen(again), pulling(again, 50), at=50)
    sim.apply(pulled(again, 50), at=50.4)
    sim.at(60)
    rows = [row for row in sim.shown if row.image_ref == other]
    assert [(row.status, row.attempt) for row in rows] == [(PullPhase.COMPLETED, 2), (PullPhase.COMPLETED, 1)]


def test_a_replica_that_waited_for_the_same_pull_does_not_get_its_own_row(sim):
    """The kubelet calls the runtime again for the replica, and the agent reports the resulting pull before the kubelet
    event arrives.
    """
    two = web("second"), web("third")
    for one in two:
        sim.apply(seen(one), event(one.pulling("app", NOW + 20)), at=20)
    moved = layer("b", 4 * MIB, 4 * MIB, state=LayerPhase.EXTRACTED)
    done = {"status": PullPhase.COMPLETED, "ended_at": NOW + 25}
    sim.report(pull("lease-2", moved, at=NOW + 20, **done, **FULL), at=25.1)
    sim.report(short(25.2, "lease-3"), at=26)
    for one in two:
        sim.apply(event(one.pulled("app", NOW + 25, seconds=5.0 if one is two[0] else 0.06)), at=26.2)
    sim.at(40)
    assert [row.downloaded_bytes for row in sim.shown] == [4 * MIB, 4 * MIB]


PARTS = {"registry": "docker.io", "repository": "library/nginx", "image_ref": "docker.io/library/nginx"}


@pytest.mark.parametrize("shares", [True, False], ids=["no-bytes", "a-layer-of-its-own"])
def test_pods_that_wait_for_the_same_image_share_one_row_if_their_kubelet_pulls_in_parallel(sim, shares):
    """The kubelet calls the runtime for both pods at the same time, while another image's pull fails."""
    two, other = (web("second"), web("third")), web("wrong", "redis:wrong")
    sim.apply(seen(other), pulling(other, 8), event(other.failed("app", NOW + 9, "not found")), at=9)
    sim.apply(*map(seen, two), pulling(two[0], 20), at=20)
    sim.apply(pulling(two[1], 20), pulling(other, 20), at=20.2)
    unseen = {"registry": None, "repository": None, "image_ref": "__pulling__", "total_known": False}
    first = pull("lease-2", layer("b", MIB, 4 * MIB), at=NOW + 20.1, **PARTS)
    sim.report(first, pull("lease-3", at=NOW + 20.2, status=PullPhase.RESOLVING, **unseen), at=21)
    sim.report(first, pull("lease-3", at=NOW + 20.2, status=PullPhase.RESOLVING, **unseen), at=22)
    rows = {row.image_ref: (row.status, row.attempt) for row in sim.shown[1:]}
    assert rows == {
        "docker.io/library/nginx:1.27": (PullPhase.DOWNLOADING, 1),
        "docker.io/library/redis:wrong": (PullPhase.QUEUED, 2),
    }
    sim.apply(event(other.failed("app", NOW + 22, "not found")), at=22.5)
    mine = [layer("b", MIB, 4 * MIB, fetched_by="lease-2")] + ([] if shares else [layer("c", MIB, 2 * MIB)])
    for second in range(23, 27):
        sim.report(first, pull("lease-3", *mine, at=NOW + 20.2, **PARTS), at=second)
        assert len(sim.shown) == 3
    done = {"status": PullPhase.COMPLETED, "ended_at": NOW + 27} | FULL
    sim.report(
        pull("lease-2", layer("b", 4 * MIB, 4 * MIB, state=LayerPhase.EXTRACTED), at=NOW + 20.1, **done),
        pull("lease-3", *mine, at=NOW + 20.2, **PARTS),
        at=27.2,
    )
    sim.apply(pulled(two[0], 27), at=27.4)
    sim.report(pull("lease-3", *mine, at=NOW + 20.2, **done), at=28)
    sim.apply(pulled(two[1], 27), at=28.2)
    for one in two:
        one.started("app", NOW + 29)
        sim.apply(seen(one), at=29)
    sim.at(40)
    assert sorted((row.image_ref, row.status) for row in sim.shown[1:]) == [
        ("docker.io/library/nginx:1.27", PullPhase.COMPLETED),
        ("docker.io/library/redis:wrong", PullPhase.FAILED),
    ]
    assert sim.metric("pulls_total", registry="docker.io", result="completed") == 2


def test_a_row_is_shown_as_completed_as_soon_as_one_of_two_parallel_pulls_completes(sim):
    two = web("second"), web("third")
    sim.apply(*map(seen, two), pulling(two[0], 20), pulling(two[1], 22), at=22)
    first, second = layer("b", MIB, 4 * MIB), layer("b", 4 * MIB, 4 * MIB, state=LayerPhase.EXTRACTED)
    sim.report(pull("lease-2", first, at=NOW + 20, **PARTS), pull("lease-3", first, at=NOW + 22, **PARTS), at=23)
    done = {"status": PullPhase.COMPLETED, "ended_at": NOW + 24} | FULL
    sim.report(pull("lease-2", first, at=NOW + 20, **PARTS), pull("lease-3", second, at=NOW + 22, **done), at=24.1)
    sim.apply(pulled(two[1], 24), at=24.3)
    _, row = sim.shown
    assert (row.status, row.started_at.timestamp(), row.attempt) == (PullPhase.COMPLETED, NOW + 20, 1)
    canceled = {"status": PullPhase.FAILED, "ended_at": NOW + 26, "error_reason": ErrorReason.UNKNOWN}
    sim.report(pull("lease-2", first, at=NOW + 20, **(PARTS | canceled)), at=26)
    sim.at(40)
    assert [row.status for row in sim.shown] == [PullPhase.COMPLETED, PullPhase.COMPLETED]
    assert sim.metric("pulls_total", registry="docker.io", result="failed") == 0


@pytest.mark.parametrize("known", [True, False], ids=["both-known", "second-unknown"])
@pytest.mark.parametrize("restarted", [False, True], ids=["one-agent", "a-restarted-agent"])
def test_an_attempt_fails_only_when_the_last_of_its_parallel_pulls_has_failed(sim, restarted, known):
    """The first pull fails, and the kubelet retries it while the second pull continues."""
    two = web("second"), web("third")
    sim.apply(*map(seen, two), pulling(two[0], 20), pulling(two[1], 20), at=20)
    first, second = (pull(f"lease-{n}", layer("b", n * MIB, 8 * MIB), at=NOW + 20.1, **PARTS) for n in (3, 2))
    sim.report(first, *([second] if known else []), at=21)
    row = sim.shown[1]
    assert (row.status, row.attempt, row.percent) == (PullPhase.DOWNLOADING, 1, 37.5)
    sim.apply(event(two[0].failed("app", NOW + 22, "reset by peer")), at=22.1)
    failed = {"status": PullPhase.FAILED, "ended_at": NOW + 22, "error_reason": ErrorReason.UNKNOWN}
    ended = [] if restarted else [pull("lease-3", layer("b", 3 * MIB, 8 * MIB), at=NOW + 20.1, **(PARTS | failed))]
    boot = "the next one" if restarted else "boot-1"
    sim.report(*ended, second, boot=boot, at=32)
    sim.apply(pulling(two[0], 33), at=33)
    retry = pull("lease-4", layer("b", 2 * MIB, 8 * MIB), at=NOW + 33.1, **PARTS)
    sim.report(second, retry, boot=boot, at=34)
    for seconds in (36, 48):
        sim.at(seconds)
        assert [(row.status, row.percent) for row in sim.shown[1:]] == [(PullPhase.DOWNLOADING, 37.5)]
    failed["ended_at"] = NOW + 50
    lost = pull("lease-2", layer("b", 2 * MIB, 8 * MIB), at=NOW + 20.1, **(PARTS | failed))
    sim.apply(event(two[1].failed("app", NOW + 50, "reset by peer")), at=50.1)
    sim.report(lost, retry, boot=boot, at=50.5)
    assert [row.status for row in sim.shown[1:]] == [PullPhase.DOWNLOADING]
    sim.apply(event(two[0].failed("app", NOW + 55, "reset by peer")), at=55.1)
    lost = pull("lease-4", layer("b", 2 * MIB, 8 * MIB), at=NOW + 33.1, **(PARTS | failed | {"ended_at": NOW + 55}))
    sim.report(lost, boot=boot, at=55.5)
    sim.at(80)
    row = sim.shown[1]
    assert (row.status, row.attempt, row.error) == (PullPhase.FAILED, 2, "reset by peer")
    assert row.started_at.timestamp() == pytest.approx(NOW + 20.1)
    assert len(sim.shown) == 2
    assert sim.metric("pulls_total", registry="docker.io", result="failed") == 1


def test_two_pulls_of_the_same_image_have_two_rows_if_no_kubelet_reports_them(sim):
    both = [pull(f"lease-{number}", layer("b", MIB), at=NOW + 20 + number, **PARTS) for number in (2, 3)]
    sim.report(*both, node="another", at=23.5)
    assert not [row for row in sim.shown if row.node_name == "another"], "the kubelet's events may be late"
    sim.at(26)
    assert len([row for row in sim.shown if row.node_name == "another"]) == 2
