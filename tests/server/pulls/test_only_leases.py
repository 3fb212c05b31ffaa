"""Tests with empty leases. Only the kubelet knows whether an empty lease belongs to a pull, and which image is being
pulled.
"""

import logging

import pytest

from pulltrace.wire import ErrorReason, LayerPhase, PullPhase
from tests.server.build import MIB, NOW, layer, pull
from tests.server.kubernetes.test_cluster import NOT_FOUND, event, seen
from tests.server.pulls.joined import UNSEEN, Joined, web

ONE, TWO = "docker.io/library/one:1", "docker.io/library/two:1"


@pytest.fixture
def sim(caplog):
    caplog.set_level(logging.INFO, "pulltrace")
    return Joined()


def lease(id_="lease-1", at=0.0, **more):
    return pull(id_, at=NOW + at, **({"status": PullPhase.RESOLVING} | UNSEEN | more))


def failed(id_="lease-1", at=0.0, ended=0.0):
    return lease(id_, at, status=PullPhase.FAILED, ended_at=NOW + ended, error_reason=ErrorReason.UNKNOWN)


def image(id_, name, at, done=10, **more):
    facts = {"registry": "docker.io", "repository": f"library/{name}", "image_ref": f"docker.io/library/{name}"}
    return pull(id_, layer(name, done * MIB), at=NOW + at, **(facts | more))


def completed(id_, name, at, ended):
    done = {"status": PullPhase.COMPLETED, "ended_at": NOW + ended, "image_ref": f"docker.io/library/{name}:1"}
    facts = {"registry": "docker.io", "repository": f"library/{name}"}
    return pull(id_, layer(name, 100 * MIB, state=LayerPhase.EXTRACTED), at=NOW + at, **(facts | done))


def rows(sim):
    return {row.image_ref: (row.status, row.attempt) for row in sim.shown}


def outcomes(caplog):
    return sorted((record.message, record.fields["image"]) for record in caplog.records if "pull." in record.message)


def test_a_lease_that_did_not_belong_to_a_pull_leaves_no_row_and_no_log_line(sim, caplog):
    sim.report(lease(), at=1)
    sim.report(at=9)
    assert not sim.shown
    sim.at(20)
    assert not sim.shown
    assert not [record for record in caplog.records if record.message in ("pull.failed", "pull.canceled")]
    assert sim.hub._pulls.bytes == 0


def test_an_image_is_shown_as_queued_again_if_the_lease_turns_out_not_to_belong_to_its_pull(sim, caplog):
    one = web(image="one:1")
    sim.apply(seen(one), event(one.pulling("app", NOW)), at=0.5)
    row = sim.one.id
    sim.report(lease(at=0.2), at=1)
    assert rows(sim) == {ONE: (PullPhase.RESOLVING, 1)}
    sim.report(at=2)
    sim.at(8)
    assert rows(sim) == {ONE: (PullPhase.QUEUED, 1)}
    sim.report(image("lease-2", "one", 8.2), at=9)
    sim.report(completed("lease-2", "one", 8.2, 10), at=10)
    sim.apply(event(one.pulled("app", NOW + 10)), at=10.5)
    sim.at(30)
    assert (rows(sim), sim.one.id) == ({ONE: (PullPhase.COMPLETED, 1)}, row)
    assert outcomes(caplog) == [("pull.completed", ONE), ("pull.started", ONE)]


def test_a_kubelet_event_about_a_failure_determines_the_outcome_if_it_is_otherwise_unknown(sim, caplog):
    one = web(image="one:1")
    sim.apply(seen(one), event(one.pulling("app", NOW)), at=0.5)
    sim.report(lease(at=0.2), at=1)
    sim.report(at=2)
    assert rows(sim) == {ONE: (PullPhase.QUEUED, 1)}
    sim.apply(event(one.failed("app", NOW + 2, NOT_FOUND)), at=4)
    sim.at(30)
    assert (rows(sim), sim.one.error_reason) == ({ONE: (PullPhase.FAILED, 1)}, ErrorReason.NOT_FOUND)
    assert outcomes(caplog) == [("pull.failed", ONE), ("pull.started", ONE)]


