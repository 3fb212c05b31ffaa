"""Tests in which the server watches the simulated API server over HTTP, with and without faults."""

import json
import logging
import time

import pytest
from kubernetes_asyncio.config import ConfigException

from pulltrace.demo.apiserver import ApiServer as Server
from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.kubernetes import client, watch
from pulltrace.server.kubernetes.api import PODS, KubeError
from pulltrace.server.kubernetes.objects import EventSeen, PodSeen, PodsListed
from pulltrace.server.kubernetes.source import connect
from tests.server.kubernetes.watching import Following, following, kubeconfig_for


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """Shorten delays that suit real clusters but are too long for tests."""
    monkeypatch.setattr(watch, "FIRST_DELAY", 0.02)
    monkeypatch.setattr(watch, "LONGEST_DELAY", 0.2)


@pytest.fixture
async def server():
    async with Server() as running:
        yield running


@pytest.fixture
def kubeconfig(server, tmp_path):
    path = tmp_path / "kubeconfig"
    path.write_text(kubeconfig_for(server.url))
    return path


def web(number, namespace="default", node="n1"):
    return PodEvents(pod(f"web-{number}", node, {"app": "nginx:1.27"}, namespace=namespace, at=time.time()))


def requests(server, what):
    return [path for path in server.requests if what in path]


async def test_existing_objects_are_listed_and_later_changes_are_watched(server, kubeconfig):
    arrival = web(1)
    server.put("pods", arrival.pod)
    async with following(kubeconfig) as it:
        await it.until(lambda it: not it.watches.not_ready)
        assert it.pods() == {"web-1"}
        server.put("pods", web(2).pod)
        server.put("events", arrival.pulling("app", time.time()))
        await it.until(lambda it: it.pods() == {"web-1", "web-2"})
        await it.until(lambda it: it.cluster.demands("n1")[0].pulling)
        assert it.up() == {"pods": True, "events": True}
        server.delete("pods", web(2).pod)
        await it.until(lambda it: it.pods() == {"web-1"})
        arrival.started("app", time.time())
        server.put("pods", arrival.pod)
        await it.until(lambda it: not it.pods())


async def test_lists_are_paged_and_filtered_by_the_server(server, kubeconfig, monkeypatch):
    monkeypatch.setattr(client, "PAGE", 3)
    for number in range(8):
        server.put("pods", web(number).pod)
    finished, unscheduled = web("done"), web("unscheduled", node="")
    finished.pod["status"]["phase"] = "Succeeded"
    for arrival in (finished, unscheduled):
        server.put("pods", arrival.pod)
    async with following(kubeconfig) as it:
        await it.until(lambda it: not it.watches.not_ready)
        assert it.pods() == {f"web-{number}" for number in range(8)}
        (listed,) = [change for change in it.received if isinstance(change, PodsListed)]
        assert len(listed.keys) == 8
    lists = [path for path in requests(server, "/pods") if "watch" not in path]
    assert len(lists) == 3
    assert all("limit=3" in path and "fieldSelector" in path for path in lists)


async def test_a_watch_that_loses_its_connection_resumes_without_a_new_list(server, kubeconfig):
    async with following(kubeconfig) as it:
        await it.until(lambda it: it.up()["events"])
        for number in range(3):
            await server.cut()
            server.put("pods", web(number).pod)
            await it.until(lambda it, number=number: f"web-{number}" in it.pods())
        assert len([path for path in requests(server, "/pods") if "watch" not in path]) == 1


async def test_objects_that_no_longer_exist_are_removed_by_the_new_list_after_a_410(server, kubeconfig):
    gone, stays = web(1), web(2)
    for arrival in (gone, stays):
        server.put("pods", arrival.pod)
    async with following(kubeconfig) as it:
        await it.until(lambda it: it.up()["events"])
        server.trouble.silent = True
        server.delete("pods", gone.pod)
        server.put("pods", web(3).pod)
        server.compact()
        server.trouble.silent = False
        await server.cut()
        await it.until(lambda it: it.pods() == {"web-2", "web-3"})


