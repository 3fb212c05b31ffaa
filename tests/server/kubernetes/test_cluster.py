"""Pods and their images, as events and statuses from the API server."""

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.kubernetes.cluster import Cluster
from pulltrace.server.kubernetes.node_demands import ABANDONED, LINGER, UNSEEN_POD
from pulltrace.server.kubernetes.objects import Event, EventSeen, EventsHeard, Pod, PodGone, PodSeen, PodsListed
from pulltrace.wire import ErrorReason

T = 1_700_000_000.0
NGINX = "docker.io/library/nginx:1.27"
NOT_FOUND = (
    'rpc error: code = NotFound desc = failed to pull and unpack image "docker.io/library/nginx:1.27": '
    'failed to resolve reference "docker.io/library/nginx:1.27": docker.io/library/nginx:1.27: not found'
)


def seen(arrival):
    item = arrival.pod if isinstance(arrival, PodEvents) else arrival
    return PodSeen(msgspec.convert(item, Pod))


def event(item, *, fresh=True):
    return EventSeen(msgspec.convert(item, Event), fresh)


def web(name="web-1", **more):
    return PodEvents(pod(name, "n1", {"app": "nginx:1.27"}, at=T, **more))


@pytest.fixture
def cluster():
    return Cluster()


def only(cluster, node="n1"):
    (demand,) = cluster.demands(node)
    return demand


def test_a_demand_lasts_from_pulling_until_the_container_starts(cluster):
    arrival = web(owner=("ReplicaSet", "web-5d4f7c9b8d"))
    assert cluster.apply(seen(arrival), T) == {"n1"}
    demand = only(cluster)
    assert not demand.requested
    assert demand.since == T

    assert cluster.apply(event(arrival.pulling("app", T + 2)), T + 2.4) == {"n1"}
    demand = only(cluster)
    assert (demand.image, demand.pulling, demand.since, demand.attempt) == (NGINX, True, T + 2, 1)
    (correlation,) = demand.pods
    assert correlation.pod_name == "web-1"
    assert correlation.container == "app"
    assert correlation.image == "nginx:1.27"
    assert correlation.owner == "Deployment/web"
    assert correlation.waiting_reason == "ContainerCreating"

    cluster.apply(event(arrival.pulled("app", T + 9)), T + 9.1)
    demand = only(cluster)
    assert (demand.pulling, demand.pulled_at, demand.failure) == (False, T + 9, None)
    arrival.started("app", T + 10)
    cluster.apply(seen(arrival), T + 10)
    assert not list(cluster.waiting())
    assert only(cluster).pulled_at == T + 9
    assert cluster.expire(T + 9 + LINGER) == {"n1"}
    assert not cluster.demands("n1")
    assert not list(cluster.nodes())


def test_a_failure_backs_off_and_a_retry_is_the_next_attempt(cluster):
    arrival = web()
    at = T
    expected_waits = [10, 20, 40, 80, 160, 300, 300]
    # The kubelet syncs every 10 to 15 s, and did so 2 s after the failure.
    estimates = [14.5, 27, 52, 89.5, 164.5, 302, 302]
    for number, (wait, estimate) in enumerate(zip(expected_waits, estimates, strict=True), 1):
        cluster.apply(event(arrival.pulling("app", at)), at)
        assert only(cluster).attempt == number
        assert only(cluster).pulling
        cluster.apply(event(arrival.failed("app", at + 1, NOT_FOUND)), at + 1)
        cluster.apply(seen(arrival), at + 1.1)
        cluster.apply(event(arrival.backing_off("app", at + 3)), at + 3)
        cluster.apply(seen(arrival), at + 3.1)
        demand = only(cluster)
        assert not demand.pulling
        assert demand.failure.attempt == number
        assert demand.failure.reason is ErrorReason.NOT_FOUND
        assert demand.failure.message == NOT_FOUND
        assert demand.failure.next_retry_at - demand.failure.at == estimate
        at += 1 + wait
    cluster.apply(event(arrival.pulling("app", at)), at)
    demand = only(cluster)
    assert (demand.pulling, demand.attempt, demand.failure.attempt) == (True, 8, 7)
    cluster.apply(event(arrival.pulled("app", at + 5)), at + 5)
    assert only(cluster).failure is None


