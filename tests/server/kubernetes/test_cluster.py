"""The cluster state: which pods wait for which images, according to events and statuses from the API server."""

import msgspec
import pytest

from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.kubernetes.cluster import Cluster
from pulltrace.server.kubernetes.node_demands import ABANDONED, LINGER, UNSEEN_POD
from pulltrace.server.kubernetes.objects import EventsHeard, Pod, PodGone, PodsListed
from pulltrace.wire import ErrorReason
from tests.server.kubernetes.changes import NGINX, NOT_FOUND, T, event, only, seen, web


@pytest.fixture
def cluster():
    return Cluster()


def test_a_demand_exists_from_the_first_status_of_its_pod_until_some_time_after_the_pull(cluster):
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


def test_the_kubelet_backs_off_after_a_failure_and_its_retry_is_the_next_attempt(cluster):
    arrival = web()
    at = T
    expected_waits = [10, 20, 40, 80, 160, 300, 300]
    # The kubelet syncs a pod every 10 to 15 s, and last synced this pod 2 s after the failure.
    estimates = [14.5, 27, 46.3, 86.3, 166.3, 306.3, 306.3]
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
        assert demand.failure.retry.expected_at - demand.failure.at == pytest.approx(estimate)
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


def test_image_demands_are_derived_from_statuses_alone_if_there_are_no_events(cluster):
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


def test_a_server_that_starts_later_reads_the_attempt_and_the_cause_of_its_failure_from_listed_events(cluster):
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
        assert demand.failure.retry.expected_at == T + 245
        assert demand.failure.reason is ErrorReason.NOT_FOUND


def test_a_server_that_starts_during_a_retry_shows_the_running_pull_and_the_cause_of_the_last_failure(cluster):
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


def test_the_cause_is_read_from_the_event_if_the_status_of_an_old_kubelet_only_reports_a_back_off(cluster):
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


def test_listed_events_about_running_pods_are_ignored(cluster):
    arrival = web()
    old = [arrival.pulling("app", T), arrival.pulled("app", T + 5)]
    arrival.started("app", T + 6)
    cluster.apply(seen(arrival), T + 1000)
    for item in old:
        assert cluster.apply(event(item, fresh=False), T + 1000) == set()
    assert not cluster.demands("n1")


def test_an_event_can_arrive_before_its_pod_and_is_forgotten_if_the_pod_never_arrives(cluster):
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


def test_the_count_of_aggregated_events_does_not_change_the_attempt_number(cluster):
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


def test_the_image_demand_of_a_pod_that_never_appears_is_removed_even_after_a_retry(cluster):
    arrival = web()
    for at in (T, T + UNSEEN_POD - 10):
        cluster.apply(event(arrival.pulling("app", at)), at)
        cluster.apply(event(arrival.failed("app", at + 1, NOT_FOUND)), at + 1)
    cluster.expire(T + UNSEEN_POD)
    assert only(cluster).attempt == 2
    cluster.expire(T + 2 * UNSEEN_POD)
    assert not list(cluster.nodes())


def test_pods_that_request_the_same_image_share_one_image_demand(cluster):
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
    assert only(cluster).pulled_at == T + 9, "the pod that backs off will find the image on the node"
    cluster.apply(event(arrivals[1].pulling("app", T + 15)), T + 15)
    assert only(cluster).pulled_at is None
    cluster.apply(event(arrivals[1].pulled("app", T + 16)), T + 16)
    assert only(cluster).pulled_at == T + 16


def test_the_images_that_a_node_needs_are_listed_in_the_order_of_the_kubelet_events(cluster):
    first = PodEvents(pod("b", "n1", {"app": "registry.io/team/app:2"}, at=T))
    second = PodEvents(pod("a", "n1", {"app": "registry.io/team/app:1"}, at=T))
    third = PodEvents(pod("c", "n1", {"app": "registry.io/team/other:1"}, at=T - 50))
    for arrival in (second, first, third):
        cluster.apply(seen(arrival), T)
    cluster.apply(event(first.pulling("app", T + 1)), T + 1)
    cluster.apply(event(second.pulling("app", T + 2)), T + 2)
    assert [demand.image.rpartition("/")[2] for demand in cluster.demands("n1")] == ["app:2", "app:1", "other:1"]


def test_there_is_no_demand_for_an_image_that_is_already_present(cluster):
    arrival = web()
    cluster.apply(seen(arrival), T)
    assert cluster.apply(event(arrival.already_present("app", T + 1)), T + 1) == {"n1"}
    assert not cluster.demands("n1")
    assert [item.name for item in cluster.waiting()] == ["web-1"]


def test_the_image_demands_of_deleted_pods_are_removed(cluster):
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


def test_the_last_events_of_a_deleted_pod_do_not_create_an_image_demand(cluster):
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


