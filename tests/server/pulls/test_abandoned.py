"""Tests in which a pod is deleted while its pull is waiting in the kubelet's queue, but the kubelet still pulls the
image.
"""

import pytest

from pulltrace.server.kubernetes.objects import PodGone
from pulltrace.wire import PullPhase
from tests.server.build import MIB, NOW, layer, pull
from tests.server.kubernetes.changes import NOT_FOUND, event, seen
from tests.server.pulls.joined import UNSEEN, Joined, web

APP = {"registry": "registry.io", "repository": "team/app", "image_ref": "registry.io/team/app"}
OLD, NEW = "registry.io/team/app:1", "registry.io/team/app:2"


@pytest.fixture
def sim():
    """A node that pulls one image while two tags of a different image are waiting in its kubelet's queue. The pod that
    needed the first tag has been deleted.
    """
    sim = Joined()
    big, old, new = web("big"), web("old", OLD), web("new", NEW)
    sim.apply(seen(big), event(big.pulling("app", NOW)), seen(old), event(old.pulling("app", NOW + 1)), at=1)
    sim.report(pull("lease-1", layer("a", 90 * MIB), at=NOW), at=2)
    sim.apply(PodGone(old.pod["metadata"]["uid"]), at=3)
    sim.apply(seen(new), event(new.pulling("app", NOW + 4)), at=4)
    full = {"image_ref": "docker.io/library/nginx:1.27", "status": PullPhase.COMPLETED, "ended_at": NOW + 10}
    sim.report(pull("lease-1", layer("a", 100 * MIB), at=NOW, **full), at=10.2)
    sim.apply(event(big.pulled("app", NOW + 10, seconds=10)), at=10.3)
    sim.old, sim.new = old, new
    return sim


def rows(sim):
    return {row.image_ref: row.status for row in sim.shown if row.repository != "library/nginx"}


def test_the_queued_pull_of_a_deleted_pod_has_no_row_until_it_begins(sim):
    assert rows(sim) == {NEW: PullPhase.QUEUED}


def ahead(sim):
    """Return how many of the pulls ahead of the queued pull belong to deleted pods, and the sentence about the
    queue.
    """
    (row,) = [row for row in sim.shown if row.image_ref == NEW]
    return row.bound.figures.get("deletedPodsAhead") if row.bound.figures else None, row.bound.why


def test_the_queued_pull_of_a_deleted_pod_counts_as_ahead_in_the_queue_until_it_begins(sim):
    assert ahead(sim) == (1.0, "Queued behind a pull of a deleted pod on this node.")
    big = pull("lease-0", layer("z", MIB), at=NOW + 5, repository="team/big", image_ref="registry.io/team/big:1")
    sim.report(big, at=12)
    assert ahead(sim) == (1.0, "Queued behind team/big, and a pull of a deleted pod on this node.")
    sim.report(big, pull("lease-2", layer("b", MIB), at=NOW + 10.4, **(APP | {"image_ref": OLD})), at=14)
    assert ahead(sim) == (None, "Queued behind team/big and 1 more on this node.")


def test_a_queued_image_keeps_its_place_if_its_pod_is_replaced(sim):
    replaced = web("replaced", OLD)
    sim.apply(seen(replaced), event(replaced.pulling("app", NOW + 11)), at=11)
    started = {row.image_ref: row.started_at.timestamp() - NOW for row in sim.shown}
    assert (started[OLD], started[NEW]) == (1, 4)
    assert ahead(sim)[0] is None  # the image now has a row


def test_a_queued_image_loses_its_place_if_the_pull_of_its_deleted_pod_fails(sim):
    replaced = web("replaced", OLD)
    sim.apply(seen(replaced), event(replaced.pulling("app", NOW + 11)), at=11)
    sim.apply(event(sim.old.failed("app", NOW + 12, NOT_FOUND)), at=12)
    started = {row.image_ref: row.started_at.timestamp() - NOW for row in sim.shown}
    assert (started[OLD], started[NEW]) == (11, 4)


def test_the_pull_of_a_deleted_pod_does_not_count_as_ahead_of_a_pull_that_was_requested_earlier(sim):
    last = web("last", "redis:7")
    sim.apply(seen(last), event(last.pulling("app", NOW + 10)), at=10.4)
    sim.apply(PodGone(last.pod["metadata"]["uid"]), at=10.5)
    assert ahead(sim)[0] == 1.0


def test_the_pull_of_a_deleted_pod_is_not_mistaken_for_the_pull_of_the_next_tag(sim):
    sim.report(pull("lease-2", at=NOW + 10.4, status=PullPhase.RESOLVING, **UNSEEN), at=11)
    for second in range(12, 20):
        sim.report(pull("lease-2", layer("b", second * MIB), at=NOW + 10.4, **APP), at=second)
        assert rows(sim) == {OLD: PullPhase.DOWNLOADING, NEW: PullPhase.QUEUED}
    done = {"status": PullPhase.COMPLETED, "ended_at": NOW + 20}
    sim.report(pull("lease-2", layer("b", 100 * MIB), at=NOW + 10.4, **(APP | {"image_ref": OLD} | done)), at=20.2)
    sim.apply(event(sim.old.pulled("app", NOW + 20, seconds=9.6)), at=20.3)
    for second in range(21, 25):
        sim.report(pull("lease-3", layer("c", second * MIB), at=NOW + 20.3, **APP), at=second)
        assert rows(sim) == {OLD: PullPhase.COMPLETED, NEW: PullPhase.DOWNLOADING}
    (old,) = [row for row in sim.shown if row.image_ref == OLD]
    assert not old.pods


@pytest.mark.parametrize("how", ["failed", "restarted", "expired"])
def test_the_next_pull_is_not_matched_to_a_deleted_pod_whose_own_pull_has_ended(sim, how):
    """There are three cases: the pull has failed, the kubelet was restarted and has since pulled a different image, or
    an hour has passed.
    """
    late = 12
    if how == "failed":
        sim.apply(event(sim.old.failed("app", NOW + 11, NOT_FOUND)), at=11)
    elif how == "restarted":
        other = web("other", "redis:7")
        sim.apply(seen(other), event(other.pulling("app", NOW + 11)), event(other.pulled("app", NOW + 11)), at=11.5)
    else:
        late = 3620
        sim.apply(event(sim.new.pulling("app", NOW + 3615)), at=3615)
    sim.report(pull("lease-2", layer("b", MIB), at=NOW + late, **APP), at=late + 1)
    assert rows(sim)[NEW] is PullPhase.DOWNLOADING
    assert OLD not in rows(sim)