def test_a_status_that_repeats_the_old_failure_does_not_end_the_new_attempt(cluster):
    arrival = web()
    cluster.apply(seen(arrival), T)
    cluster.apply(event(arrival.pulling("app", T)), T)
    cluster.apply(event(arrival.failed("app", T + 1, NOT_FOUND)), T + 1)
    arrival.backing_off("app", T + 2)
    cluster.apply(seen(arrival), T + 2)
    cluster.apply(event(arrival.pulling("app", T + 12)), T + 12)
    cluster.apply(seen(arrival), T + 13)
    assert only(cluster).pulling


def test_without_events_the_statuses_are_enough(cluster):
    arrival = web()
    cluster.apply(seen(arrival), T)
    for number in (1, 2, 3):
        arrival.failed("app", 0, NOT_FOUND)
        cluster.apply(seen(arrival), T + 100 * number)
        arrival.backing_off("app", 0)
        cluster.apply(seen(arrival), T + 100 * number + 5)
        assert only(cluster).failure.attempt == number
        assert only(cluster).failure.reason is ErrorReason.NOT_FOUND
    arrival.started("app", T + 400)
    cluster.apply(seen(arrival), T + 400)
    assert only(cluster).pulled_at == T + 400


def test_a_server_that_starts_later_learns_the_attempt_and_the_cause_from_listed_events(cluster):
    arrival = web()
    events = []
    for number in range(3):
        events = [arrival.pulling("app", T + 100 * number), arrival.failed("app", T + 100 * number + 1, NOT_FOUND)]
    events.append(arrival.backing_off("app", T + 230))
    now = T + 240
    for order in (events, events[::-1]):
        late = Cluster()
        late.apply(seen(arrival), now)
        for item in order:
            late.apply(event(item, fresh=False), now)
        demand = only(late)
        assert not demand.pulling
        assert (demand.failure.attempt, demand.failure.at) == (3, T + 201)
        assert demand.failure.next_retry_at == T + 242.5
        assert demand.failure.reason is ErrorReason.NOT_FOUND


def test_a_server_that_starts_during_a_retry_shows_it_as_pulling_and_knows_the_last_failure(cluster):
    arrival = web()
    arrival.pulling("app", T)
    failed = arrival.failed("app", T + 1, NOT_FOUND)
    arrival.backing_off("app", T + 2)
    again = arrival.pulling("app", T + 12)
    for order in ((failed, again), (again, failed)):
        late = Cluster()
        late.apply(seen(arrival), T + 20)
        for item in order:
            late.apply(event(item, fresh=False), T + 20)
        demand = only(late)
        assert (demand.pulling, demand.attempt) == (True, 2)
        assert (demand.failure.attempt, demand.failure.at, demand.failure.message) == (1, T + 1, NOT_FOUND)


def test_the_back_off_message_of_an_old_kubelet_gets_its_cause_from_the_event(cluster):
    arrival = web()
    failed = arrival.failed("app", T + 1, NOT_FOUND)
    arrival.pod["status"]["containerStatuses"][0]["state"] = {
        "waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "nginx:1.27"'}
    }
    cluster.apply(seen(arrival), T + 60)
    assert only(cluster).failure.reason is ErrorReason.UNKNOWN
    cluster.apply(event(failed, fresh=False), T + 60)
    demand = only(cluster)
    assert (demand.failure.reason, demand.failure.message, demand.failure.attempt) == (
        ErrorReason.NOT_FOUND,
        NOT_FOUND,
        1,
    )
    assert demand.failure.at == T + 1


