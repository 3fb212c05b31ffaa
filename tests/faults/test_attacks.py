"""HTTP attacks on the server, and their effect on an agent, a stream client and ``/healthz``.

Each attack runs in a separate process. The tests assert the limits that are stated above the table of attacks in
docs/reliability.md.
"""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.programs import Api
from tests.faults.attacks import forged_token
from tests.faults.lab import SERVER_ENVIRONMENT, Process
from tests.faults.scripted_api import ScriptedApi
from tests.patience import PATIENCE
from tests.real.process import free_port

FINDINGS = os.environ.get("ATTACKS_JSON", "")
WAITS = ("report", "event", "healthz")
SECONDS = 12.0
"""The minimum duration of an attack, in seconds. Each attack outlasts the server's timeout for unfinished requests."""
LONGEST_WAITS = {"healthz": 1.0, "report": 1.0, "event": 2.0} if FINDINGS else dict.fromkeys(WAITS, SECONDS / 2)
"""The upper limit, in seconds, for the 99th percentile of the bystander's waiting times. Only `make reliability`, which
publishes the times, uses the limits in docs/reliability.md. On a busy machine, each response takes longer, but only an
attack that blocks the server makes a bystander wait until the attack ends.
"""
LAYERS = ",".join(
    f'{{"digest":"sha256:{number:064x}","totalBytes":1048576,"totalKnown":true,"state":"extracted"}}'
    for number in range(10)
)
REPORT = '{"nodeName":"%s","bootId":"b","sequence":%d,"pulls":[%s]}'
PULL = '{"id":"%s","status":"%s","imageRef":"r.test/%s:1","startedAt":"%s","layers":[%s]%s}'


class Bystander:
    """An agent, a stream client and a ``/healthz`` probe, which measure how long they have to wait."""

    def __init__(self, server: Process, port: int, metrics_port: int, headers: dict[str, str]) -> None:
        self.headers = headers
        self.server, self.port, self.metrics_port = server, port, metrics_port
        self.url = f"http://127.0.0.1:{port}"
        self.waits: dict[str, list[float]] = {what: [] for what in WAITS}
        self.memory: list[float] = []
        self._sequence = 0
        self._sent: dict[int, float] = {}

    async def __aenter__(self):
        # The bystander has its own address, as nodes and browsers do.
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
        """Return the 99th percentile of these waiting times in seconds."""
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
        """If a task has failed, raise its exception."""
        for task in self._tasks:
            if task.done():
                task.result()


async def attack(
    served,
    name: str,
    what: str,
    bound: str,
    *,
    metrics: bool = False,
    headers: dict[str, str] | None = None,
    enough: Callable[[], Awaitable[bool]] | None = None,
) -> Counter[str]:
    """Run an attack while a bystander uses the server. Record and check how long the bystander waits. The attack lasts
    until ``enough`` returns true.
    """
    server, port, metrics_port = served
    before = server.rss
    async with Bystander(server, port, metrics_port, headers or {}) as bystander:
        await asyncio.sleep(1)
        command = [sys.executable, "-m", "tests.faults.attacks", name, str(metrics_port if metrics else port)]
        attacker = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        try:
            await attacker.stdout.readline()
            await asyncio.sleep(SECONDS)
            async with asyncio.timeout(PATIENCE):
                while not all(bystander.waits.values()) or (enough and not await enough()):
                    bystander.check()
                    await asyncio.sleep(0.5)
        finally:
            attacker.terminate()
        output, _ = await attacker.communicate()
        bystander.check()
        p99 = {what: round(bystander.p99(what), 3) for what in bystander.waits}
        ended = time.monotonic()
        while server.rss > before + 60 and time.monotonic() < ended + 40:  # noqa: ASYNC110  # there is no event to wait for
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
        with Path(FINDINGS).open("a") as file:  # noqa: ASYNC230  # only one line is written, after the test
            file.write(json.dumps(found) + "\n")
    assert max(bystander.memory) < 512, found
    assert all(p99[what] < longest for what, longest in LONGEST_WAITS.items()), found
    return seen


