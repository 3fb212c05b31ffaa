"""Tests for the HTTP responses of a complete server that watches the simulated API server."""

import asyncio
import contextlib
import time

import aiohttp
import pytest

from pulltrace.demo.apiserver import ApiServer
from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.run import serve
from tests.patience import PATIENCE
from tests.server.build import settings
from tests.server.kubernetes.changes import NOT_FOUND
from tests.server.kubernetes.watching import kubeconfig_for


class Server:
    """An HTTP client for a server that listens on free ports."""

    def __init__(self, session, ports):
        self._session, self._ports = session, ports

    async def get(self, path, **headers):
        async with self._session.get(f"http://127.0.0.1:{self._ports[0]}{path}", headers=headers) as answer:
            self.tag = answer.headers.get("ETag")
            kind = answer.content_type
            return answer.status, (
                await answer.json() if kind == "application/json" and answer.status == 200 else await answer.text()
            )

    async def metrics(self):
        async with self._session.get(f"http://127.0.0.1:{self._ports[1]}/metrics") as answer:
            return await answer.text()

    async def until(self, path, true, seconds=PATIENCE):
        async with asyncio.timeout(seconds):
            while True:
                status, body = await self.get(path)
                if status == 200 and true(body):
                    return body
                await asyncio.wait([asyncio.ensure_future(asyncio.sleep(0.05))])


@pytest.fixture
async def start(monkeypatch, tmp_path):
    """Return a function that starts a server. If an API server is given, the server watches it."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        tasks = []

        async def make(api=None, kubeconfig=None, **variables):
            if api:
                kubeconfig = tmp_path / "kubeconfig"
                kubeconfig.write_text(kubeconfig_for(api.url))
            if kubeconfig:
                monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
            ready = asyncio.get_running_loop().create_future()
            tasks.append(
                asyncio.create_task(serve(settings(**variables), on_ready=lambda *ports: ready.set_result(ports)))
            )
            return Server(session, await asyncio.wait_for(ready, 60))

        yield make
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def api():
    async with ApiServer() as running:
        yield running


def web(name, image="nginx:1.27", namespace="default"):
    return PodEvents(pod(name, "n1", {"app": image}, at=time.time(), namespace=namespace))


async def test_pods_images_and_metrics_are_served_over_http(start, api):
    failing, queued = web("failing"), web("queued", "redis:7", namespace="shop")
    for arrival in (failing, queued):
        api.put("pods", arrival.pod)
    server = await start(api)
    await server.until("/readyz", lambda body: body == "ok")
    # Event times are in whole seconds, so an event in the same second as the server's start would appear to precede it.
    api.put("events", failing.failed("app", time.time() + 1, NOT_FOUND))
    api.put("events", queued.pulling("app", time.time()))
    body = await server.until("/api/v1/pods", lambda body: len(body["pods"]) == 2)
    assert body["watching"] is True
    assert "reason" not in body
    found = {item["podName"]: item for item in body["pods"]}
    (container,) = found["failing"]["containers"]
    assert (container["state"], container["errorReason"], container["error"]) == ("failed", "not_found", NOT_FOUND)
    assert container["nextRetryAt"]
    assert found["queued"]["containers"][0]["state"] == "queued"
    assert container["pullId"] in {pull["id"] for pull in (await server.get("/api/v1/pulls"))[1]["pulls"]}
    _, body = await server.get("/api/v1/pods?namespace=shop")
    assert [item["podName"] for item in body["pods"]] == ["queued"]
    _, body = await server.get("/api/v1/images?status=queued")
    assert [row["imageRef"] for row in body["images"]] == ["docker.io/library/redis:7"]
    assert body["images"][0]["nodes"] == {"done": 0, "pulling": 0, "queued": 1, "failed": 0}
    for path in ("/api/v1/pods?colour=red", "/api/v1/images?status=sleeping"):
        assert (await server.get(path))[0] == 400
    metrics = await server.metrics()
    assert "pulltrace_pods_waiting 2.0" in metrics
    assert 'pulltrace_kube_watch_up{resource="pods"} 1.0' in metrics
    assert 'pulltrace_kube_watch_up{resource="events"} 1.0' in metrics
    assert 'pulltrace_pull_errors_total{reason="not_found",registry="docker.io"} 1.0' in metrics


async def test_a_request_for_an_unchanged_list_gets_304(start, api):
    arrival = web("web-1")
    api.put("pods", arrival.pod)
    server = await start(api)
    api.put("events", arrival.pulling("app", time.time()))
    await server.until("/api/v1/pods", lambda body: body["pods"])
    for path in ("/api/v1/pods", "/api/v1/images"):
        assert (await server.get(path))[0] == 200
        tag = server.tag
        assert (await server.get(path, **{"If-None-Match": tag}))[0] == 304
    api.put("events", arrival.failed("app", time.time(), NOT_FOUND))
    await server.until("/api/v1/pods", lambda body: body["pods"][0]["containers"][0]["state"] == "failed")
    assert (await server.get("/api/v1/pods", **{"If-None-Match": tag}))[0] == 200


async def test_the_server_explains_that_it_shows_no_pods_because_there_is_no_cluster(start):
    server = await start()
    assert (await server.get("/readyz"))[0] == 200
    assert (await server.get("/api/v1/pods"))[1] == {
        "pods": [],
        "watching": False,
        "reason": "not running in a cluster, and KUBECONFIG names none",
        "started": [],
    }
    assert (await server.get("/api/v1/images"))[1] == {"images": []}
    assert "kube_watch" not in await server.metrics()


async def test_the_server_reports_an_unusable_kubeconfig(start, tmp_path):
    server = await start(kubeconfig=tmp_path / "nothing-here")
    assert (await server.get("/readyz"))[0] == 200
    _, body = await server.get("/api/v1/pods")
    assert body["watching"] is False
    assert "no access to Kubernetes" in body["reason"]


async def test_the_server_is_ready_after_the_first_list_and_remains_ready_without_the_api_server(start, api):
    api.trouble.status = 503
    server = await start(api)
    status, reason = await server.get("/readyz")
    assert status == 503
    assert "the first list of pods in all namespaces is not complete" in reason
    api.trouble.status = 0
    await server.until("/readyz", lambda body: body == "ok")
    api.trouble.status = 503
    await api.cut()
    assert (await server.get("/readyz"))[0] == 200


async def test_a_missing_permission_is_reported_together_with_the_visible_pods(start, api):
    arrival = web("web-1")
    api.put("pods", arrival.pod)
    api.trouble.forbidden = {"events"}
    server = await start(api, WATCH_NAMESPACES="default")
    body = await server.until("/api/v1/pods", lambda body: body["pods"])
    assert body["pods"][0]["containers"][0]["state"] == "queued"
    assert body["watching"] is True
    assert 'a Role in namespace default with the rule {apiGroups: [""], resources: ["events"]' in body["reason"]
    api.trouble.forbidden = {"pods"}
    await api.cut()
    body = await server.until("/api/v1/pods", lambda body: not body["watching"])
    assert 'cannot list resource "pods"' in body["reason"]
