"""Tests in which the server watches a real kube-apiserver. The tests write the events and pod statuses that a kubelet
would write.
"""

import asyncio
import logging
import time

import pytest

from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.kubernetes import watch
from pulltrace.server.kubernetes.objects import PodsListed
from pulltrace.wire import ErrorReason
from tests.server.kubernetes.watching import following
from tests.server.kubernetes.writing import Writer, all_of

pytestmark = pytest.mark.cluster

NGINX = "docker.io/library/nginx:1.27"
UNAUTHORIZED = (
    'failed to pull and unpack image "docker.io/library/nginx:1.27": failed to resolve reference '
    '"docker.io/library/nginx:1.27": failed to authorize: failed to fetch anonymous token: unexpected status from GET '
    "request to https://auth.docker.io/token: 401 Unauthorized"
)


def web(name="web-1", node="n1", **more):
    return PodEvents(pod(name, node, {"app": "nginx:1.27"}, at=time.time(), **more))


@pytest.fixture
def cluster(shared_cluster):
    return shared_cluster


@pytest.fixture
def writer(cluster):
    return Writer(cluster)


async def test_a_pod_is_shown_while_its_kubelet_writes_events_and_statuses(cluster, writer):
    arrival = web(owner=("ReplicaSet", "web-5d4f7c9b8d"))
    async with following(cluster.kubeconfig) as it:
        await it.until(lambda it: all(it.up().values()))
        await writer.create(arrival)
        await it.until(lambda it: it.pods() == {"web-1"})

        def demand():
            return next(iter(it.cluster.demands("n1")), None)

        for attempt in (1, 2):
            await writer.event(arrival.pulling("app", time.time() + 20 * attempt))
            await it.until(lambda _, attempt=attempt: demand().pulling and demand().attempt == attempt)
            await writer.event(arrival.failed("app", time.time() + 20 * attempt, UNAUTHORIZED))
            await writer.status(arrival)
            await it.until(lambda _: demand().failure and not demand().pulling)
            await writer.event(arrival.backing_off("app", time.time() + 20 * attempt))
            await writer.status(arrival)
            await it.until(lambda it: next(it.cluster.waiting()).containers[0].reason == "ImagePullBackOff")
            failure = demand().failure
            assert (failure.reason, failure.message, failure.attempt) == (
                ErrorReason.UNAUTHORIZED,
                UNAUTHORIZED,
                attempt,
            )
            assert abs(failure.retry.expected_at - failure.at - 12.5 * attempt) <= 2
        await writer.event(arrival.pulling("app", time.time() + 60))
        await writer.event(arrival.pulled("app", time.time() + 61))
        await it.until(lambda _: demand().pulled_at)
        (correlation,) = demand().pods
        assert (demand().image, correlation.owner, correlation.uid) == (
            NGINX,
            "Deployment/web",
            arrival.pod["metadata"]["uid"],
        )
        arrival.started("app", time.time())
        await writer.status(arrival)
        await it.until(lambda it: not it.pods())


async def test_an_image_volume_is_shown_like_a_container(cluster, writer):
    arrival = PodEvents(pod("web-1", "n1", {"app": "web:1"}, volumes={"model": "nginx:1.27"}, at=time.time()))
    async with following(cluster.kubeconfig) as it:
        await it.until(lambda it: all(it.up().values()))
        await writer.create(arrival)
        await writer.event(arrival.pulling("model", time.time()))
        await writer.event(arrival.failed("model", time.time() + 1, UNAUTHORIZED))
        await writer.status(arrival)
        await it.until(lambda it: any(waits.containers[0].reason == "ErrImagePull" for waits in it.cluster.waiting()))
        (waiting,) = it.cluster.waiting()
        assert [(item.name, item.kind) for item in waiting.containers] == [("model", "volume"), ("app", "app")]
        asked, other = it.cluster.demands("n1")
        assert (asked.image, asked.failure.message, other.requested) == (NGINX, UNAUTHORIZED, False)


