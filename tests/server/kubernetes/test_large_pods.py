"""Tests with pods that have hundreds of containers and volumes. A real API server accepts pods of this size."""

import msgspec

from pulltrace.demo.pod_events import pod
from pulltrace.server.kubernetes import node_demands
from pulltrace.server.kubernetes.cluster import Cluster
from pulltrace.server.kubernetes.objects import MAX_CONTAINERS, MAX_IMAGE_VOLUMES, Pod
from tests.server.kubernetes.changes import T, event, seen, web


def huge(containers: int, volumes: int) -> Pod:
    names = {f"c{number}": f"app:{number}" for number in range(containers)}
    return msgspec.convert(pod("huge", "n1", names, volumes={f"v{n}": f"model:{n}" for n in range(volumes)}, at=T), Pod)


def test_only_the_first_containers_and_volumes_of_a_large_pod_are_read() -> None:
    large = huge(600, 200)
    assert len(list(large.containers())) == MAX_CONTAINERS
    volumes = list(large.image_volumes())
    assert len(volumes) == MAX_IMAGE_VOLUMES
    assert {len(mounted_by) for _, _, mounted_by in volumes} == {MAX_CONTAINERS}
    cluster = Cluster()
    cluster.apply(seen(msgspec.to_builtins(large, str_keys=True)), T)
    (waiting,) = cluster.waiting()
    assert len(waiting.containers) == MAX_CONTAINERS + MAX_IMAGE_VOLUMES


def test_the_total_number_of_requests_is_limited_and_removing_some_makes_room_for_new_ones() -> None:
    cluster = Cluster()
    cluster._budget = node_demands.Budget(left=3)
    pods = [web(f"web-{number}") for number in range(5)]
    for one in pods:
        cluster.apply(event(one.pulling("app", T)), T)
    assert (len(cluster.demands("n1")[0].pods), cluster.dropped) == (3, 2)
    cluster.expire(T + node_demands.UNSEEN_POD)
    assert not cluster.demands("n1")
    cluster.apply(event(pods[4].pulling("app", T + 700)), T + 700)
    assert len(cluster.demands("n1")[0].pods) == 1


def test_a_long_waiting_message_is_truncated() -> None:
    one = web()
    one.pod["status"]["containerStatuses"][0]["state"] = {
        "waiting": {"reason": "ErrImagePull", "message": "x" * 10_000}
    }
    cluster = Cluster()
    cluster.apply(seen(one), T)
    (demand,) = cluster.demands("n1")
    assert demand.failure
    assert len(demand.failure.message) == 2048
    assert all(len(item.message) <= 4096 for waiting in cluster.waiting() for item in waiting.containers)
