"""A real containerd pulls images, a real API server stores pods and events, and Pulltrace combines the two.

The test itself acts as the kubelet: it calls containerd through the CRI and writes what a kubelet would write, in the
kubelet's wording.
"""

import asyncio
import time
from contextlib import AsyncExitStack

import grpc.aio
import pytest

from pulltrace.demo.pod_events import PodEvents, pod
from tests.e2e.programs import Api, Program
from tests.patience import PATIENCE
from tests.real.images import MIB, make_image, make_layer
from tests.real.process import free_port
from tests.server.kubernetes.writing import Writer

pytestmark = [pytest.mark.real, pytest.mark.cluster]


class Kubelet:
    """Pull pods' images and report the pulls to the API server, as a kubelet would."""

    def __init__(self, node, writer):
        self._node, self._writer = node, writer

    async def create(self, name, image, node="worker-1", **more):
        arrival = PodEvents(pod(name, node, {"app": image}, at=time.time(), **more))
        await self._writer.create(arrival)
        return arrival

    async def pull(self, arrival):
        """Try once to pull the pod's image. Return containerd's error, or None."""
        image = arrival.pod["spec"]["containers"][0]["image"]
        await self._writer.event(arrival.pulling("app", time.time()))
        try:
            await self._node.cri.pull(image)
        except grpc.aio.AioRpcError as error:
            words = f"rpc error: code = {''.join(part.title() for part in error.code().name.split('_'))}"
            await self._writer.event(arrival.failed("app", time.time(), f"{words} desc = {error.details()}"))
            await self._writer.status(arrival)
            return error.details()
        await self._writer.event(arrival.pulled("app", time.time()))
        arrival.started("app", time.time())
        await self._writer.status(arrival)
        return None


@pytest.fixture
def cluster(shared_cluster):
    return shared_cluster


@pytest.fixture
async def api(node, cluster):
    """Start the server and the agent as processes, with the server watching the real API server."""
    port = free_port()
    server = Program("server", HTTP_ADDR=f"127.0.0.1:{port}", METRICS_ADDR="127.0.0.1:0")
    server._environment["KUBECONFIG"] = str(cluster.kubeconfig)
    agent = Program(
        "agent",
        NODE_NAME="worker-1",
        SERVER_URL=f"http://127.0.0.1:{port}",
        CONTAINERD_SOCKET=str(node.socket),
        REPORT_INTERVAL="500ms",
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(server)
        client = await stack.enter_async_context(Api(port))
        await client.ready()
        await stack.enter_async_context(agent)
        await _agent_reports(client)
        yield client


async def _agent_reports(client):
    async with asyncio.timeout(PATIENCE):
        while not (await client.get("/api/v1/nodes"))["nodes"]:
            await asyncio.wait([asyncio.ensure_future(asyncio.sleep(0.1))])


@pytest.fixture
def kubelet(node, cluster):
    return Kubelet(node, Writer(cluster))


def named(pulls, image):
    return next((pull for pull in pulls if pull["imageRef"] == image), None)


async def test_two_pods_can_wait_for_two_images_that_are_pulled_at_the_same_time(api, kubelet, registry):
    base = make_layer(2 * MIB)
    web = registry.push("shop/web:1.27", make_image(base, make_layer(8 * MIB)))
    db = registry.push("shop/db:16", make_image(base, make_layer(16 * MIB)))
    registry.limit(4 * MIB)
    arrivals = [
        await kubelet.create("web-1", web, owner=("ReplicaSet", "web-5d4f7c9b8d")),
        await kubelet.create("db-0", db, owner=("StatefulSet", "db")),
    ]
    pulling = asyncio.gather(*map(kubelet.pull, arrivals))
    pulls = await api.until(
        lambda pulls: all((pull := named(pulls, ref)) and 0 < pull["percent"] < 100 for ref in (web, db))
    )
    for ref, name, owner in ((web, "web-1", "Deployment/web"), (db, "db-0", "StatefulSet/db")):
        (waiting,) = named(pulls, ref)["pods"]
        assert (waiting["podName"], waiting["owner"], waiting["container"]) == (name, owner, "app")
        assert "refGuessed" not in named(pulls, ref)
    seen = await api.get("/api/v1/pods")
    assert seen["watching"]
    assert {(item["podName"], item["containers"][0]["state"]) for item in seen["pods"]} == {
        ("web-1", "downloading"),
        ("db-0", "downloading"),
    }
    assert await pulling == [None, None]
    # A pod counts as waiting until the API server has reported its new state, which may be some time after the pull's
    # end.
    pulls = await api.until(
        lambda pulls: len(pulls) == 2 and all(pull["status"] == "completed" and "waited" in pull for pull in pulls)
    )
    assert {(pull["imageRef"], pull["waited"][0]["podName"]) for pull in pulls} == {(web, "web-1"), (db, "db-0")}
    async with asyncio.timeout(PATIENCE):
        while (await api.get("/api/v1/pods"))["pods"]:
            await asyncio.wait([asyncio.ensure_future(asyncio.sleep(0.1))])
    images = {row["imageRef"]: row for row in (await api.get("/api/v1/images"))["images"]}
    assert images[web]["nodes"] == {"done": 1, "pulling": 0, "queued": 0, "failed": 0}
    assert images[db]["worstSeconds"] >= images[web]["worstSeconds"] > 0


@pytest.mark.parametrize(("answer", "reason"), [(404, "not_found"), (401, "unauthorized"), (429, "rate_limited")])
async def test_an_error_response_from_the_registry_is_shown_with_its_reason(api, kubelet, registry, answer, reason):
    image = registry.push("shop/web:1.27", make_image(make_layer(MIB)))
    registry.repository("shop/web").answer = answer
    arrival = await kubelet.create("web-1", image)
    words = await kubelet.pull(arrival)
    assert words
    pulls = await api.until(lambda pulls: pulls and pulls[0].get("errorReason") == reason)
    (failed,) = pulls
    assert (failed["imageRef"], failed["status"], failed["attempt"]) == (image, "failed", 1)
    assert words in failed["error"]
    assert failed["pods"][0]["podName"] == "web-1"
    assert failed["nextRetryAt"]
    registry.repository("shop/web").answer = None
    assert await kubelet.pull(arrival) is None
    pulls = await api.until(lambda pulls: pulls and pulls[0]["status"] == "completed")
    (done,) = pulls
    assert (done["id"], done["attempt"]) == (failed["id"], 2)
    assert "error" not in done


async def test_an_image_that_waits_for_another_pull_is_queued(api, kubelet, registry):
    first = registry.push("shop/first:1", make_image(layer := make_layer(4 * MIB)))
    second = registry.push("shop/second:1", make_image(make_layer(MIB)))
    registry.blob(layer.digest).hold(at=MIB)
    one, two = await kubelet.create("one", first), await kubelet.create("two", second)
    pulling = asyncio.create_task(kubelet.pull(one))
    await api.until(lambda pulls: (pull := named(pulls, first)) and pull["status"] == "downloading")
    # A kubelet that pulls serially sends the Pulling event for the second image before the first pull has ended.
    await kubelet._writer.event(two.pulling("app", time.time()))
    pulls = await api.until(lambda pulls: named(pulls, second))
    assert (named(pulls, second)["status"], named(pulls, second)["pods"][0]["podName"]) == ("queued", "two")
    registry.blob(layer.digest).release()
    assert await pulling is None
    id_ = named(pulls, second)["id"]
    assert await kubelet.pull(two) is None
    pulls = await api.until(lambda pulls: len(pulls) == 2 and all(pull["status"] == "completed" for pull in pulls))
    assert named(pulls, second)["id"] == id_
