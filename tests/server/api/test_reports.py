"""Tests for which reports ``POST /api/v1/report`` accepts on a real server, and why it rejects others."""

import asyncio
import gc
import gzip
import itertools
import json
import zlib
from io import BytesIO

import aiohttp
import msgspec
import pytest

from pulltrace.server.api.auth import RefusedError
from pulltrace.server.api.guard import Guard
from pulltrace.server.api.request_meter import RequestMeter
from pulltrace.server.limits import Limits
from tests.patience import PATIENCE
from tests.server.build import layer, pull, report

REPORT = msgspec.json.encode(report(pull("l", layer("a", 5))))


def from_node(node: str) -> bytes:
    return msgspec.json.encode(report(pull("l", layer("a", 5)), node=node))


async def test_a_report_is_accepted_and_the_response_contains_the_boot_id(server) -> None:
    served = await server()
    answer = await served.post(REPORT)
    assert answer.status == 200
    boot = (await answer.json())["bootId"]
    assert boot == (await (await served.post(from_node("node-2"))).json())["bootId"]


async def test_a_heartbeat_without_pulls_is_accepted(server) -> None:
    served = await server()
    assert (await served.post(b'{"nodeName":"node-1","timestamp":"2026-01-01T00:00:00Z","pulls":null}')).status == 200
    assert [node["name"] for node in (await (await served.get("/api/v1/nodes")).json())["nodes"]] == ["node-1"]


async def test_unknown_fields_are_ignored(server) -> None:
    served = await server()
    assert (await served.post(b'{"nodeName":"node-1","pulls":[{"id":"x","new":{"deep":[1]}}],"x":1}')).status == 200


async def test_a_gzip_body_is_accepted(server) -> None:
    served = await server()
    assert (await served.post(gzip.compress(REPORT), **{"Content-Encoding": "gzip"})).status == 200
    await served.until_published("node-1")


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({}, id="missing"),
        pytest.param({"Authorization": "Bearer wrong"}, id="wrong"),
        pytest.param({"Authorization": "secret"}, id="without Bearer"),
        pytest.param({"Authorization": "Bearer secret2"}, id="longer"),
        pytest.param({"Authorization": "Bearer s\u00e9cret"}, id="not ASCII"),
    ],
)
async def test_a_wrong_or_missing_token_gets_401_before_the_body_is_read(server, header) -> None:
    served = await server(AGENT_TOKEN="secret")
    answer = await served.post(b"not even JSON", **header)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_the_right_token_is_accepted(server) -> None:
    served = await server(AGENT_TOKEN="secret")
    assert (await served.post(REPORT, Authorization="Bearer secret")).status == 200


async def endless():
    for _ in range(40):
        yield b" " * 65536


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(BytesIO(b" " * (1024 * 1024 + 1)), {}, id="with a length"),
        pytest.param(endless, {}, id="chunked"),
        pytest.param(gzip.compress(b" " * (1024 * 1024 + 1)), {"Content-Encoding": "gzip"}, id="decompressed"),
        pytest.param(gzip.compress(b" " * (64 << 20)), {"Content-Encoding": "gzip"}, id="a bomb"),
    ],
)
async def test_a_body_larger_than_a_mebibyte_gets_413(server, body, headers) -> None:
    served = await server()
    try:
        answer = await served.post(body() if callable(body) else body, **headers)
    except aiohttp.ClientConnectionError:  # the server does not read the rest of a rejected body
        assert "too_large" in await served.metrics()
        return
    assert answer.status == 413


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(b"", "not a report", id="empty"),
        pytest.param(b"\x00\xff", "not a report", id="not JSON"),
        pytest.param(b'{"nodeName":"\xff"}', "not a report", id="not UTF-8"),
        pytest.param(b"[]", "Expected `object`", id="not an object"),
        pytest.param(b"{}", "nodeName", id="no node name"),
        pytest.param(
            b'{"nodeName":"n","pulls":[{"layers":[{"digest":1}]}]}',
            "$.pulls[0].layers[0].digest",
            id="a digest that is not a string",
        ),
        pytest.param(
            b'{"nodeName":"n","pulls":[{"id":"x","status":"odd"}]}', "$.pulls[0].status", id="an unknown phase"
        ),
        pytest.param(
            b'{"nodeName":"n","pulls":[{"layers":[{"digest":"a","totalBytes":-1}]}]}',
            "totalBytes",
            id="a negative size",
        ),
        pytest.param(
            b'{"nodeName":"n","pulls":[{"layers":[{"digest":"a","totalBytes":99999999999999999999}]}]}',
            "totalBytes",
            id="a size beyond 64 bits",
        ),
        pytest.param(b'{"nodeName":"n","timestamp":"yesterday"}', "$.timestamp", id="an invalid time"),
        pytest.param(b'{"nodeName":"n","timestamp":"2026-01-01T00:00:00"}', "$.timestamp", id="a time without a zone"),
        pytest.param(b'{"nodeName":"n","x":' + b"[" * 100_000, "not a report", id="deeply nested"),
        pytest.param(b'{"nodeName":"Node_1"}', "DNS-1123", id="an invalid node name"),
        pytest.param(json.dumps({"nodeName": "a" * 254}).encode(), "DNS-1123", id="a node name that is too long"),
        pytest.param(b'{"nodeName":"node\\n"}', "DNS-1123", id="a node name with a line break"),
    ],
)
async def test_an_invalid_report_gets_400_and_the_response_identifies_the_field(server, body, says) -> None:
    served = await server()
    answer = await served.post(body)
    assert answer.status == 400
    assert says in (await answer.json())["error"]
    assert 'pulltrace_reports_rejected_total{reason="' in await served.metrics()