async def test_the_selectors_of_the_watches_exclude_irrelevant_objects(cluster, writer):
    done, elsewhere, waiting = web("done"), web("unscheduled"), web("waiting")
    del elsewhere.pod["spec"]["nodeName"]
    done.pod["status"]["phase"] = "Failed"
    async with following(cluster.kubeconfig) as it:
        await it.until(lambda it: all(it.up().values()))
        for arrival in (done, elsewhere, waiting):
            await writer.create(arrival)
        await it.until(lambda it: "waiting" in it.pods())
        waiting.pod["status"]["phase"] = "Succeeded"
        await writer.status(waiting)
        await it.until(lambda it: not it.pods())
    async with following(cluster.kubeconfig) as late:
        await late.until(lambda it: not it.watches.not_ready)
        assert not late.pods()
        assert [change.keys for change in late.received if isinstance(change, PodsListed)] == [frozenset()]


async def test_a_watch_resumes_after_the_api_server_has_crashed(cluster, writer):
    first, second = web("web-1"), web("web-2")
    await writer.create(first)
    async with following(cluster.kubeconfig) as it:
        await it.until(lambda it: all(it.up().values()))
        await cluster.kill()
        await it.until(lambda it: not any(it.up().values()))
        assert it.pods() == {"web-1"}
        await cluster.start()
        await writer.create(second)
        await it.until(lambda it: it.pods() == {"web-1", "web-2"}, 60)
        await it.until(lambda it: all(it.up().values()) and not it.watches.problem, 60)


async def test_a_watch_from_a_compacted_version_gets_410_and_the_objects_are_listed_again(cluster, writer, monkeypatch):
    monkeypatch.setattr(watch, "LONGEST_DELAY", 1.0)
    gone, stays = web("gone"), web("stays")
    for arrival in (gone, stays):
        await writer.create(arrival)
    async with following(cluster.kubeconfig) as it:
        await it.until(lambda it: all(it.up().values()))
        lists = sum(isinstance(change, PodsListed) for change in it.received)
        # Change objects while the watches are down, and then compact the history of those changes.
        it.watches._api._client.configuration.host = "https://127.0.0.1:9"
        await cluster.kill()
        await it.until(lambda it: not any(it.up().values()))
        await cluster.start()
        await writer.delete(gone)
        await writer.create(web("new"))
        await cluster.compact()
        await cluster.kill()
        await cluster.start()
        it.watches._api._client.configuration.host = cluster.url
        await it.until(lambda it: it.pods() == {"stays", "new"}, 60)
        assert sum(isinstance(change, PodsListed) for change in it.received) > lists


async def test_only_the_configured_namespaces_are_watched(cluster, writer):
    for name in ("shop", "blog", "secret"):
        await writer.namespace(name)
        await writer.create(web(f"web-{name}", namespace=name))
    async with following(cluster.kubeconfig, ("shop", "blog")) as it:
        await it.until(lambda it: not it.watches.not_ready)
        assert it.pods() == {"web-shop", "web-blog"}


async def test_two_thousand_pods_and_ten_thousand_events_are_listed(cluster, writer):
    arrivals = [web(f"web-{number}", f"node-{number % 100}") for number in range(2000)]
    await all_of(writer.create(arrival) for arrival in arrivals)
    at = time.time()
    events = []
    for arrival in arrivals:
        events += [
            arrival.pulling("app", at),
            arrival.failed("app", at + 1, UNAUTHORIZED),
            arrival.backing_off("app", at + 2),
            arrival.never("app", at - 100),
            arrival.already_present("app", at - 200),
        ]
    await all_of(writer.event(event) for event in events)
    stalls: list[float] = []

    async def measure_stalls():
        while True:
            before = time.thread_time()  # the CPU time of this thread, regardless of other processes
            await asyncio.sleep(0.005)
            stalls.append(time.thread_time() - before)

    feeling = asyncio.create_task(measure_stalls())
    begun = time.monotonic()
    async with following(cluster.kubeconfig) as it:
        await it.until(lambda it: not it.watches.not_ready, 120)
        took = time.monotonic() - begun
        feeling.cancel()
        assert len(it.pods()) == 2000
        assert len(list(it.cluster.nodes())) == 100
        demands = [demand for node in it.cluster.nodes() for demand in it.cluster.demands(node)]
        assert {(demand.image, len(demand.pods), demand.failure.reason, demand.pulling) for demand in demands} == {
            (NGINX, 20, ErrorReason.UNAUTHORIZED, False)
        }
    logging.getLogger("tests").info("listed in %.2f s, longest turn of the loop %.3f s of CPU", took, max(stalls))
    assert max(stalls) < 0.25