async def test_a_list_that_expires_between_two_pages_is_requested_again_from_the_start(server, kubeconfig, monkeypatch):
    monkeypatch.setattr(client, "PAGE", 2)
    for number in range(5):
        server.put("pods", web(number).pod)
    take = Following.take

    def take_and_compact(it, change):
        take(it, change)
        if sum(isinstance(seen, PodSeen) for seen in it.received) == 1:
            server.delete("pods", web(4).pod)
            server.compact()

    monkeypatch.setattr(Following, "take", take_and_compact)
    async with following(kubeconfig) as it:
        await it.until(lambda it: not it.watches.not_ready)
        assert it.pods() == {f"web-{number}" for number in range(4)}
        lists = [path for path in requests(server, "/pods") if "watch" not in path]
        assert ["continue=" in path for path in lists] == [False, True, False, True]


async def test_a_watch_does_not_count_as_down_if_it_is_often_interrupted_but_still_delivers_changes(
    server, kubeconfig, caplog
):
    def events(it):
        return len([change for change in it.received if isinstance(change, EventSeen)])

    with caplog.at_level(logging.INFO, logger="pulltrace"):
        async with following(kubeconfig) as it:
            await it.until(lambda it: it.up()["events"])
            for number in range(4):
                arrival = web(number)
                server.put("pods", arrival.pod)
                server.put("events", arrival.pulling("app", time.time()))
                await it.until(lambda it, number=number: len(it.pods()) == events(it) == number + 1)
                await server.cut()
            await it.until(lambda it: all(it.up().values()))
    assert not caplog.records


async def test_unreadable_credentials_are_reported_but_do_not_end_the_process(server):
    def unreadable(configuration):
        raise ConfigException("Token file exists but empty.")

    api = client.HttpApi.at(server.url)
    api._client.configuration.api_key["BearerToken"] = "Bearer old"
    api._client.configuration.refresh_api_key_hook = unreadable
    with pytest.raises(KubeError, match="no credentials for the API server: Token file exists but empty"):
        await anext(api.pages(PODS, None))
    await api.close()


async def test_each_configured_namespace_has_its_own_watch_and_no_other_namespace_is_watched(server, kubeconfig):
    for namespace in ("shop", "blog", "secret"):
        server.put("pods", web(namespace, namespace=namespace).pod)
    async with following(kubeconfig, ("shop", "blog")) as it:
        await it.until(lambda it: not it.watches.not_ready and it.up()["events"])
        assert it.pods() == {"web-shop", "web-blog"}
    assert all(path.startswith(("/api/v1/namespaces/shop/", "/api/v1/namespaces/blog/")) for path in server.requests)


async def test_eighty_namespaces_can_be_watched_at_the_same_time(server, kubeconfig):
    names = tuple(f"team-{number}" for number in range(80))
    async with following(kubeconfig, names) as it:
        await it.until(lambda it: all(it.up().values()))
        assert server.watching == 160


async def test_a_missing_permission_is_logged_once_with_the_rule_that_would_grant_it(
    server, kubeconfig, caplog, monkeypatch
):
    monkeypatch.setattr(watch, "FORBIDDEN_DELAY", 0.02)
    server.trouble.forbidden = {"events"}
    server.put("pods", web(1).pod)
    with caplog.at_level(logging.INFO, logger="pulltrace"):
        async with following(kubeconfig) as it:
            await it.until(lambda it: not it.watches.not_ready)
            await it.until(lambda it: len(requests(server, "/events")) > 3)
            assert it.pods() == {"web-1"}
            assert it.cluster.demands("n1")[0].pulling  # assumed, because no event can confirm the pull
            assert it.up() == {"pods": True, "events": False}
            assert 'resources: ["events"], verbs: ["list", "watch"]' in it.watches.problem
            assert [record.getMessage() for record in caplog.records] == ["kube.watch.forbidden"]
            server.trouble.forbidden = set()
            await it.until(lambda it: it.up()["events"])
            assert it.watches.problem is None
            assert not it.cluster.demands("n1")[0].pulling