def full(head: str, item: str, tail: str) -> bytes:
    """Return a body of almost 1 MiB. The body consists of ``head``, as many items as fit, and ``tail``. In each item,
    ``#`` is replaced by the item's number.
    """
    room = Limits().body - len(head) - len(tail)
    items, size = [], 0
    for number in itertools.count():
        items.append(item.replace("#", str(number)))
        size += len(items[-1]) + 1
        if size > room:
            return (head + ",".join(items[:-1]) + tail).encode()
    raise AssertionError


MEBIBYTES = [
    pytest.param(full('{"nodeName":"n","pulls":[{"id":"a","layers":[', '{"digest":"#"}', "]}]}"), 200, id="layers"),
    pytest.param(full('{"nodeName":"n","pulls":[', '{"id":"#"}', "]}"), 200, id="pulls"),
    pytest.param(full('{"nodeName":"n","pulls":[', "{}", "]}"), 200, id="the Go agent's ingests"),
    pytest.param(full('{"nodeName":"n","pulls":[', '{"id":"#","status":"completed"}', "]}"), 200, id="ended pulls"),
    pytest.param(full('{"nodeName":"n","x":[', "0", "]}"), 200, id="unknown fields"),
    pytest.param(full('{"nodeName":"n",', '"k#":0', "}"), 200, id="keys"),
    pytest.param(b"[" * Limits().body, 400, id="lists in lists"),
    pytest.param(
        full('{"nodeName":"n","x":', "", "[" * 500_000 + "]" * 500_000 + "}"), 400, id="lists in lists, all closed"
    ),
    pytest.param(b'{"nodeName":"n","pulls":[{"layers":' + b'[{"x":' * 170_000, 400, id="objects in objects"),
    pytest.param(full('{"nodeName":"', "", "a" * 1_000_000 + '"}'), 400, id="a name"),
    pytest.param(full('{"nodeName":"n","sequence":', "", "9" * 1_000_000 + "}"), 400, id="a number"),
]


@pytest.mark.parametrize(("body", "status"), MEBIBYTES)
async def test_pulls_and_layers_beyond_the_limits_are_not_stored(server, body, status) -> None:
    assert len(body) <= Limits().body
    served = await server()
    answer = await served.post(gzip.compress(body, 1), **{"Content-Encoding": "gzip"})
    assert answer.status == status
    assert (await served.post(from_node("another-node"))).status == 200
    await served.until_published("another-node")
    pulls = (await (await served.get("/api/v1/pulls")).json())["pulls"]
    kept = [pull for pull in pulls if pull["nodeName"] == "n"]
    assert len(kept) <= Limits().active_per_node
    assert all(len(pull.get("layers", ())) <= Limits().layers_per_pull for pull in kept)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(REPORT, id="not gzip"),
        pytest.param(gzip.compress(REPORT)[:-9], id="truncated"),
        pytest.param(gzip.compress(REPORT) * 2, id="two members"),
        pytest.param(zlib.compress(REPORT), id="zlib"),
    ],
)
async def test_a_broken_gzip_body_gets_400(server, body) -> None:
    served = await server()
    assert (await served.post(body, **{"Content-Encoding": "gzip"})).status == 400


async def test_a_body_with_an_unsupported_encoding_gets_415(server) -> None:
    served = await server()
    assert (await served.post(REPORT, **{"Content-Encoding": "br"})).status == 415


async def test_a_second_report_right_after_the_first_gets_429_with_a_retry_after_header(server) -> None:
    served = await server()
    assert (await served.post(REPORT)).status == 200
    answer = await served.post(REPORT)
    assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
    assert (await served.post(from_node("node-2"))).status == 200


async def test_nodes_beyond_the_limit_get_503(server) -> None:
    served = await server(limits=Limits(nodes=1))
    assert (await served.post(REPORT)).status == 200
    answer = await served.post(from_node("node-2"))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "60")


