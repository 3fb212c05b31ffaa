"""Tests for the reporter's requests: tokens, failures, compression, and invalid responses."""

import asyncio
import gzip
import json
from contextlib import suppress

import pytest
from aiohttp import web

from tests.agent.receiver import pull


async def test_the_retry_after_header_is_obeyed_up_to_a_limit(server, make):
    server.answers = [web.Response(status=429, headers={"Retry-After": "1"})]
    async with make() as reporter:
        reporter.offer([], [pull("a")])
        await server.until(server.acknowledged)
    first, second = server.arrived
    assert second - first > 0.9
    server.answers = [web.Response(status=429, headers={"Retry-After": "9" * 400})]
    async with make(run=False) as reporter:
        assert await reporter._post(1.0) == 60.0


async def test_the_delay_between_retries_grows_to_eight_seconds_with_jitter(make):
    async with make() as reporter:
        delays = [reporter._failed("HTTP 500", "") for _ in range(12)]
    assert delays[0] <= 1.0
    assert all(4.0 <= delay <= 8.0 for delay in delays[6:])
    assert len(set(delays[6:])) > 1


async def test_each_kind_of_failure_is_logged_once(server, make, caplog):
    refused = web.Response(status=401, text="who are you?")
    async with make() as reporter:
        await server.until(lambda: server.reports)
        for kind in ("ClientConnectorError", "ClientConnectorError", "HTTP 401", "HTTP 401"):
            reporter._failed(kind, "no")
    assert refused.status == 401
    assert [record.fields["error"] for record in caplog.records] == ["ClientConnectorError: no", "HTTP 401: no"]


async def test_the_token_is_sent_in_a_header_and_redirects_are_not_followed(server, make):
    server.answers = [web.Response(status=302, headers={"Location": "/elsewhere"})]
    async with make(token="secret") as reporter:
        reporter.offer([], [pull("a")])
        await server.until(server.acknowledged)
    assert {request.headers["Authorization"] for request in server.requests} == {"Bearer secret"}


