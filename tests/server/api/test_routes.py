"""Tests for all routes that return data, on a real server."""

import asyncio
import socket
from datetime import datetime

import msgspec
import pytest
import yarl
from msgspec.structs import replace

from pulltrace.server.api import query as queries
from pulltrace.server.api.app import SECURITY_HEADERS
from pulltrace.server.limits import Limits
from pulltrace.server.models import PodCorrelation
from pulltrace.wire import PullPhase
from tests.patience import PATIENCE
from tests.server.build import MIB, SimulatedHub, layer, pull, report


async def filled(server):
    served = await server()
    for number in range(3):
        layers = (layer("a", number * MIB), layer("b", 0))
        more = {"repository": f"acme/app-{number}", "image_ref": f"docker.io/acme/app-{number}:1", "at": 1e9 + number}
        body = msgspec.json.encode(report(pull(f"l{number}", *layers, **more), node=f"node-{number}"))
        assert (await served.post(body)).status == 200
    failed = pull("f", status=PullPhase.FAILED, image_ref="ghcr.io/x/y:2", registry="ghcr.io", repository="x/y")
    assert (await served.post(msgspec.json.encode(report(failed, node="node-9")))).status == 200
    await served.until_published("app-2")
    return served


async def pulls(served, query: str = "") -> list[dict]:
    return (await (await served.get(f"/api/v1/pulls{query}")).json())["pulls"]


async def test_pulls_are_listed_newest_first_and_each_has_its_own_url(server) -> None:
    served = await filled(server)
    shown = await pulls(served)
    assert len(shown) == 4
    started = [datetime.fromisoformat(pull["startedAt"]) for pull in shown]
    assert started == sorted(started, reverse=True)
    alone = await (await served.get(f"/api/v1/pulls/{shown[0]['id']}")).json()
    assert alone == shown[0]
    assert (await served.get("/api/v1/pulls/nobody")).status == 404


@pytest.mark.parametrize(
    ("query", "nodes"),
    [
        pytest.param("?node=node-1", {"node-1"}, id="node"),
        pytest.param("?node=node-1,node-2", {"node-1", "node-2"}, id="several values"),
        pytest.param("?node=node-1&node=node-2", {"node-1", "node-2"}, id="a repeated parameter"),
        pytest.param("?status=failed", {"node-9"}, id="status"),
        pytest.param("?status=failed,downloading", {"node-0", "node-1", "node-2", "node-9"}, id="statuses"),
        pytest.param("?image=acme/app-1:1", {"node-1"}, id="image as written"),
        pytest.param("?image=acme/app-1", {"node-1"}, id="image's repository"),
        pytest.param("?image=docker.io/acme/app-1:1", {"node-1"}, id="image in full"),
        pytest.param("?image=acme/app-1:2", set(), id="another tag"),
        pytest.param("?image=ghcr.io/x/y&status=completed", set(), id="filters that must all match"),
        pytest.param("?namespace=shop", set(), id="a namespace without waiting pods"),
    ],
)
async def test_lists_can_be_filtered(server, query, nodes) -> None:
    served = await filled(server)
    assert {pull["nodeName"] for pull in await pulls(served, query)} == nodes


def test_a_filter_by_namespace_and_pod_matches_only_if_a_single_pod_matches_both() -> None:
    sim = SimulatedHub()
    sim.report(pull("l", layer("a")))
    pods = [
        PodCorrelation(namespace=ns, pod_name=name, container="c", image="i") for ns, name in (("a", "x"), ("b", "y"))
    ]
    status = replace(sim.one, pods=pods)
    fits = {
        text: queries.parse([part.split("=") for part in text.split("&")]).fits(status)
        for text in ("namespace=a", "pod=y", "namespace=a&pod=x", "namespace=a&pod=y", "namespace=c")
    }
    assert list(fits.values()) == [True, True, True, False, False]