@pytest.mark.parametrize(
    ("name", "what", "bound", "statuses"),
    [
        ("endless_headers", "an endless number of headers", "16 KiB, 100 headers: 431", {"431", "closed"}),
        ("endless_header_value", "two endless headers", "16 KiB: 431", {"431", "closed"}),
        ("endless_target", "an endless request target", "16 KiB: 431", {"431", "closed"}),
        ("endless_chunk_extension", "an endless chunk extension", "16 KiB: closed", {"413", "closed"}),
        ("endless_trailers", "an endless number of trailers", "16 KiB, 100 trailers: closed", {"431", "closed"}),
        ("unfinished_heads", "2,500 unfinished request heads of 60 KB", "16 KiB each: 431", {"431", "closed"}),
        (
            "small_unfinished_heads",
            "2,500 unfinished request heads of 15 KB",
            "8 MiB in all, 10 s",
            {"408", "503", "closed"},
        ),
        (
            "silent_connections",
            "4,000 connections that send nothing",
            "idle connections are closed after 30 s; an address may hold half of all connections",
            None,
        ),
        (
            "unfinished_bodies",
            "700 bodies of 1 MiB without the last byte",
            "64 MiB in all, 10 s",
            {"408", "503", "closed"},
        ),
        ("pipelined_streams", "256 streams followed by another request", "refused", {"400", "closed"}),
        ("all_streams", "300 streams from one address", "an address may hold half of all streams", {"200", "503"}),
    ],
)
async def test_an_attack_on_the_api_port_does_not_delay_other_clients(served, name, what, bound, statuses):
    seen = await attack(served, name, what, bound)
    assert statuses is None or seen.keys() <= statuses
    text = ""
    async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE):
        # The server may still be counting the bystander, which has just disconnected.
        while "pulltrace_sse_clients_active 0.0" not in text:
            async with session.get(f"http://127.0.0.1:{served[2]}/metrics") as response:
                text = await response.text()


@pytest.mark.parametrize("name", ["endless_headers", "unfinished_heads"])
async def test_an_attack_on_the_metrics_port_does_not_delay_other_clients(served, name):
    what = {
        "endless_headers": "an endless number of headers",
        "unfinished_heads": "2,500 unfinished request heads of 60 KB",
    }[name]
    await attack(served, name, f"{what}, metrics port", "as above; 256 connections", metrics=True)


async def fill(port: int, nodes: int, pulls: int, each: int = 100) -> None:
    """Have each node report ``pulls`` finished pulls with ten layers each. Each report contains ``each`` pulls."""
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


async def test_clients_that_request_the_list_but_never_read_it_do_not_delay_other_clients(served):
    await fill(served[1], nodes=20, pulls=100)
    await attack(
        served,
        "unread_lists",
        "150 clients that do not read a list of 2,000 pulls",
        "at most 16 lists at once, 8 per address; a client may stop reading for 30 s",
    )


async def test_eight_of_ten_clients_from_the_same_address_can_read_a_full_history_at_once(served):
    await fill(served[1], nodes=100, pulls=200)
    what = "10 clients request a full history (20,000 pulls of 10 layers), and half of them stop reading"
    seen = await attack(served, "ten_histories", what, "16 lists, 8 per address; 64 KiB each")
    assert seen["200"] == 8
    assert seen["503"] == 2


async def test_many_simultaneous_scrapes_do_not_delay_other_clients(served):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=8)) as session:

        async def heartbeat(number: int) -> None:
            data = REPORT % (f"node-{number}", 1, "")
            async with session.post(f"http://127.0.0.1:{served[1]}/api/v1/report", data=data) as response:
                assert response.status == 200

        await asyncio.gather(*(heartbeat(number) for number in range(5000)))
    await attack(
        served,
        "scrapes",
        "60 concurrent scrapes of 5,000 nodes",
        "all scrapes share one response; at most 16 responses are sent at once",
        metrics=True,
    )


async def test_pulls_of_the_largest_possible_size_do_not_exhaust_memory(served):
    what = (
        "100 nodes report more and more running pulls of 500 layers with the longest strings; two clients read the list"
    )

    async def some_dropped() -> bool:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{served[2]}/metrics") as response:
            return "pulltrace_dropped_total 0.0" not in await response.text()

    bound = "at most 8 MiB per node, and 256 MiB for all nodes"
    seen = await attack(served, "largest_reports", what, bound, enough=some_dropped)
    assert seen["200"] > 200


async def test_new_agents_can_still_report_during_a_flood_of_forged_tokens(tmp_path):
    port, metrics_port = free_port(), free_port()
    async with ScriptedApi(tmp_path) as api:
        settings = {"HTTP_ADDR": f"127.0.0.1:{port}", "METRICS_ADDR": f"127.0.0.1:{metrics_port}"}
        environment = SERVER_ENVIRONMENT | {"KUBECONFIG": str(api.kubeconfig)}
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
            bound = "at most 32 reviews run at once, and addresses take turns; a new agent waits at most 5 s"
            what = "80 connections with forged tokens; a review takes 1 s"

            async def three_admitted() -> bool:
                return len(waits) >= 3

            seen = await attack(
                (server, port, metrics_port), "forged_tokens", what, bound, headers=known, enough=three_admitted
            )
            assert not new.done(), "new agents are still being admitted when the attack ends"
            new.cancel()
            assert max(waits) < (5 if FINDINGS else PATIENCE), waits
            assert seen.keys() <= {"401", "503", "closed"}
            await server.stop()
            assert "Traceback" not in server.output


async def admit_new_agents(port: int, tokens: list[str], waits: list[float]) -> None:
    """Send reports from a single address, each with a new token. Record how long each report takes to be accepted."""
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
