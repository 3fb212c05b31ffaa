"""Attacks on the server over HTTP, and their effect on an agent, a client of the stream and ``/healthz``.

Each attack runs in a separate process. The asserted limits are those in the caption of the table.
"""

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.e2e.programs import Api
from tests.faults.attacks import forged_token
from tests.faults.lab import SERVER_ENVIRONMENT, Process
from tests.real.process import free_port

FINDINGS = os.environ.get("ATTACKS_JSON", "")
SECONDS = 12.0
"""How long each attack lasts: longer than the deadline of an unfinished request."""
LAYERS = ",".join(
    f'{{"digest":"sha256:{number:064x}","totalBytes":1048576,"totalKnown":true,"state":"extracted"}}'
    for number in range(10)
)
REPORT = '{"nodeName":"%s","bootId":"b","sequence":%d,"pulls":[%s]}'
PULL = '{"id":"%s","status":"%s","imageRef":"r.test/%s:1","startedAt":"%s","layers":[%s]%s}'


class Bystander:
    """An agent, a client of the stream and a probe of ``/healthz``, and how long each of them had to wait."""

    def __init__(self, server: Process, port: int, metrics_port: int, headers: dict[str, str]) -> None:
        self.headers = headers
        self.server, self.port, self.metrics_port = server, port, metrics_port
        self.url = f"http://127.0.0.1:{port}"
        self.waits: dict[str, list[float]] = {"report": [], "event": [], "healthz": []}
        self.memory: list[float] = []
        self._sequence = 0
        self._sent: dict[int, float] = {}

    async def __aenter__(self):
        # Each client has its own address, as every node and every browser does.
        connector = aiohttp.TCPConnector(local_addr=("127.0.0.9", 0), limit=0)
        self.session = aiohttp.ClientSession(connector=connector)
        self._tasks = [asyncio.create_task(work()) for work in (self._read, self._report, self._probe, self._watch)]
        return self

    async def __aexit__(self, *_):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.session.close()

    def p99(self, what: str) -> float:
        """Return the 99th percentiles in seconds."""
        waits = sorted(self.waits[what])
        return waits[min(len(waits) * 99 // 100, len(waits) - 1)]

    async def _report(self) -> None:
        while True:
            self._sequence += 1
            layer = '{"digest":"sha256:%064x","totalBytes":100000,"downloadedBytes":%d,"state":"downloading"}'
            pull = PULL % ("live", "downloading", "live", "2026-01-01T00:00:00Z", layer % (1, self._sequence), "")
            began = self._sent[self._sequence] = time.monotonic()
            async with self.session.post(
                f"{self.url}/api/v1/report",
                data=REPORT % ("bystander", self._sequence, pull),
                headers=self.headers,
            ) as r:
                assert r.status == 200, await r.text()
            self.waits["report"].append(time.monotonic() - began)
            await asyncio.sleep(0.6)

    async def _read(self) -> None:
        async with self.session.get(f"{self.url}/api/v1/events?node=bystander&layers=false") as stream:
            assert stream.status == 200
            async for line in stream.content:
                if line.startswith(b"data: ") and b'"downloadedBytes"' in line:
                    done = json.loads(line[6:])["pull"]["downloadedBytes"]
                    if done in self._sent:
                        self.waits["event"].append(time.monotonic() - self._sent.pop(done))

    async def _probe(self) -> None:
        while True:
            began = time.monotonic()
            async with self.session.get(f"{self.url}/healthz") as response:
                assert response.status == 200
            self.waits["healthz"].append(time.monotonic() - began)
            await asyncio.sleep(0.1)

    async def _watch(self) -> None:
        while True:
            self.memory.append(self.server.rss)
            await asyncio.sleep(0.05)

    def check(self) -> None:
        """Fail if any part of it has failed."""
        for task in self._tasks:
            if task.done():
                task.result()


@pytest.fixture
async def served():
    """A server process, its ports, and a client."""
    port, metrics_port = free_port(), free_port()
    addresses = {"HTTP_ADDR": f"127.0.0.1:{port}", "METRICS_ADDR": f"127.0.0.1:{metrics_port}"}
    async with Process("server", environment=SERVER_ENVIRONMENT, **addresses) as server, Api(port) as api:
        await api.ready()
        yield server, port, metrics_port


async def attack(
    served, name: str, what: str, bound: str, *, metrics: bool = False, headers: dict[str, str] | None = None
) -> Counter[str]:
    """Run one attack while a bystander uses the server; record and check the effect."""
    server, port, metrics_port = served
    before = server.rss
    async with Bystander(server, port, metrics_port, headers or {}) as bystander:
        await asyncio.sleep(1)
        command = [
            sys.executable,
            "-m",
            "tests.faults.attacks",
            name,
            str(metrics_port if metrics else port),
            str(SECONDS),
        ]
        attacker = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        output, _ = await attacker.communicate()
        bystander.check()
        for waits in bystander.waits.values():
            assert waits
        p99 = {what: round(bystander.p99(what), 3) for what in bystander.waits}
        ended = time.monotonic()
        while server.rss > before + 60 and time.monotonic() < ended + 40:  # noqa: ASYNC110  # no event reports it
            await asyncio.sleep(0.5)
        seen = Counter(json.loads(output))
        found = {
            "attack": what,
            "bound": bound,
            "p99": p99,
            "memory": [round(before, 1), round(max(bystander.memory), 1), round(server.rss, 1)],
            "seen": seen,
        }
    if FINDINGS:
        with Path(FINDINGS).open("a") as file:  # noqa: ASYNC230  # one line, after the test
            file.write(json.dumps(found) + "\n")
    assert max(bystander.memory) < 512, found
    assert (p99["healthz"] < 1, p99["report"] < 1, p99["event"] < 2) == (True, True, True), found
    return seen


@pytest.mark.parametrize(
    ("name", "what", "bound", "statuses"),
    [
        ("endless_headers", "headers without an end", "16 KiB, 100 headers: 431", {"431", "closed"}),
        ("endless_header_value", "a header without an end, twice", "16 KiB: 431", {"431", "closed"}),
        ("endless_target", "a target without an end", "16 KiB: 431", {"431", "closed"}),
        ("endless_chunk_extension", "a chunk extension without an end", "16 KiB: closed", {"413", "closed"}),
        ("endless_trailers", "trailers without an end", "16 KiB, 100 trailers: closed", {"431", "closed"}),
        ("unfinished_heads", "2,500 unfinished heads of 60 KB", "16 KiB each: 431", {"431", "closed"}),
        ("small_unfinished_heads", "2,500 unfinished heads of 15 KB", "8 MiB in all, 10 s", {"408", "503", "closed"}),
        ("silent_connections", "4,000 connections that send nothing", "30 s, half of all per address", None),
        (
            "unfinished_bodies",
            "700 bodies of 1 MiB without the last byte",
            "64 MiB in all, 10 s",
            {"408", "503", "closed"},
        ),
        ("pipelined_streams", "256 streams followed by another request", "refused", {"400", "closed"}),
        ("all_streams", "300 streams from one address", "half of all streams", {"200", "503"}),
    ],
)
async def test_an_attack_on_the_api(served, name, what, bound, statuses):
    seen = await attack(served, name, what, bound)
    assert statuses is None or seen.keys() <= statuses
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{served[2]}/metrics") as response:
        text = await response.text()
    assert "pulltrace_sse_clients_active 0.0" in text


@pytest.mark.parametrize("name", ["endless_headers", "unfinished_heads"])
async def test_an_attack_on_the_metrics(served, name):
    what = {"endless_headers": "headers without an end", "unfinished_heads": "2,500 unfinished heads of 60 KB"}[name]
    await attack(served, name, f"{what}, port of the metrics", "as above; 256 connections", metrics=True)


async def fill(port: int, nodes: int, pulls: int, each: int = 100) -> None:
    """Fill the history with ``pulls`` ended pulls of ten layers on each node."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=8)) as session:

        async def node(number: int) -> None:
            for sequence, start in enumerate(range(0, pulls, each), 1):
                ended = ',"completedAt":"2026-01-01T00:01:00Z"'
                body = ",".join(
                    PULL % (f"p{n}", "completed", f"app-{n}", f"2026-01-01T00:00:{n % 60:02}Z", LAYERS, ended)
                    for n in range(start, min(start + each, pulls))
                )
                while True:
                    data = REPORT % (f"node-{number}", sequence, body)
                    async with session.post(f"http://127.0.0.1:{port}/api/v1/report", data=data) as response:
                        if response.status == 200:
                            break
                        assert response.status == 429, await response.text()
                    await asyncio.sleep(0.2)

        await asyncio.gather(*(node(number) for number in range(nodes)))


async def test_clients_that_request_a_history_and_do_not_read_it(served):
    await fill(served[1], nodes=20, pulls=100)
    await attack(
        served, "unread_lists", "150 clients do not read a list of 2,000 pulls", "16 lists, 8 per address; 30 s"
    )


async def test_ten_clients_of_a_full_history(served):
    await fill(served[1], nodes=100, pulls=200)
    what = "10 clients of a full history (20,000 pulls of 10 layers), half stop reading"
    seen = await attack(served, "ten_histories", what, "16 lists, 8 per address; 64 KiB each")
    assert seen["200"] == 8
    assert seen["503"] == 2


async def test_many_scrapes_of_many_nodes(served):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=8)) as session:

        async def heartbeat(number: int) -> None:
            data = REPORT % (f"node-{number}", 1, "")
            async with session.post(f"http://127.0.0.1:{served[1]}/api/v1/report", data=data) as response:
                assert response.status == 200

        await asyncio.gather(*(heartbeat(number) for number in range(5000)))
    await attack(served, "scrapes", "60 scrapes at once of 5,000 nodes", "one text for all; 16 at once", metrics=True)


async def test_agents_whose_pulls_are_as_large_as_possible(served):
    what = "100 nodes report ever more running pulls of 500 layers with the longest texts; two clients read the list"
    seen = await attack(served, "largest_reports", what, "8 MiB per node, 256 MiB for all nodes")
    assert seen["200"] > 200
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{served[2]}/metrics") as response:
        text = await response.text()
    assert "pulltrace_dropped_total 0.0" not in text


class SlowReviewer:
    """An API server without pods whose TokenReviews take a second. It knows the tokens in ``valid``."""

    def __init__(self) -> None:
        self.valid: dict[str, str] = {}

    async def __aenter__(self):
        app = web.Application()
        app.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", self._review)
        app.router.add_get("/{path:.*}", self._list)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()

    async def _review(self, request: web.Request) -> web.Response:
        token = (await request.json())["spec"]["token"]
        await asyncio.sleep(1)
        node = self.valid.get(token)
        user = {"username": "system:serviceaccount:pulltrace:pulltrace-agent"}
        user["extra"] = {"authentication.kubernetes.io/node-name": [node]}
        status = {"authenticated": True, "audiences": ["pulltrace"], "user": user} if node else {"error": "unknown"}
        return web.json_response({"kind": "TokenReview", "status": status}, status=201)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response({"kind": "List", "metadata": {"resourceVersion": "1"}, "items": []})
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(600)
        return response


async def test_a_flood_of_forged_tokens(tmp_path):
    port, metrics_port = free_port(), free_port()
    async with SlowReviewer() as api:
        kubeconfig = tmp_path / "kubeconfig"
        cluster = {"name": "c", "cluster": {"server": api.url}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        user = {"name": "u", "user": {"token": "server"}}
        config = {"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "c"}
        kubeconfig.write_text(json.dumps({"apiVersion": "v1", "kind": "Config"} | config))
        settings = {"HTTP_ADDR": f"127.0.0.1:{port}", "METRICS_ADDR": f"127.0.0.1:{metrics_port}"}
        environment = SERVER_ENVIRONMENT | {"KUBECONFIG": str(kubeconfig)}
        settings["AGENT_SERVICE_ACCOUNT"] = "pulltrace/pulltrace-agent"
        async with Process("server", environment=environment, **settings) as server, Api(port) as client:
            await client.ready()
            tokens = [forged_token(-number).decode() for number in range(1, 40)]
            nodes = ["bystander", *(f"new-{number}" for number in range(len(tokens)))]
            api.valid = dict(zip(tokens, nodes, strict=False))
            known = {"Authorization": f"Bearer {tokens[0]}"}
            async with aiohttp.ClientSession() as session:
                data = REPORT % ("bystander", 0, "")
                async with session.post(f"http://127.0.0.1:{port}/api/v1/report", data=data, headers=known) as answer:
                    assert answer.status == 200
            await asyncio.sleep(0.6)
            waits: list[float] = []
            new = asyncio.create_task(admit_new_agents(port, tokens[1:], waits))
            bound = "32 reviews at once, addresses in turn; a new agent waits at most 5 s"
            what = "80 connections with forged tokens, a review takes 1 s"
            seen = await attack((server, port, metrics_port), "forged_tokens", what, bound, headers=known)
            assert not new.done(), "all of them were admitted, or one failed"
            new.cancel()
            assert len(waits) >= 3
            assert max(waits) < 5, waits
            assert seen.keys() <= {"401", "503", "closed"}
            await server.stop()
            assert "Traceback" not in server.output


async def admit_new_agents(port: int, tokens: list[str], waits: list[float]) -> None:
    """Report with one new token after another until it is accepted, from one address; add how long each waited."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=("127.0.0.10", 0))) as session:
        await asyncio.sleep(2)
        for number, token in enumerate(tokens):
            began = time.monotonic()
            status = 0
            while status != 200:
                headers = {"Authorization": f"Bearer {token}"}
                data = REPORT % (f"new-{number}", 1, "")
                async with session.post(f"http://127.0.0.1:{port}/api/v1/report", data=data, headers=headers) as answer:
                    status = answer.status
                assert status in (200, 503), status
            waits.append(time.monotonic() - began)


SEEDS = (
    b"GET /api/v1/pulls?limit=1 HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n",
    b"POST /api/v1/report HTTP/1.1\r\nHost: x\r\nContent-Length: 33\r\n\r\n" + b'{"nodeName":"fuzz","pulls":null}\n',
    b"POST /api/v1/report HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: a\r\n\r\n"
    b"2;x=y\r\n{}\r\n0\r\na: b\r\n\r\n",
    b"GET /assets/a.js HTTP/1.0\r\nIf-None-Match: *\r\nAuthorization: Bearer a.b.c\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\nExpect: 100-continue\r\n\r\n",
    b"GET http://h/%ff?%00 HTTP/1.1\r\nAuthorization: Bearer \xff.\xff.x\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n",
)
PIECES = (
    b"\r\n",
    b"\n",
    b"\0",
    b" ",
    b":",
    b"\xff",
    b"a" * 5000,
    b"%00",
    b"-1",
    b"99999999999999999999",
    b"\r\n\r\n",
    b";",
)


def mutated(rng: random.Random) -> bytes:
    """A request with a few bytes changed, cut, repeated or inserted."""
    data = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randint(0, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(4):
            case 0:
                data[at:at] = rng.choice(PIECES)
            case 1:
                del data[at : at + rng.randint(1, 20)]
            case 2:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case _:
                data[at:at] = data[at : at + rng.randint(1, 40)]
    return bytes(data)


async def test_fuzzing_a_connection_finds_no_error(served):
    """Send ``FUZZ_REQUESTS`` mutated requests: no 500, no traceback, and the server continues."""
    server, port, _ = served
    rng, seen = random.Random(int(os.environ.get("FUZZ_SEED", "7"))), Counter()

    async def send() -> None:
        data = mutated(rng)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(OSError):
            cut = rng.randrange(len(data) + 1)
            writer.write(data[:cut])
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(data[cut:])
            writer.write_eof()
            status = (await asyncio.wait_for(reader.read(65_536), 20))[9:12]
            seen[status.decode(errors="replace") or "closed"] += 1
            assert status != b"500", data
        writer.transport.abort()

    for _ in range(int(os.environ.get("FUZZ_REQUESTS", "2000")) // 20):
        await asyncio.gather(*(send() for _ in range(20)))
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/healthz") as response:
        assert response.status == 200
    await server.stop()
    assert "Traceback" not in server.output
    if FINDINGS:
        with Path(FINDINGS).open("a") as file:  # noqa: ASYNC230  # one line, after the test
            file.write(json.dumps({"fuzzed": sum(seen.values()), "seen": seen}) + "\n")