def test_listed_events_of_running_pods_are_ignored(cluster):
    arrival = web()
    old = [arrival.pulling("app", T), arrival.pulled("app", T + 5)]
    arrival.started("app", T + 6)
    cluster.apply(seen(arrival), T + 1000)
    for item in old:
        assert cluster.apply(event(item, fresh=False), T + 1000) == set()
    assert not cluster.demands("n1")


def test_an_event_may_arrive_before_its_pod_and_is_forgotten_if_none_arrives(cluster):
    arrival = web(owner=("DaemonSet", "web"))
    assert cluster.apply(event(arrival.pulling("app", T)), T) == {"n1"}
    demand = only(cluster)
    assert (demand.pods[0].namespace, demand.pods[0].pod_name, demand.pods[0].container) == ("default", "web-1", "app")
    cluster.apply(seen(arrival), T + 1)
    assert only(cluster).pods[0].owner == "DaemonSet/web"
    stranger = web("stranger")
    cluster.apply(event(stranger.pulling("app", T)), T)
    assert len(only(cluster).pods) == 2
    assert cluster.expire(T + UNSEEN_POD) == {"n1"}
    assert [item.pod_name for item in only(cluster).pods] == ["web-1"]


def test_combined_events_are_received_and_not_counted(cluster):
    arrival = web()
    cluster.apply(event(arrival.pulling("app", T)), T)
    failed = arrival.failed("app", T + 1, NOT_FOUND)
    failed |= {"message": f"(combined from similar events): {failed['message']}", "count": 83}
    cluster.apply(event(failed), T + 1)
    demand = only(cluster)
    assert (demand.failure.message, demand.failure.attempt, demand.attempt) == (NOT_FOUND, 1, 1)
    cluster.apply(event(arrival.pulling("app", T + 11)), T + 11)
    pulled = arrival.pulled("app", T + 12)
    pulled |= {"message": f"(combined from similar events): {pulled['message']}", "count": 3}
    cluster.apply(event(pulled), T + 12)
    assert only(cluster).pulled_at == T + 12


def test_a_request_of_a_pod_that_never_appears_ends_even_after_a_retry(cluster):
    arrival = web()
    for at in (T, T + UNSEEN_POD - 10):
        cluster.apply(event(arrival.pulling("app", at)), at)
        cluster.apply(event(arrival.failed("app", at + 1, NOT_FOUND)), at + 1)
    cluster.expire(T + UNSEEN_POD)
    assert only(cluster).attempt == 2
    cluster.expire(T + 2 * UNSEEN_POD)
    assert not list(cluster.nodes())


def test_many_pods_that_request_one_image_are_one_demand(cluster):
    arrivals = [web(f"web-{number}") for number in range(3)]
    for number, arrival in enumerate(arrivals):
        cluster.apply(seen(arrival), T)
        cluster.apply(event(arrival.pulling("app", T + number)), T + number)
    demand = only(cluster)
    assert [item.pod_name for item in demand.pods] == ["web-0", "web-1", "web-2"]
    assert demand.since == T
    cluster.apply(event(arrivals[1].failed("app", T + 5, NOT_FOUND)), T + 5)
    assert only(cluster).pulling
    for number in (0, 2):
        cluster.apply(event(arrivals[number].pulled("app", T + 9)), T + 9)
    assert only(cluster).pulled_at == T + 9, "a pod that backs off will find the image present"
    cluster.apply(event(arrivals[1].pulling("app", T + 15)), T + 15)
    assert only(cluster).pulled_at is None
    cluster.apply(event(arrivals[1].pulled("app", T + 16)), T + 16)
    assert only(cluster).pulled_at == T + 16


def test_demands_are_in_the_order_of_the_kubelets_events(cluster):
    first = PodEvents(pod("b", "n1", {"app": "registry.io/team/app:2"}, at=T))
    second = PodEvents(pod("a", "n1", {"app": "registry.io/team/app:1"}, at=T))
    third = PodEvents(pod("c", "n1", {"app": "registry.io/team/other:1"}, at=T - 50))
    for arrival in (second, first, third):
        cluster.apply(seen(arrival), T)
    cluster.apply(event(first.pulling("app", T + 1)), T + 1)
    cluster.apply(event(second.pulling("app", T + 2)), T + 2)
    assert [demand.image.rpartition("/")[2] for demand in cluster.demands("n1")] == ["app:2", "app:1", "other:1"]