@pytest.mark.parametrize("path", ["/api/v1/pulls", "/api/v1/events"])
@pytest.mark.parametrize(
    ("query", "says"),
    [
        pytest.param("?status=odd", "odd", id="an unknown value"),
        pytest.param("?colour=red", "colour", id="an unknown parameter"),
        pytest.param("?node=" + ",".join("abcdefghij" * 11), "more than", id="too many values"),
        pytest.param("?node=" + "," * 100, "more than", id="too many empty values"),
    ],
)
async def test_an_invalid_query_gets_400_with_an_explanation(server, path, query, says) -> None:
    served = await server()
    answer = await served.get(path + query)
    assert answer.status == 400
    assert says in (await answer.json())["error"]


async def test_layers_can_be_omitted_from_the_response(server) -> None:
    served = await filled(server)
    one = (await pulls(served, "?node=node-1"))[0]
    assert len(one["layers"]) == 2
    assert all("layers" not in pull for pull in await pulls(served, "?layers=false"))
    with_layers = [pull["id"] for pull in await pulls(served, f"?layers={one['id']}") if "layers" in pull]
    assert with_layers == [one["id"]]


@pytest.mark.parametrize("path", ["/api/v1/pulls", "/api/v1/nodes", "/api/v1/pulls?node=node-1"])
async def test_a_request_with_the_current_etag_gets_304_without_a_body(server, path) -> None:
    served = await filled(server)
    tag = (await served.get(path)).headers["ETag"]
    again = await served.get(path, **{"If-None-Match": f'W/{tag}, "other"'})
    assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", tag)
    assert (await served.get(path, **{"If-None-Match": '"other"'})).status == 200


async def test_nodes_and_registries_are_listed(server) -> None:
    served = await filled(server)
    body = await (await served.get("/api/v1/nodes")).json()
    assert [(node["name"], node["state"], node["activePulls"]) for node in body["nodes"]] == [
        ("node-0", "reporting", 1),
        ("node-1", "reporting", 1),
        ("node-2", "reporting", 1),
        ("node-9", "reporting", 0),
    ]
    assert [(item["registry"], item["activePulls"]) for item in body["registries"]] == [
        ("docker.io", 3),
        ("ghcr.io", 0),
    ]


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/api/v1/report", 405, "POST"),
        ("POST", "/api/v1/pulls", 405, "GET, HEAD"),
        ("DELETE", "/api/v1/events", 405, "GET, HEAD"),
        ("POST", "/healthz", 405, "GET, HEAD"),
        ("GET", "/nothing", 404, None),
        ("GET", "/api/v1/nothing", 404, None),
        ("GET", "/assets/../../routes.py", 404, None),
        ("GET", "/%2e%2e/app.py", 404, None),
    ],
)
async def test_an_unknown_path_gets_404_and_a_wrong_method_gets_405(server, method, path, status, allow) -> None:
    served = await server()
    url = yarl.URL(served.url + path, encoded=True)
    async with served.client.request(method, url) as answer:
        assert answer.status == status
        allowed = answer.headers.get("Allow")
        assert allowed is None if allow is None else set(allowed.split(", ")) == set(allow.split(", "))


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/api/v1/pulls", "/nothing", "/api/v1/report"])
async def test_every_response_has_the_security_headers(server, path) -> None:
    served = await server()
    answer = await served.get(path)
    assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert "://" not in answer.headers["Content-Security-Policy"]


async def test_the_health_probes_respond(server) -> None:
    served = await server()
    for path in ("/healthz", "/readyz"):
        answer = await served.get(path)
        assert (answer.status, await answer.text()) == (200, "ok")


async def test_metrics_are_served_on_their_own_port(server) -> None:
    served = await filled(server)
    assert (await served.get("/metrics")).status == 404
    text = await served.metrics()
    assert "pulltrace_agent_reports_total 4.0" in text
    assert 'pulltrace_agent_last_report_timestamp_seconds{node="node-0"}' in text
    assert 'pulltrace_pulls_active{phase="downloading"} 3.0' in text
    async with served.client.get(
        f"http://127.0.0.1:{served.metrics_port}/metrics",
        headers={"Accept": "application/openmetrics-text; version=1.0.0"},
    ) as answer:
        assert answer.content_type == "application/openmetrics-text"
        assert (await answer.text()).endswith("# EOF\n")


