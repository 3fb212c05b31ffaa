"""A pod is deleted while its pull waits in the kubelet's queue. The kubelet pulls the image all the same."""

import pytest

from pulltrace.server.kubernetes.objects import PodGone
from pulltrace.wire import PullPhase
from tests.server.build import MIB, NOW, layer, pull
from tests.server.kubernetes.test_cluster import NOT_FOUND, event, seen
from tests.server.pulls.test_arrival import UNSEEN, Joined, web

APP = {"registry": "registry.io", "repository": "team/app", "image_ref": "registry.io/team/app"}
OLD, NEW = "registry.io/team/app:1", "registry.io/team/app:2"


@pytest.fixture
def world():
    """A node that pulls one image. Its kubelet has queued two tags of another, the first for a pod that was deleted."""
    world = Joined()
    big, old, new = web("big"), web("old", OLD), web("new", NEW)
    world.tell(seen(big), event(big.pulling("app", NOW)), seen(old), event(old.pulling("app", NOW + 1)), at=1)
    world.say(pull("lease-1", layer("a", 90 * MIB), at=NOW), at=2)
    world.tell(PodGone(old.pod["metadata"]["uid"]), at=3)
    world.tell(seen(new), event(new.pulling("app", NOW + 4)), at=4)
    full = {"image_ref": "docker.io/library/nginx:1.27", "status": PullPhase.COMPLETED, "ended_at": NOW + 10}
    world.say(pull("lease-1", layer("a", 100 * MIB), at=NOW, **full), at=10.2)
    world.tell(event(big.pulled("app", NOW + 10, seconds=10)), at=10.3)
    world.old, world.new = old, new
    return world


def rows(world):
    return {row.image_ref: row.status for row in world.shown if row.repository != "library/nginx"}


def test_a_pod_that_was_deleted_in_the_queue_has_no_row_until_its_pull_begins(world):
    assert rows(world) == {NEW: PullPhase.QUEUED}


def test_the_pull_of_a_deleted_pod_is_not_taken_for_that_of_the_next_tag(world):
    world.say(pull("lease-2", at=NOW + 10.4, status=PullPhase.RESOLVING, **UNSEEN), at=11)
    for second in range(12, 20):
        world.say(pull("lease-2", layer("b", second * MIB), at=NOW + 10.4, **APP), at=second)
        assert rows(world) == {OLD: PullPhase.DOWNLOADING, NEW: PullPhase.QUEUED}
    done = {"status": PullPhase.COMPLETED, "ended_at": NOW + 20}
    world.say(pull("lease-2", layer("b", 100 * MIB), at=NOW + 10.4, **(APP | {"image_ref": OLD} | done)), at=20.2)
    world.tell(event(world.old.pulled("app", NOW + 20, seconds=9.6)), at=20.3)
    for second in range(21, 25):
        world.say(pull("lease-3", layer("c", second * MIB), at=NOW + 20.3, **APP), at=second)
        assert rows(world) == {OLD: PullPhase.COMPLETED, NEW: PullPhase.DOWNLOADING}
    (old,) = [row for row in world.shown if row.image_ref == OLD]
    assert not old.pods


@pytest.mark.parametrize("how", ["failed", "restarted", "expired"])
def test_a_pull_of_a_deleted_pod_that_is_over_does_not_claim_the_next_one(world, how):
    """It failed; or the kubelet, which was restarted, has pulled something else; or an hour has passed."""
    late = 12
    if how == "failed":
        world.tell(event(world.old.failed("app", NOW + 11, NOT_FOUND)), at=11)
    elif how == "restarted":
        other = web("other", "redis:7")
        world.tell(seen(other), event(other.pulling("app", NOW + 11)), event(other.pulled("app", NOW + 11)), at=11.5)
    else:
        late = 3620
        world.tell(event(world.new.pulling("app", NOW + 3615)), at=3615)
    world.say(pull("lease-2", layer("b", MIB), at=NOW + late, **APP), at=late + 1)
    assert rows(world)[NEW] is PullPhase.DOWNLOADING
    assert OLD not in rows(world)