async def test_the_reporter_ignores_proxies_that_are_set_in_the_environment(server, make, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with make() as reporter:
        reporter.offer([], [pull("a")])
        await server.until(server.acknowledged)


async def test_the_token_file_is_read_again_for_each_report(server, make, tmp_path):
    file = tmp_path / "token"
    async with make(heartbeat=0.05, token_file=file):
        file.write_text("first\n")
        await server.until(lambda: server.requests)
        file.write_text("second")
        await server.until(lambda: server.requests[-1].headers["Authorization"] == "Bearer second")
    assert server.requests[0].headers["Authorization"] == "Bearer first"


async def test_the_reporter_keeps_finished_pulls_and_sends_nothing_if_its_token_file_is_missing(
    server, make, tmp_path, caplog
):
    file = tmp_path / "token"
    async with make(token_file=file) as reporter:
        reporter.offer([], [pull("a")])
        await reporter._post(60)
        assert "PULLTRACE_AGENT_TOKEN_FILE" in caplog.records[-1].fields["error"]
        file.write_text("late")
        await server.until(lambda: server.reports)
    assert [item["id"] for item in server.reports[0]["pulls"]] == ["a"]
    assert {request.path for request in server.requests} == {"/base/api/v1/report"}


@pytest.mark.parametrize("text", ["secret\nsecret", "secret secret", "secret\0", "secr\u00e9t"])
async def test_the_reporter_does_not_send_or_log_an_invalid_token(server, make, tmp_path, caplog, text):
    file = tmp_path / "token"
    file.write_text(text, encoding="utf-8")
    async with make(token_file=file, run=False) as reporter:
        reporter.offer([], [pull("a")])
        assert await reporter._post(60) > 0
        assert reporter._unacknowledged
    (record,) = caplog.records
    assert record.fields["error"].startswith("token: PULLTRACE_AGENT_TOKEN_FILE: ")
    assert "secr" not in str(record.fields)
    assert not server.requests


TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOlsicHVsbHRyYWNlIl19.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"


@pytest.mark.parametrize(
    "echo",
    [
        pytest.param("POST / HTTP/1.1\r\nAuthorization: Bearer {token}\r\n", id="the whole request"),
        pytest.param("x" * 250 + "Authorization: Bearer {token}", id="cut off by our own limit"),
        pytest.param("Authorization: Bearer {half}", id="cut off by the proxy"),
        pytest.param('{{"header":["{token}","{token}"]}}', id="twice, in JSON"),
        pytest.param("token=%22{token}%22", id="in a URL"),
        pytest.param("{front}\r\n {back}", id="folded"),
    ],
)
@pytest.mark.parametrize("token", [TOKEN, "short"])
async def test_a_token_that_a_proxy_sends_back_is_never_logged(server, make, caplog, echo, token):
    half = len(token) // 2
    text = echo.format(token=token, half=token[: half + 8], front=token[:half], back=token[half:])
    server.answers = [web.Response(status=400, text=text)]
    async with make(token=token, run=False) as reporter:
        assert await reporter._post(1.0) > 0
    (record,) = caplog.records
    logged = str(record.fields)
    assert "HTTP 400" in logged
    if token is TOKEN:
        assert not any(token[start : start + 8] in logged for start in range(len(token) - 8))
    elif "{token}" in echo:
        assert token not in logged


async def test_a_token_in_an_invalid_http_response_is_never_logged(make, unused_tcp_port, caplog):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(f"Authorization: Bearer {TOKEN}\r\n\r\n".encode())
        writer.close()

    async with (
        await asyncio.start_server(serve, "127.0.0.1", unused_tcp_port),
        make(token=TOKEN, run=False) as reporter,
    ):
        assert await reporter._post(1.0) > 0
    assert "RemoteProtocolError" in str(caplog.records[-1].fields)
    assert TOKEN[:8] not in str([record.fields for record in caplog.records])


async def test_only_large_reports_are_gzipped(server, make):
    async with make() as reporter:
        reporter.offer([], [pull("small")])
        await server.until(server.acknowledged)
        reporter.offer([], [pull("large", layers=200)])
        await server.until(lambda: len(server.acknowledged()) == 2)
    encodings = {request.headers.get("Content-Encoding") for request in server.requests}
    assert encodings == {None, "gzip"}
    assert len(gzip.compress(json.dumps(server.reports[-1]).encode())) < 16_000


async def test_one_connection_serves_many_reports_and_is_replaced_after_it_was_closed(server, make):
    async with make(run=False) as reporter:
        for number in range(6):
            if number == 3:
                server.requests[0].transport.close()
                await asyncio.sleep(0)
            reporter.offer([], [pull(f"p{number}")])
            assert await reporter._post(1.0) == 0.0
    assert server.acknowledged() == [f"p{number}" for number in range(6)]
    assert len(set(server.connections)) == 2


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x16\x03\x01 this is not HTTP\r\n\r\n", id="not HTTP"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", id="half a response"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 40_000, id="endless headers"),
    ],
)
async def test_a_request_is_retried_after_an_invalid_http_response(make, unused_tcp_port, answer):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", unused_tcp_port), make(run=False) as reporter:
        reporter.offer([], [pull("a")])
        assert await reporter._post(1.0) > 0
        assert reporter._unacknowledged


async def test_an_endless_response_is_not_read_forever(make, unused_tcp_port):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with suppress(OSError):
            while True:
                writer.write(bytes(1 << 16))
                await writer.drain()

    async with await asyncio.start_server(serve, "127.0.0.1", unused_tcp_port), make(run=False) as reporter:
        reporter.offer([], [pull("a")])
        assert await reporter._post(1.0) == 0.0


async def test_a_response_without_json_also_acknowledges_a_report(server, make):
    server.answers = [web.Response(text="ok")]
    async with make() as reporter:
        reporter.offer([], [pull("a")])
        await server.until(lambda: server.requests)
        reporter.offer([], [pull("b")])
        await server.until(lambda: "b" in server.acknowledged())
    assert "a" not in server.acknowledged(), "the status 200 acknowledged it"