@pytest.mark.parametrize("event_first", [True, False])
def test_one_failure_and_one_success_are_shown_even_if_two_leases_are_mixed_up(sim, caplog, event_first):
    """The kubelet pulls two images in parallel, and containerd creates the second image's lease first."""
    one, two = web("a", "one:1"), web("b", "two:1")
    sim.apply(seen(one), seen(two), event(one.pulling("app", NOW)), event(two.pulling("app", NOW)), at=0.5)
    leases = [lease("x", 0.1), lease("y", 0.2)]
    sim.report(*leases, at=1)
    sim.report(*leases, at=2)
    assert {status for status, _ in rows(sim).values()} == {PullPhase.RESOLVING}
    other = event(two.failed("app", NOW + 2, NOT_FOUND))
    if event_first:
        sim.apply(other, at=2.5)
    sim.report(failed("x", 0.1, 2.4), image("y", "one", 0.2), at=3)
    for second in range(4, 9):
        if not event_first:
            assert PullPhase.FAILED not in {status for status, _ in rows(sim).values()}
            if second == 5:
                sim.apply(other, at=4.5)
                event_first = True
        sim.report(image("y", "one", 0.2, second * 10), at=second)
        assert rows(sim)[ONE] == (PullPhase.DOWNLOADING, 1)
    sim.report(completed("y", "one", 0.2, 9), at=9.2)
    sim.apply(event(one.pulled("app", NOW + 9)), at=9.3)
    sim.at(30)
    assert rows(sim) == {ONE: (PullPhase.COMPLETED, 1), TWO: (PullPhase.FAILED, 1)}
    assert outcomes(caplog) == [
        ("pull.completed", ONE),
        ("pull.failed", TWO),
        ("pull.started", ONE),
        ("pull.started", TWO),
    ]


def test_a_pull_is_cancelled_if_its_lease_ends_and_the_kubelet_reports_nothing(sim, caplog):
    one = web(image="one:1")
    sim.apply(seen(one), event(one.pulling("app", NOW)), at=0.5)
    sim.report(lease(at=0.2), at=1)
    sim.report(failed(at=0.2, ended=3), at=3.2)
    assert rows(sim) == {ONE: (PullPhase.RESOLVING, 1)}
    sim.report(at=4)
    sim.at(9)
    assert (rows(sim), sim.one.error_reason) == ({ONE: (PullPhase.FAILED, 1)}, ErrorReason.CANCELED)
    sim.at(20)
    assert outcomes(caplog) == [("pull.canceled", ONE), ("pull.started", ONE)]


def test_an_attempt_keeps_its_row_if_its_lease_turns_out_to_belong_to_a_different_image(sim, caplog):
    """The second image's lease looks like a retry of the first image until the lease's repository is known."""
    one, two = web("a", "one:1"), web("b", "two:1")
    sim.report(at=0)
    sim.apply(seen(one), event(one.pulling("app", NOW)), event(one.failed("app", NOW + 1, NOT_FOUND)), at=1)
    sim.at(14)
    row = sim.one.id
    sim.apply(event(one.pulling("app", NOW + 14)), at=14.1)
    sim.report(lease("y", 14.2), at=15)
    assert rows(sim) == {ONE: (PullPhase.RESOLVING, 2)}
    sim.report(image("y", "two", 14.2), at=16)
    sim.apply(seen(two), event(two.pulling("app", NOW + 14)), at=16.5)
    sim.report(image("y", "two", 14.2, 20), at=17)
    assert rows(sim) == {ONE: (PullPhase.QUEUED, 2), TWO: (PullPhase.DOWNLOADING, 1)}
    assert next(status.id for status in sim.shown if status.image_ref == ONE) == row
    sim.apply(event(one.failed("app", NOW + 17, NOT_FOUND)), at=17.5)
    sim.at(30)
    assert rows(sim)[ONE] == (PullPhase.FAILED, 2)
    assert [entry for entry in outcomes(caplog) if entry[0] == "pull.failed"] == [("pull.failed", ONE)] * 2


def test_a_lease_that_is_first_reported_after_its_pull_failed_does_not_begin_another_attempt(sim):
    """The pod's status arrives first, followed by the kubelet's events and then the agent's reports."""
    one = web(image="one:1")
    pulling, failed_event = event(one.pulling("app", NOW)), event(one.failed("app", NOW + 1, NOT_FOUND))
    sim.apply(seen(one), at=1.2)
    assert rows(sim) == {ONE: (PullPhase.FAILED, 1)}
    sim.apply(pulling, at=6)
    sim.report(lease(at=0.1), at=6.5)
    assert rows(sim) == {ONE: (PullPhase.FAILED, 1)}
    sim.apply(failed_event, at=7)
    sim.report(failed(at=0.1, ended=1.1), at=7.5)
    assert rows(sim) == {ONE: (PullPhase.FAILED, 1)}