async def test_extreme_timestamps_are_accepted(server) -> None:
    served = await server()
    times = ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00+05:30"]
    for number, time in enumerate(times):
        body = {"nodeName": f"n{number}", "timestamp": time, "pulls": [{"id": "l", "startedAt": time, "layers": [
            {"digest": "sha256:a", "state": "downloading", "startedAt": time, "completedAt": time}]}]}  # fmt: skip
        assert (await served.post(json.dumps(body))).status == 200
    await served.until_published("n2")
    pulls = (await (await served.get("/api/v1/pulls")).json())["pulls"]
    assert len(pulls) == 3
    assert all(pull["startedAt"].endswith("Z") for pull in pulls)


async def test_a_rejected_body_does_not_stay_in_memory_until_the_garbage_collector_runs(server) -> None:
    """The server's garbage collector runs rarely, so thousands of rejected bodies could accumulate in memory."""
    served = await server()
    gc.collect()
    gc.disable()
    try:
        bomb = gzip.compress(bytes(2 << 20))
        assert (await served.post(bomb, **{"Content-Encoding": "gzip"})).status == 413
        assert not [thing for thing in gc.get_objects() if isinstance(thing, RefusedError)]
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET /" + b"a" * 20_000, id="a long target"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 200, id="many headers"),
        pytest.param(b"GET / HTTP/1.1\r\na:" + b"b" * 20_000 + b"\r\n\r\n", id="a long header"),
        pytest.param(b"\x16\x03\x01\x02\x00", id="TLS"),
    ],
)
async def test_a_refused_request_does_not_stay_in_memory_until_the_garbage_collector_runs(server, data: bytes) -> None:
    served = await server()
    gc.collect()
    gc.disable()
    try:
        assert b'{"error":' in await _raw(served, data)
        async with asyncio.timeout(PATIENCE):
            while any(isinstance(thing, Guard | RequestMeter) for thing in gc.get_objects()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        gc.enable()


async def _raw(served, data: bytes) -> bytes:
    """Send the data, and return everything received until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(data)
    async with asyncio.timeout(PATIENCE):
        response = await reader.read()
    writer.transport.abort()
    return response


async def test_a_body_that_arrives_too_slowly_gets_408_and_the_connection_is_closed(server) -> None:
    # The guard aborts the connection after 1.5 times the timeout, so a busy machine needs a long one.
    served = await server(limits=Limits(body_timeout=2.0))
    head = b"POST /api/v1/report HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"
    assert (await _raw(served, head)).startswith(b"HTTP/1.1 408 ")
    assert 'pulltrace_reports_rejected_total{reason="too_slow"} 1.0' in await served.metrics()


@pytest.mark.parametrize("port", ["port", "metrics_port"])
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n", b"408"),
        (b"GET /" + b"a" * 20_000, b"431"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200, b"431"),
        (b"nonsense\r\n\r\n", b"400"),
    ],
)
async def test_an_invalid_oversized_or_slow_request_head_is_rejected_on_both_ports(server, port, data, status) -> None:
    served = await server(limits=Limits(head_timeout=0.2))
    reader, writer = await asyncio.open_connection("127.0.0.1", getattr(served, port))
    writer.write(data)
    async with asyncio.timeout(PATIENCE):
        assert (await reader.read())[9:12] == status
    writer.transport.abort()


async def test_a_connection_that_sends_nothing_is_closed(server) -> None:
    served = await server(limits=Limits(idle_timeout=0.2))
    assert await _raw(served, b"") == b""


@pytest.mark.parametrize("extra", ["Authorization: Bearer secret", "authorization: Basic x"])
async def test_a_duplicated_authorization_header_gets_401(server, extra) -> None:
    served = await server(AGENT_TOKEN="secret")
    head = f"POST /api/v1/report HTTP/1.1\r\nHost: x\r\nAuthorization: bearer secret\r\n{extra}\r\n"
    head += "Content-Length: 2\r\n\r\n{}"
    assert (await _raw(served, head.encode())).startswith(b"HTTP/1.1 401 ")


async def test_the_authorization_scheme_is_case_insensitive(server) -> None:
    served = await server(AGENT_TOKEN="secret")
    assert (await served.post(b'{"nodeName":"n"}', Authorization="bearer secret")).status == 200


class Bound:
    """An authenticator that treats every client as the agent of node-1."""

    async def authenticate(self, authorization: bytes, address: str = "") -> str:
        return "node-1"


async def test_a_node_gets_429_while_its_previous_report_is_still_arriving(server, monkeypatch) -> None:
    monkeypatch.setattr("pulltrace.server.run._authenticator", lambda *_: Bound())
    served = await server()
    head = b"POST /api/v1/report HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(REPORT)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(head + REPORT[:9])
    response = await _raw(served, head + REPORT[:9])
    assert response.startswith(b"HTTP/1.1 429 ")
    assert b"retry-after: 1\r\n" in response.lower()
    writer.write(REPORT[9:])
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.transport.abort()