async def test_an_unavailable_api_server_delays_readiness_only_for_a_limited_time(
    server, kubeconfig, caplog, monkeypatch
):
    server.trouble.status = 503
    with caplog.at_level(logging.INFO, logger="pulltrace"):
        async with following(kubeconfig) as it:
            await it.until(lambda it: len(server.requests) > 5)
            assert "the first list of pods in all namespaces is not complete" in it.watches.not_ready
            assert it.up() == {"pods": False, "events": False}
            server.trouble.status = 0
            await it.until(lambda it: not it.watches.not_ready and all(it.up().values()))
    assert [record.getMessage() for record in caplog.records] == ["kube.watch.down", "kube.watch.up"]
    monkeypatch.setattr(watch, "GRACE", 0.1)
    server.trouble.status = 500
    async with following(kubeconfig) as it:
        await it.until(lambda it: not it.watches.not_ready and "(500)" in (it.watches.problem or ""))


async def test_watches_that_end_immediately_are_retried_with_increasing_delays(server, kubeconfig, monkeypatch):
    monkeypatch.setattr(watch, "FIRST_DELAY", 0.2)
    monkeypatch.setattr(watch, "LONGEST_DELAY", 5.0)
    server.trouble.ends_at_once = True
    async with following(kubeconfig) as it:
        await it.until(lambda it: len(requests(server, "/pods")) >= 4)
        begun = time.monotonic()
        await it.until(lambda it: len(requests(server, "/pods")) >= 5)
        assert time.monotonic() - begun > 0.2  # the delay has doubled twice; jitter shortens the delay by at most half
        server.trouble.ends_at_once = False
        server.put("pods", web(1).pod)
        await it.until(lambda it: it.pods() == {"web-1"})


async def test_a_watch_that_receives_nothing_is_considered_lost(server, kubeconfig, monkeypatch):
    monkeypatch.setattr(client, "SILENCE", 0.3)
    server.trouble.silent = True
    async with following(kubeconfig) as it:
        await it.until(lambda it: len(requests(server, "watch")) >= 4)
        server.put("pods", web(1).pod)
        server.trouble.silent = False
        await it.until(lambda it: it.pods() == {"web-1"})


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"ADDED","object":{"metadata":{"resourceVersion":"1"},"spec":"a string"}}',
        b'{"type":"ADDED","object":{"metadata":{"resourceVersion":"1"}}}',
        b'{"type":"ADDED","object":{"metadata":{"name":7,"resourceVersion":"1"},"spec":{}}}',
        b'{"type":"SOMETHING","object":{"metadata":{"resourceVersion":"1"},"spec":{}}}',
        b'{"type":"BOOKMARK","object":{"metadata":{}}}',
        b'{"type":"ERROR","object":{"code":500,"message":"etcd is unwell"}}',
        b'{"type":"ADDED"}',
        b"",
        b"<html>a proxy has something to say</html>",
        b'{"type":"ADDED","object":{"metadata":{"na',
    ],
)
async def test_malformed_lines_do_not_end_a_watch(server, kubeconfig, line):
    server.trouble.raw = [line, line]
    async with following(kubeconfig) as it:
        await it.until(lambda it: not server.trouble.raw)
        server.put("pods", web(1).pod)
        await it.until(lambda it: it.pods() == {"web-1"})
        await it.until(lambda it: all(it.up().values()))


async def test_malformed_objects_in_a_list_are_skipped_and_logged_once(server, kubeconfig, caplog):
    server.put("pods", web(1).pod)
    for number in range(2, 5):
        bad = web(number).pod
        bad["spec"]["containers"] = {"not": "a list"}
        server.put("pods", bad)
    with caplog.at_level(logging.INFO, logger="pulltrace"):
        async with following(kubeconfig) as it:
            await it.until(lambda it: not it.watches.not_ready)
            assert it.pods() == {"web-1"}
    assert [record.getMessage() for record in caplog.records] == ["kube.object.unreadable"]
    assert "$.spec.containers" in caplog.records[0].fields["error"]


async def test_objects_larger_than_a_megabyte_are_received(server, kubeconfig):
    big = web(1).pod
    big["metadata"]["annotations"] = {"big": "x" * 1_400_000}
    async with following(kubeconfig) as it:
        await it.until(lambda it: it.up()["pods"])
        server.put("pods", big)
        await it.until(lambda it: it.pods() == {"web-1"})


async def test_listed_events_are_delivered_after_the_pods_that_they_belong_to(server, kubeconfig):
    arrival = web(1)
    server.put("events", arrival.pulling("app", time.time()))
    server.put("pods", arrival.pod)
    async with following(kubeconfig) as it:
        await it.until(lambda it: not it.watches.not_ready)
        assert it.cluster.demands("n1")[0].pulling
        (listed,) = [change for change in it.received if isinstance(change, EventSeen)]
        assert not listed.fresh