async def test_the_throughput_of_each_registry_is_listed(server) -> None:
    served = await server()
    await served.post(msgspec.json.encode(report(pull("l", layer("a", 1)))))
    shown = await (await served.get("/api/v1/throughput")).json()
    [registry] = shown["registries"]
    assert (shown["step"], registry["registry"]) == (5.0, "docker.io")
    assert registry["downloadedBytes"] == 1
    assert registry["bytesPerSec"] in ([], [0.0]), "a step may end between the two requests"
    assert datetime.fromisoformat(shown["since"]).second % 5 == 0
    assert [shown[name] for name in ("completed", "failed", "canceled", "downloadedBytes")] == [0, 0, 0, 1]


async def test_a_list_can_be_read_page_by_page(server) -> None:
    served = await filled(server)
    whole = await pulls(served)
    ids, cursor = [], ""
    while True:
        page = await (await served.get(f"/api/v1/pulls?limit=3&cursor={cursor}")).json()
        assert len(page["pulls"]) == min(3, len(whole) - len(ids))
        ids += [pull["id"] for pull in page["pulls"]]
        if "next" not in page:
            break
        cursor = page["next"]
    assert ids == [pull["id"] for pull in whole]


async def test_the_list_can_be_limited_to_running_pulls(server) -> None:
    served = await filled(server)
    running = await (await served.get("/api/v1/pulls?running&limit=2&layers=false")).json()
    assert len(running["pulls"]) == 2
    assert {pull["status"] for pull in running["pulls"]} == {"downloading"}
    assert "next" not in running


@pytest.mark.parametrize("limit", ["0", "-1", "x", "100001", "²", ""])
async def test_an_invalid_limit_gets_400(server, limit) -> None:
    served = await server()
    assert (await served.get(f"/api/v1/pulls?limit={limit}")).status == 400


@pytest.mark.parametrize("path", ["/api/v1/openapi.json", "/api/v1/pulls?layers=true"])
@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [("gzip", "gzip"), ("br, gzip;q=0.5", "gzip"), ("*", "gzip"), ("identity", None), ("gzip;q=0", None)],
)
async def test_responses_are_compressed_if_the_client_accepts_compression(server, path, accepted, encoding) -> None:
    served = await server()
    await served.post(msgspec.json.encode(report(pull("l", *(layer(f"{n}", 1) for n in range(500))))))
    await served.until_published("node-1")
    response = await served.get(path, **{"Accept-Encoding": accepted})
    assert (response.status, response.headers.get("Content-Encoding")) == (200, encoding)
    assert response.headers["Vary"] == "Accept-Encoding"
    assert await response.json()


async def test_a_list_request_beyond_the_limit_gets_503_until_another_client_has_received_its_list(server) -> None:
    served = await server(limits=Limits(lists=2, lists_per_address=1, report_interval=0))
    for number in range(4):
        await served.post(
            msgspec.json.encode(report(pull("l", *(layer(f"{n}", 1) for n in range(1000))), node=f"n{number}"))
        )
    await served.until_published("n3")
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.setblocking(False)
    loop = asyncio.get_running_loop()
    with deaf:
        await loop.sock_connect(deaf, ("127.0.0.1", served.port))
        await loop.sock_sendall(deaf, b"GET /api/v1/pulls HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            while (refused := await served.get("/api/v1/pulls")).status != 503:
                pass
        assert (refused.headers["Retry-After"], "too many lists" in (await refused.json())["error"]) == ("2", True)
    async with asyncio.timeout(PATIENCE):
        while (await served.get("/api/v1/pulls")).status != 200:
            pass


async def test_a_client_that_does_not_read_the_list_response_is_disconnected(server) -> None:
    served = await server(limits=Limits(client_timeout=0.2, report_interval=0))
    for number in range(4):
        await served.post(
            msgspec.json.encode(report(pull("l", *(layer(f"{n}", 1) for n in range(1000))), node=f"n{number}"))
        )
    await served.until_published("n3")
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    writer.write(b"GET /api/v1/pulls HTTP/1.1\r\nHost: x\r\n\r\n" * 1)
    async with asyncio.timeout(PATIENCE):
        await asyncio.sleep(1)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(10 << 20)
    writer.transport.abort()