def test_an_image_that_was_present_is_not_needed(cluster):
    arrival = web()
    cluster.apply(seen(arrival), T)
    assert cluster.apply(event(arrival.already_present("app", T + 1)), T + 1) == {"n1"}
    assert not cluster.demands("n1")
    assert [item.name for item in cluster.waiting()] == ["web-1"]


def test_init_containers_are_first_and_the_app_waits_for_its_own_image(cluster):
    arrival = PodEvents(pod("web-1", "n1", {"app": "nginx"}, init={"migrate": "migrate:3"}, at=T))
    cluster.apply(seen(arrival), T)
    (waiting,) = cluster.waiting()
    assert [(item.name, item.kind, item.reason) for item in waiting.containers] == [
        ("migrate", "init", "PodInitializing"),
        ("app", "app", "PodInitializing"),
    ]
    cluster.apply(event(arrival.pulling("migrate", T + 1)), T + 1)
    assert [(demand.image, demand.pulling) for demand in cluster.demands("n1")] == [
        ("docker.io/library/migrate:3", True),
        ("docker.io/library/nginx:latest", False),
    ]


def test_an_image_volume_waits_like_a_container_and_has_its_own_failure(cluster):
    arrival = PodEvents(pod("web-1", "n1", {"app": "web:1"}, volumes={"model": "nginx:1.27"}, at=T))

    def waiting():
        (it,) = cluster.waiting()
        return [(item.name, item.kind, item.reason) for item in it.containers]

    cluster.apply(seen(arrival), T)
    assert waiting() == [("model", "volume", ""), ("app", "app", "ContainerCreating")]
    cluster.apply(event(arrival.pulling("model", T + 1)), T + 1)
    asked = cluster.demands("n1")[0]
    assert (asked.image, asked.pulling, asked.pods[0].container) == (NGINX, True, "model")
    failed = event(arrival.failed("model", T + 2, NOT_FOUND))
    for happens in ("failed", "backing off"):
        cluster.apply(seen(arrival), T + 3)
        assert [reason for _, _, reason in waiting()][1] == "", "its own image was not requested"
        asked, other = cluster.demands("n1")
        assert (asked.image, asked.failure.reason, other.requested) == (NGINX, ErrorReason.NOT_FOUND, False), happens
        arrival.backing_off("model", T + 4)
    cluster.apply(failed, T + 4)
    assert cluster.demands("n1")[0].failure.at == T + 2
    cluster.apply(event(arrival.pulling("model", T + 12)), T + 12)
    arrival.started("app", T + 20)
    cluster.apply(seen(arrival), T + 20)
    assert only(cluster).pulled_at == T + 20, "the image was present before a container that mounts it"
    assert not list(cluster.waiting())


def test_a_volume_may_have_the_name_of_a_container(cluster):
    arrival = PodEvents(pod("web-1", "n1", {"app": "web:1"}, volumes={"app": "nginx:1.27"}, at=T))
    cluster.apply(event(arrival.pulling("app", T)), T)
    cluster.apply(seen(arrival), T)
    cluster.apply(seen(arrival), T + 1)
    assert [(demand.image, demand.pulling) for demand in cluster.demands("n1")] == [
        (NGINX, True),
        ("docker.io/library/web:1", False),
    ]


def test_an_image_that_another_container_has_may_fail_when_it_is_pulled_again(cluster):
    arrival = PodEvents(pod("web-1", "n1", {"app": "nginx:1.27"}, init={"prepare": "nginx:1.27"}, at=T))
    arrival.started("prepare", T)
    cluster.apply(event(arrival.pulling("app", T + 1)), T + 1)
    cluster.apply(event(arrival.failed("app", T + 2, NOT_FOUND)), T + 2)
    for later in (3, 30):
        cluster.apply(seen(arrival), T + later)
        assert only(cluster).failure.at == T + 2