async def test_the_server_sends_only_get_requests_for_pods_and_events(server, kubeconfig):
    async with following(kubeconfig) as it:
        await it.until(lambda it: all(it.up().values()))
    assert {path.partition("?")[0] for path in server.requests} == {"/api/v1/pods", "/api/v1/events"}


async def test_credentials_are_read_from_the_service_account_or_from_a_kubeconfig(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube/config").write_text(kubeconfig_for("http://127.0.0.1:1"))
    assert await connect({}) is None
    assert await connect({"KUBECONFIG": "", "KUBERNETES_SERVICE_HOST": ""}) is None
    with pytest.raises(KubeError, match="no access to Kubernetes"):
        await connect({"KUBECONFIG": str(tmp_path / "nothing-here")})
    (tmp_path / "broken").write_text(json.dumps({"current-context": "not there"}))
    with pytest.raises(KubeError, match="no access to Kubernetes"):
        await connect({"KUBECONFIG": str(tmp_path / "broken")})
    with pytest.raises(KubeError, match="no access to Kubernetes"):
        await connect({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"})


async def test_a_decreasing_resource_version_triggers_a_new_list(server, kubeconfig, monkeypatch, caplog):
    """After etcd is restored from an older backup, the watch delivers neither changes nor an error."""
    monkeypatch.setattr(watch, "QUIET", 0.1)
    monkeypatch.setattr(client, "IDLE", 0.05)
    server._version = 3000
    server.put("pods", web(1).pod)
    async with following(kubeconfig) as it:
        await it.until(lambda it: it.pods() == {"web-1"} and it.up()["pods"])
        server.trouble.silent = True
        server._version, server._oldest = 4, 1
        server._history.clear()
        server._objects["pods"].clear()
        server.put("pods", web(2).pod)
        await it.until(lambda it: it.pods() == {"web-2"})
    assert "kube.watch.reset" in caplog.messages


async def test_a_watch_continues_if_nothing_changes_in_the_cluster(server, kubeconfig, monkeypatch):
    monkeypatch.setattr(watch, "QUIET", 0.05)
    monkeypatch.setattr(client, "IDLE", 0.02)
    server.trouble.silent = True
    async with following(kubeconfig) as it:
        await it.until(lambda it: len([path for path in requests(server, "/pods") if path.endswith("limit=1")]) > 3)
    assert len([path for path in requests(server, "/pods") if "watch=true" in path]) == 1


async def test_a_resource_version_that_the_api_server_does_not_know_yet_triggers_a_new_list(server, kubeconfig):
    error = {"kind": "Status", "code": 504, "reason": "Timeout", "message": "Too large resource version: 3, current: 1"}

    def lists():
        return len([path for path in server.requests if "watch" not in path])

    async with following(kubeconfig) as it:
        await it.until(lambda it: it.up()["pods"] and it.up()["events"])
        before = lists()
        server.trouble.raw = [json.dumps({"type": "ERROR", "object": error}).encode()]
        await server.cut()
        await it.until(lambda it: lists() > before)


async def test_an_oversized_list_page_is_not_read_to_the_end(server, kubeconfig, monkeypatch):
    monkeypatch.setattr(client, "LONGEST_PAGE", 100_000)
    for number in range(200):
        server.put("pods", web(number).pod | {"junk": "x" * 1000})
    async with following(kubeconfig) as it:
        await it.until(lambda it: it.watches.problem and "longer than 100000 bytes" in it.watches.problem)


def test_lines_that_are_split_across_chunks_are_reassembled_and_their_length_is_limited(monkeypatch):
    text = b'{"a":1}\n\n{"bb":22}\n{"c"'
    for size in range(1, len(text) + 1):
        lines = client._Lines("it")
        found = [line for at in range(0, len(text), size) for line in lines.split(text[at : at + size])]
        assert found == [b'{"a":1}', b"", b'{"bb":22}']
    monkeypatch.setattr(client, "LONGEST_LINE", 10)
    lines = client._Lines("it")
    assert lines.split(b"1234567890") == []
    with pytest.raises(KubeError, match="a line of it is too long"):
        lines.split(b"1")
