"""The reporter with a real HTTP server that responds as each test requires."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from msgspec import structs

from pulltrace.agent.reporter import MAX_RECENT, MAX_UNACKNOWLEDGED, Reporter
from pulltrace.settings import AgentSettings, load
from pulltrace.wire import MAX_LAYERS, MAX_PULLS, MAX_REPORT, LayerState, PullPhase, PullState

INTERVAL = 0.02


class Server:
    """Keeps the reports. It sends each of ``answers`` once, and 200 after that."""

    def __init__(self) -> None:
        self.boot = "first"
        self.answers: list[web.Response] = []
        self.reports: list[dict] = []
        self.requests: list[web.Request] = []
        self.connections: list[object] = []
        self.largest = 1 << 20
        self.malformed = b"\0"
        """Bytes whose presence makes a report invalid."""
        self.delays: list[float] = []
        """Seconds that requests take to arrive; each value is used once."""
        self.arrived: list[float] = []
        self._changed = asyncio.Condition()

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.delays:
            await asyncio.sleep(self.delays.pop(0))
        self.arrived.append(asyncio.get_running_loop().time())
        self.connections.append(request.transport and request.transport.get_extra_info("peername"))
        async with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
            if self.answers:
                return self.answers.pop(0)
            if len(body) > self.largest:
                return web.Response(status=413, text="too large")
            if self.malformed in body:
                return web.Response(status=400, text="$.pulls[0].id: no")
            self.reports.append(json.loads(body))
        return web.json_response({"bootId": self.boot})

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(true)

    def acknowledged(self) -> list[str]:
        """Return the ids of the ends in the order in which they were acknowledged."""
        return [
            pull["id"] for report in self.reports for pull in report.get("pulls") or [] if pull["status"] == "completed"
        ]


@pytest.fixture
async def server(unused_tcp_port: int) -> AsyncIterator[Server]:
    server = Server()
    async with serving(server, unused_tcp_port):
        yield server


@asynccontextmanager
async def serving(server: Server, port: int) -> AsyncIterator[None]:
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/base/api/v1/report", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


@pytest.fixture
def make(unused_tcp_port: int):
    """Return a factory of running reporters."""

    @asynccontextmanager
    async def make(
        heartbeat: float = 60.0, token: str | None = None, token_file: Path | None = None, *, run: bool = True
    ) -> AsyncIterator[Reporter]:
        settings = replace(
            load(AgentSettings, {"PULLTRACE_NODE_NAME": "worker-1"}),
            server_url=f"http://127.0.0.1:{unused_tcp_port}/base",
            report_interval=INTERVAL,
            heartbeat_interval=heartbeat,
            agent_token=token,
            agent_token_file=token_file and str(token_file),
        )
        async with Reporter(settings) as reporter:
            running = asyncio.create_task(reporter.run() if run else asyncio.sleep(0))
            yield reporter
            running.cancel()
            await asyncio.wait([running])

    return make


def pull(name: str, status: PullPhase = PullPhase.COMPLETED, *, layers: int = 1) -> PullState:
    made = [LayerState(digest=f"sha256:{number:064x}", total_bytes=number) for number in range(layers)]
    return PullState(id=name, status=status, layers=made)


async def test_a_slow_report_is_not_followed_too_soon(server, make):
    """The server compares times of arrival, and returns 429 for a second report within half a second."""
    server.delays = [2 * INTERVAL]
    async with make(heartbeat=INTERVAL) as reporter:
        reporter.offer([], [])
        await server.until(lambda: len(server.reports) == 2)
    assert server.arrived[1] - server.arrived[0] >= 0.9 * INTERVAL


async def test_an_idle_node_sends_heartbeats_without_pulls(server, make):
    async with make(heartbeat=0.05) as reporter:
        reporter.offer([], [])
        await server.until(lambda: len(server.reports) == 3)
    assert all(report.get("pulls") is None for report in server.reports)
    assert [report["sequence"] for report in server.reports] == [1, 2, 3]
    assert len({report["bootId"] for report in server.reports}) == 1
    assert server.reports[0]["heartbeatSeconds"] == 0.05


async def test_a_new_pull_does_not_wait_for_the_heartbeat(server, make):
    async with make() as reporter:
        await server.until(lambda: server.reports)
        reporter.offer([pull("a", PullPhase.DOWNLOADING)], [])
        await server.until(lambda: server.reports[-1].get("pulls"))


async def test_only_the_newest_state_is_sent_even_if_it_is_empty(server, make):
    async with make() as reporter:
        for number in range(5):
            reporter.offer([pull(f"p{number}", PullPhase.DOWNLOADING)], [])
        await server.until(lambda: server.reports and server.reports[-1].get("pulls"))
        assert [item["id"] for item in server.reports[-1]["pulls"]] == ["p4"]
        reporter.offer([], [])
        await server.until(lambda: server.reports[-1].get("pulls") is None)


async def test_ends_are_kept_until_acknowledged_and_sent_once(server, make):
    server.answers = [web.Response(status=503), web.Response(status=401), web.Response(status=500)]
    async with make() as reporter:
        reporter.offer([], [pull("a")])
        reporter.offer([], [pull("b")])
        await server.until(server.acknowledged)
        reporter.offer([], [pull("c")])
        await server.until(lambda: "c" in server.acknowledged())
    assert server.acknowledged() == ["a", "b", "c"]


async def test_a_server_that_starts_later_gets_every_end(make, unused_tcp_port):
    server = Server()
    async with make() as reporter:
        reporter.offer([], [pull("a")])
        async with serving(server, unused_tcp_port):
            await server.until(lambda: server.acknowledged() == ["a"])


async def test_a_restarted_server_gets_the_history_again(server, make):
    async with make() as reporter:
        reporter.offer([], [pull("a"), pull("b")])
        await server.until(lambda: server.acknowledged() == ["a", "b"])
        server.boot = "second"
        reporter.offer([], [pull("c")])
        await server.until(lambda: len(server.acknowledged()) == 5)
        assert server.acknowledged() == ["a", "b", "c", "a", "b"]
        server.boot = "third"
        reporter.offer([], [pull("d")])
        await server.until(lambda: len(server.acknowledged()) == 9)
    assert set(server.acknowledged()[6:]) == {"a", "b", "c"}


async def test_history_never_displaces_unacknowledged_ends(server, make):
    async with make() as reporter:
        reporter.offer([], [pull("old")])
        await server.until(server.acknowledged)
        server.boot = "second"
        room = MAX_UNACKNOWLEDGED // len(msgspec.json.encode(pull("new10", layers=300)))
        reporter.offer([], [pull(f"new{number}", layers=300) for number in range(10, 10 + room)])
        await server.until(lambda: f"new{9 + room}" in server.acknowledged())
    assert [name for name in server.acknowledged() if name != "old"] == [
        f"new{number}" for number in range(10, 10 + room)
    ]


async def test_the_oldest_ends_are_dropped_first(server, make):
    async with make(run=False) as reporter:
        for number in range(400):
            reporter.offer([], [pull(f"p{number}", layers=200)])
        assert sum(map(len, reporter._unacknowledged.values())) <= MAX_UNACKNOWLEDGED
        while reporter._unacknowledged:
            assert await reporter._post(1.0) == 0.0
        assert sum(map(len, reporter._recent.values())) <= MAX_RECENT
    assert server.acknowledged() == [f"p{number}" for number in range(400 - len(server.acknowledged()), 400)]


async def test_an_invalid_end_is_dropped_and_the_next_one_is_sent(server, make):
    server.malformed = b"bad"
    async with make() as reporter:
        reporter.offer([], [pull("bad")])
        await server.until(lambda: server.requests)
        reporter.offer([], [pull("good")])
        await server.until(server.acknowledged)
    assert server.acknowledged() == ["good"]


async def test_ends_that_are_too_large_together_are_sent_in_smaller_reports(server, make):
    server.largest = 60_000
    async with make() as reporter:
        reporter.offer([], [pull(f"p{number}", layers=100) for number in range(12)])
        await server.until(lambda: len(server.acknowledged()) == 12)
    assert server.acknowledged() == [f"p{number}" for number in range(12)]


async def test_live_pulls_take_turns_and_each_report_lists_the_others(server, make):
    largest, ids = 0, {f"p{number}" for number in range(10)}
    live = [
        PullState(id=name, status=PullPhase.DOWNLOADING, layers=[LayerState(digest="d" * 135)] * MAX_LAYERS)
        for name in sorted(ids)
    ]
    async with make() as reporter:
        reporter.offer(live, [pull("end", layers=MAX_LAYERS)])
        await server.until(lambda: len(server.reports) == 5)
    for report in server.reports:
        largest = max(largest, len(json.dumps(report, separators=(",", ":"))))
        names = [item["id"] for item in report["pulls"] if item["status"] == "downloading"]
        assert sorted([*names, *report["others"]]) == sorted(ids), "each once"
    assert largest <= MAX_REPORT
    seen = [item["id"] for told in server.reports for item in told["pulls"]]
    assert ids < set(seen), "every pull has a turn"
    assert seen.count("end") == 1


async def test_a_pull_whose_end_has_to_wait_is_listed_meanwhile(server, make):
    """The server closes a pull that is no longer listed, so its end would otherwise be counted twice."""
    names = [f"p{number:03}" for number in range(MAX_PULLS)]
    async with make(run=False) as reporter:
        reporter.offer([pull(name, PullPhase.DOWNLOADING) for name in names], [])
        for _ in range(2):
            await reporter._post(1.0)
        server.answers = [web.Response(status=503)]
        reporter.offer([], [pull(name) for name in names])
        for _ in range(4):
            await reporter._post(1.0)
    half = MAX_PULLS // 2
    first, second, idle = server.reports[-3:]
    assert [item["id"] for item in first["pulls"]] == names[:half]
    assert first["others"] == names[half:]
    assert [item["id"] for item in second["pulls"]] == names[half:]
    assert "others" not in second
    assert idle.get("pulls") is None
    assert not reporter._busy


async def test_pulls_keep_their_turn_when_a_report_is_lost(server, make):
    names = {f"p{number:03}" for number in range(MAX_PULLS)}
    async with make(run=False) as reporter:
        reporter.offer([pull(name, PullPhase.DOWNLOADING) for name in sorted(names)], [])
        for _ in range(2):
            server.answers = [web.Response(status=503)]
            assert await reporter._post(1.0)
            assert not await reporter._post(1.0)
    assert {item["id"] for report in server.reports for item in report["pulls"]} == names


@pytest.mark.parametrize("why", ["too large", "no report"])
async def test_one_rejected_live_pull_does_not_block_the_others(server, make, why):
    if why == "too large":
        server.largest = 30_000
    else:
        server.malformed = b"not a name"
    ends, names = [f"end-{number}" for number in range(20)], [f"p{number}" for number in range(3)]
    live = [pull(name, PullPhase.DOWNLOADING) for name in names]
    live.append(structs.replace(pull("bad", PullPhase.DOWNLOADING, layers=512), registry="not a name"))
    async with make(run=False) as reporter:
        reporter.offer(live, [pull(name) for name in ends])
        for _ in range(60):
            await reporter._post(1.0)
    assert server.acknowledged() == ends
    assert set(names) <= {item["id"] for report in server.reports for item in report.get("pulls", ())}
    assert all("bad" in report["others"] for report in server.reports)
    assert [item["id"] for report in server.reports[-8:] for item in report.get("pulls", ())].count("p1") > 1


async def test_a_report_lists_others_only_if_pulls_do_not_fit(server, make):
    async with make(run=False) as reporter:
        for count in (1, MAX_PULLS // 2, MAX_PULLS, 3 * MAX_PULLS):
            reporter.offer([pull(f"p{number}", PullPhase.DOWNLOADING) for number in range(count)], [])
            assert await reporter._post(1.0) == 0.0
    told = [(len(report["pulls"]), len(report.get("others", ()))) for report in server.reports]
    half = MAX_PULLS // 2
    assert told == [(1, 0), (half, 0), (half, half), (half, half)]


async def test_oversized_live_pulls_do_not_displace_an_end(server, make):
    server.largest = 60_000
    async with make() as reporter:
        reporter.offer([pull(f"p{number}", PullPhase.DOWNLOADING, layers=100) for number in range(12)], [pull("end")])
        await server.until(server.acknowledged)
    assert server.acknowledged() == ["end"]


async def test_an_end_that_is_too_large_on_its_own_is_dropped(server, make):
    server.largest = 60_000
    async with make() as reporter:
        reporter.offer([], [pull("huge", layers=900)])
        await server.until(lambda: server.requests)
        reporter.offer([], [pull("small")])
        await server.until(server.acknowledged)
    assert server.acknowledged() == ["small"]


async def test_retry_after_is_obeyed_up_to_a_limit(server, make):
    server.answers = [web.Response(status=429, headers={"Retry-After": "1"})]
    async with make() as reporter:
        reporter.offer([], [pull("a")])
        await server.until(server.acknowledged)
    first, second = server.arrived
    assert second - first > 0.9
    server.answers = [web.Response(status=429, headers={"Retry-After": "9" * 400})]
    async with make(run=False) as reporter:
        assert await reporter._post(1.0) == 60.0


async def test_back_off_grows_to_eight_seconds_with_jitter(make):
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


async def test_the_token_goes_in_the_header_and_redirects_are_not_followed(server, make):
    server.answers = [web.Response(status=302, headers={"Location": "/elsewhere"})]
    async with make(token="secret") as reporter:
        reporter.offer([], [pull("a")])
        await server.until(server.acknowledged)
    assert {request.headers["Authorization"] for request in server.requests} == {"Bearer secret"}


async def test_a_proxy_in_the_environment_is_not_used(server, make, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with make() as reporter:
        reporter.offer([], [pull("a")])
        await server.until(server.acknowledged)


async def test_a_token_file_is_read_for_each_report(server, make, tmp_path):
    file = tmp_path / "token"
    async with make(heartbeat=0.05, token_file=file):
        file.write_text("first\n")
        await server.until(lambda: server.requests)
        file.write_text("second")
        await server.until(lambda: server.requests[-1].headers["Authorization"] == "Bearer second")
    assert server.requests[0].headers["Authorization"] == "Bearer first"


async def test_without_its_token_file_the_reporter_sends_nothing_and_keeps_the_ends(server, make, tmp_path, caplog):
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
async def test_an_invalid_token_is_neither_sent_nor_logged(server, make, tmp_path, caplog, text):
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
async def test_a_token_that_a_proxy_returns_is_never_logged(server, make, caplog, echo, token):
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


async def test_large_reports_are_gzipped_and_small_ones_are_not(server, make):
    async with make() as reporter:
        reporter.offer([], [pull("small")])
        await server.until(server.acknowledged)
        reporter.offer([], [pull("large", layers=200)])
        await server.until(lambda: len(server.acknowledged()) == 2)
    encodings = {request.headers.get("Content-Encoding") for request in server.requests}
    assert encodings == {None, "gzip"}
    assert len(gzip.compress(json.dumps(server.reports[-1]).encode())) < 16_000


async def test_one_connection_serves_many_reports_and_a_closed_one_is_reopened(server, make):
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
        pytest.param(b"\x16\x03\x01 this is not HTTP\r\n\r\n", id="no HTTP"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", id="half an answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 40_000, id="headers without end"),
    ],
)
async def test_an_invalid_http_response_is_retried_later(make, unused_tcp_port, answer):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", unused_tcp_port), make(run=False) as reporter:
        reporter.offer([], [pull("a")])
        assert await reporter._post(1.0) > 0
        assert reporter._unacknowledged


async def test_an_endless_response_is_not_read_to_the_end(make, unused_tcp_port):
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


async def test_a_response_without_json_acknowledges_a_report(server, make):
    server.answers = [web.Response(text="ok")]
    async with make() as reporter:
        reporter.offer([], [pull("a")])
        await server.until(lambda: server.requests)
        reporter.offer([], [pull("b")])
        await server.until(lambda: "b" in server.acknowledged())
    assert "a" not in server.acknowledged(), "it was acknowledged by 200"