def test_ephemeral_containers_wait_too(cluster):
    item = pod("web-1", "n1", {"app": "nginx"}, at=T)
    arrival = PodEvents(item)
    arrival.started("app", T)
    item["spec"]["ephemeralContainers"] = [{"name": "debug", "image": "busybox"}]
    item["status"]["ephemeralContainerStatuses"] = [
        {"name": "debug", "imageID": "", "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}
    ]
    cluster.apply(seen(item), T)
    (waiting,) = cluster.waiting()
    assert [(it.name, it.kind) for it in waiting.containers] == [("debug", "ephemeral")]
    assert only(cluster).failure.reason is ErrorReason.NOT_FOUND


@pytest.mark.parametrize(
    ("happens", "reason", "retries"),
    [
        pytest.param("invalid", ErrorReason.INVALID_REFERENCE, False, id="InvalidImageName"),
        pytest.param("never", ErrorReason.NOT_FOUND, False, id="ErrImageNeverPull"),
    ],
)
def test_an_image_with_pull_policy_never_has_no_next_retry(cluster, happens, reason, retries):
    arrival = PodEvents(pod("web-1", "n1", {"app": "Nginx:Bad:Name" if happens == "invalid" else "nginx"}, at=T))
    item = getattr(arrival, happens)("app", T)
    for change in (seen(arrival), event(item)):
        for order in ((change,), (seen(arrival), event(item))):
            fresh = Cluster()
            for one in order:
                fresh.apply(one, T)
            demand = only(fresh)
            assert demand.failure.reason is reason
            assert (demand.failure.next_retry_at is not None) is retries


@pytest.mark.parametrize("reason", ["ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed"])
def test_every_other_waiting_reason_is_a_failure(cluster, reason):
    arrival = web()
    arrival.pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": reason, "message": "it is so"}}
    cluster.apply(seen(arrival), T)
    assert only(cluster).failure.message == "it is so"
    assert only(cluster).failure.next_retry_at == T + 12.5


def test_containers_that_wait_for_something_else_do_not_wait_for_an_image(cluster):
    arrival = web()
    for reason in ("CreateContainerConfigError", "CrashLoopBackOff", "RunContainerError"):
        arrival.pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": reason}}
        cluster.apply(seen(arrival), T)
        assert not list(cluster.waiting())


def test_the_demands_of_deleted_pods_are_removed(cluster):
    arrival, other = web(), web("web-2", namespace="shop")
    for item in (arrival, other):
        cluster.apply(seen(item), T)
        cluster.apply(event(item.pulling("app", T)), T)
    assert cluster.apply(PodGone(other.pod["metadata"]["uid"]), T) == {"n1"}
    assert [item.pod_name for item in only(cluster).pods] == ["web-1"]
    deleting = arrival.pod | {"metadata": arrival.pod["metadata"] | {"deletionTimestamp": "2023-11-14T22:13:20Z"}}
    assert cluster.apply(seen(deleting), T) == {"n1"}
    assert only(cluster).abandoned
    assert cluster.apply(seen(deleting), T) == set()
    assert cluster.apply(PodGone("never-heard-of"), T) == set()
    cluster.expire(T + ABANDONED)
    assert not cluster.demands("n1")


def test_the_last_events_of_a_deleted_pod_create_no_demand(cluster):
    arrival = web()
    cluster.apply(seen(arrival), T)
    cluster.apply(event(arrival.pulling("app", T)), T)
    deleting = arrival.pod | {"metadata": arrival.pod["metadata"] | {"deletionTimestamp": "2023-11-14T22:13:20Z"}}
    cluster.apply(seen(deleting), T + 1)
    assert cluster.apply(event(arrival.failed("app", T + 1, "context canceled")), T + 1) == {"n1"}
    assert not cluster.demands("n1")
    assert cluster.apply(event(arrival.pulling("app", T + 2)), T + 2) == set()
    cluster.apply(PodGone(arrival.pod["metadata"]["uid"]), T + 31)
    assert not list(cluster.nodes())
    cluster.expire(T + 1 + UNSEEN_POD)
    assert not cluster._deleted


def test_a_new_list_removes_only_what_vanished_from_its_namespace(cluster):
    arrival, other = web(), web("web-2", namespace="shop")
    for item in (arrival, other):
        cluster.apply(seen(item), T)
        cluster.apply(event(item.pulling("app", T)), T)
    assert cluster.apply(PodsListed("default", frozenset()), T) == {"n1"}
    assert [item.pod_name for item in only(cluster).pods] == ["web-2"]
    assert cluster.apply(PodsListed(None, frozenset({other.pod["metadata"]["uid"]})), T) == set()
    assert cluster.apply(PodsListed(None, frozenset()), T) == {"n1"}
    assert only(cluster).abandoned


def test_an_image_that_was_replaced_in_the_pod_is_no_longer_needed(cluster):
    arrival = web()
    cluster.apply(event(arrival.failed("app", T, NOT_FOUND)), T)
    cluster.apply(seen(arrival), T)
    arrival.pod["spec"]["containers"][0]["image"] = "nginx:1.28"
    cluster.apply(seen(arrival), T + 60)
    assert [demand.image for demand in cluster.demands("n1")] == ["docker.io/library/nginx:1.28"]


def test_a_static_pod_is_known_by_the_uid_its_kubelet_uses(cluster):
    arrival = web(owner=("Node", "n1"))
    item = arrival.pulling("app", T)
    mirror = arrival.pod["metadata"]
    mirror["annotations"] = {"kubernetes.io/config.mirror": mirror["uid"], "other": "1"}
    mirror["uid"] = "the-mirrors-own"
    cluster.apply(seen(arrival), T)
    cluster.apply(event(item), T)
    demand = only(cluster)
    assert (demand.pulling, len(demand.pods), demand.pods[0].uid) == (True, 1, "the-mirrors-own")


@pytest.mark.parametrize("skew", [-7200, -40, 300, 86400])
def test_a_node_with_a_wrong_clock_changes_no_order_and_no_countdown(cluster, skew):
    arrival = web()
    cluster.apply(event(arrival.pulling("app", T + skew)), T)
    assert only(cluster).since == T
    cluster.apply(event(arrival.failed("app", T + 1 + skew, NOT_FOUND)), T + 1)
    demand = only(cluster)
    assert not demand.pulling
    assert demand.failure.at == T + 1
    assert demand.failure.next_retry_at == T + 13.5


def test_an_event_of_a_node_with_a_correct_clock_may_arrive_late(cluster):
    arrival = web()
    cluster.apply(seen(arrival), T)
    cluster.apply(event(arrival.pulling("app", T)), T + 1)
    late = [arrival.failed("app", T + 5, NOT_FOUND), arrival.pulling("app", T + 15)]
    cluster.apply(event(late[0]), T + 90)
    assert (only(cluster).failure.at, only(cluster).failure.next_retry_at) == (T + 5, T + 17.5)
    cluster.apply(event(late[1]), T + 90)
    assert (only(cluster).since, only(cluster).attempt) == (T + 15, 2)
    cluster.apply(event(arrival.pulled("app", T + 20)), T + 900)
    assert only(cluster).pulled_at == T + 900, "so late, it is a clock that was changed"
    assert cluster.expire(T + 901) == set()


def test_a_pull_that_fails_within_the_second_in_which_it_began_has_failed_in_either_order(cluster):
    arrival = web()
    items = [arrival.pulling("app", T), arrival.failed("app", T, NOT_FOUND)]
    for order in (items, items[::-1]):
        again = Cluster()
        for item in order:
            again.apply(event(item), T)
        assert not only(again).pulling
        assert only(again).failure.attempt == 1


def test_owners_are_derived_from_names():
    def owner(kind, name):
        return msgspec.convert(pod("p", "n", {}, owner=(kind, name)), Pod).owner

    assert owner("ReplicaSet", "web-api-5d4f7c9b8d") == "Deployment/web-api"
    assert owner("StatefulSet", "db") == "StatefulSet/db"
    assert owner("Job", "backup-28123456") == "Job/backup-28123456"
    assert msgspec.convert(pod("p", "n", {}), Pod).owner is None
    bare = pod("p", "n", {}, owner=("ReplicaSet", "by-hand"))
    del bare["metadata"]["labels"]
    assert msgspec.convert(bare, Pod).owner == "ReplicaSet/by-hand"


@settings(max_examples=200)
@given(st.data())
def test_duplicates_and_any_order_of_listed_events_end_in_the_same_state(data):
    arrival = web()
    items = []
    attempts = data.draw(st.integers(1, 4))
    for number in range(attempts):
        at = T + 400 * number
        items.append(arrival.pulling("app", at))
        items.append(arrival.failed("app", at + data.draw(st.integers(0, 5)), NOT_FOUND))
        items.append(arrival.backing_off("app", at + data.draw(st.integers(5, 30))))
    # A list contains one object per kind of event, the newest, sorted by name.
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
def test_no_order_of_objects_breaks_the_cluster_state(happenings):
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


def test_without_events_a_container_that_waits_is_assumed_to_wait_for_its_image(cluster):
    arrival = web()
    cluster.apply(seen(arrival), T)
    assert not only(cluster).requested
    assert cluster.apply(EventsHeard(None, heard=False), T) == {"n1"}
    assert only(cluster).pulling
    cluster.apply(EventsHeard(None, heard=True), T)
    assert not only(cluster).requested


def test_a_namespace_without_events_does_not_affect_another(cluster):
    cluster.apply(seen(web()), T)
    cluster.apply(EventsHeard("shop", heard=False), T)
    assert not only(cluster).requested, "events of the default namespace arrive"
    cluster.apply(EventsHeard("default", heard=True), T)
    cluster.apply(seen(PodEvents(pod("till-1", "n2", {"app": "till:2"}, namespace="shop", at=T))), T)
    assert only(cluster, "n2").pulling


def test_a_pod_that_is_created_again_on_another_node_waits_there_alone():
    cluster = Cluster()
    for node in ("n1", "n2"):
        cluster.apply(seen(PodEvents(pod("etcd", node, {"app": "etcd:3"}, at=1_700_000_000.0))), 1_700_000_000.0)
    assert [waiting.node for waiting in cluster.waiting()] == ["n2"]
    cluster.apply(PodsListed(None, frozenset()), 1_700_000_000.0 + 1)
    assert not list(cluster.waiting())


@pytest.mark.parametrize("dropped", [True, False])
def test_the_attempts_of_an_image_that_is_pulled_at_each_start_are_counted_from_one(cluster, dropped):
    arrival, at = web(), T
    for _ in range(3):
        cluster.apply(event(arrival.pulling("app", at)), at)
        assert only(cluster).attempt == 1, "the kubelet continues the count"
        cluster.apply(event(arrival.pulled("app", at + 2)), at + 2)
        arrival.started("app", at + 3)
        cluster.apply(seen(arrival), at + 3)
        at += 60
        if dropped:
            cluster.expire(at + LINGER)
    for attempt in (1, 2):
        cluster.apply(event(arrival.pulling("app", at)), at)
        cluster.apply(event(arrival.failed("app", at + 1, NOT_FOUND)), at + 1)
        cluster.apply(seen(arrival), at + 1)
        demand = only(cluster)
        assert (demand.attempt, demand.failure.attempt) == (attempt, attempt)
        assert demand.failure.next_retry_at == at + 1 + 12.5 * attempt
        at += 60