def test_a_new_list_removes_only_pods_that_no_longer_exist_in_its_namespace(cluster):
    arrival, other = web(), web("web-2", namespace="shop")
    for item in (arrival, other):
        cluster.apply(seen(item), T)
        cluster.apply(event(item.pulling("app", T)), T)
    assert cluster.apply(PodsListed("default", frozenset()), T) == {"n1"}
    assert [item.pod_name for item in only(cluster).pods] == ["web-2"]
    assert cluster.apply(PodsListed(None, frozenset({other.pod["metadata"]["uid"]})), T) == set()
    assert cluster.apply(PodsListed(None, frozenset()), T) == {"n1"}
    assert only(cluster).abandoned


def test_there_is_no_demand_for_an_image_that_was_replaced_in_the_pod(cluster):
    arrival = web()
    cluster.apply(event(arrival.failed("app", T, NOT_FOUND)), T)
    cluster.apply(seen(arrival), T)
    arrival.pod["spec"]["containers"][0]["image"] = "nginx:1.28"
    cluster.apply(seen(arrival), T + 60)
    assert [demand.image for demand in cluster.demands("n1")] == ["docker.io/library/nginx:1.28"]


def test_events_of_a_static_pod_are_matched_by_the_uid_from_its_kubelet(cluster):
    arrival = web(owner=("Node", "n1"))
    item = arrival.pulling("app", T)
    mirror = arrival.pod["metadata"]
    mirror["annotations"] = {"kubernetes.io/config.mirror": mirror["uid"], "other": "1"}
    mirror["uid"] = "the-mirrors-own"
    cluster.apply(seen(arrival), T)
    cluster.apply(event(item), T)
    demand = only(cluster)
    assert (demand.pulling, len(demand.pods), demand.pods[0].uid) == (True, 1, "the-mirrors-own")


def test_the_owner_of_a_pod_is_derived_from_the_name_of_its_controller():
    def owner(kind, name):
        return msgspec.convert(pod("p", "n", {}, owner=(kind, name)), Pod).owner

    assert owner("ReplicaSet", "web-api-5d4f7c9b8d") == "Deployment/web-api"
    assert owner("StatefulSet", "db") == "StatefulSet/db"
    assert owner("Job", "backup-28123456") == "Job/backup-28123456"
    assert msgspec.convert(pod("p", "n", {}), Pod).owner is None
    bare = pod("p", "n", {}, owner=("ReplicaSet", "by-hand"))
    del bare["metadata"]["labels"]
    assert msgspec.convert(bare, Pod).owner == "ReplicaSet/by-hand"


def test_a_waiting_container_is_assumed_to_be_waiting_for_its_image_if_there_are_no_events(cluster):
    arrival = web()
    cluster.apply(seen(arrival), T)
    assert not only(cluster).requested
    assert cluster.apply(EventsHeard(None, heard=False), T) == {"n1"}
    assert only(cluster).pulling
    cluster.apply(EventsHeard(None, heard=True), T)
    assert not only(cluster).requested


def test_a_namespace_without_events_does_not_affect_other_namespaces(cluster):
    cluster.apply(seen(web()), T)
    cluster.apply(EventsHeard("shop", heard=False), T)
    assert not only(cluster).requested, "events in the default namespace still arrive"
    cluster.apply(EventsHeard("default", heard=True), T)
    cluster.apply(seen(PodEvents(pod("till-1", "n2", {"app": "till:2"}, namespace="shop", at=T))), T)
    assert only(cluster, "n2").pulling


def test_a_pod_that_is_recreated_on_a_different_node_waits_only_there():
    cluster = Cluster()
    for node in ("n1", "n2"):
        cluster.apply(seen(PodEvents(pod("etcd", node, {"app": "etcd:3"}, at=1_700_000_000.0))), 1_700_000_000.0)
    assert [waiting.node for waiting in cluster.waiting()] == ["n2"]
    cluster.apply(PodsListed(None, frozenset()), 1_700_000_000.0 + 1)
    assert not list(cluster.waiting())


def test_the_back_off_starts_again_when_the_kubelet_restarts_but_the_attempts_are_still_counted(cluster):
    arrival, at = web(), T
    for attempt in range(1, 8):
        if attempt == 5:
            arrival.kubelet_restarts()
        cluster.apply(event(arrival.pulling("app", at)), at)
        cluster.apply(event(arrival.failed("app", at + 1, NOT_FOUND)), at + 1)
        cluster.apply(seen(arrival), at + 1)
        failure = only(cluster).failure
        assert failure.attempt == attempt
        since_start = attempt if attempt < 5 else attempt - 4
        assert failure.retry.earliest_at - failure.at == 10 * 2 ** (since_start - 1)
        at += 100


@pytest.mark.parametrize("dropped", [True, False])
def test_attempt_numbers_restart_at_one_if_a_container_pulls_its_image_at_each_start(cluster, dropped):
    arrival, at = web(), T
    for _ in range(3):
        cluster.apply(event(arrival.pulling("app", at)), at)
        assert only(cluster).attempt == 1, "the kubelet's count continues, but the attempt starts again at 1"
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
        assert demand.failure.retry.expected_at == at + 1 + 12.5 * attempt
        at += 60
