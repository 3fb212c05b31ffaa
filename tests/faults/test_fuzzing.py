"""Fuzz a server process, through raw connections and through the pods and events that its API server sends."""

import asyncio
import copy
import json
import os
import random
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from pulltrace.demo.pod_events import PodEvents, pod
from tests.e2e.programs import Api
from tests.faults.lab import SERVER_ENVIRONMENT, Process
from tests.faults.scripted_api import ScriptedApi
from tests.patience import PATIENCE
from tests.real.process import free_port

FINDINGS = os.environ.get("ATTACKS_JSON", "")

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
    """Return a request in which a few bytes are changed, removed, duplicated or inserted."""
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


async def test_fuzzing_a_connection_finds_no_problems(served):
    """Send ``FUZZ_REQUESTS`` mutated requests. The server keeps running, never responds with status 500, and never logs
    a traceback.
    """
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
            status = (await asyncio.wait_for(reader.read(65_536), PATIENCE))[9:12]
            seen[status.decode(errors="replace") or "closed"] += 1
            assert status != b"500", data
        writer.transport.abort()

    for _ in range(int(os.environ.get("FUZZ_REQUESTS", "2000")) // 20):
        await asyncio.gather(*(send() for _ in range(20)))
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/healthz") as response:
        assert response.status == 200
    await server.stop()
    assert "Traceback" not in server.output
    note({"fuzzed": sum(seen.values()), "seen": seen})


def note(found: dict[str, Any]) -> None:
    """Store a result for docs/reliability.md."""
    if FINDINGS:
        with Path(FINDINGS).open("a") as file:
            file.write(json.dumps(found) + "\n")


VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**63, 1e308, "", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999+14:00", "node-1"),
    *([], {}, [[]], [None], {"": ""}, "\x00\u2028\x9b[31m", "a" * 3000, "__proto__", "docker.io/library/app:1"),
)


def objects(now: float) -> list[tuple[str, Any]]:
    """Return valid pods and events, including every kind of event that the server handles."""
    found: list[tuple[str, Any]] = []
    for number in range(4):
        images = {f"c{one}": f"docker.io/library/app-{one}:1" for one in range(number + 1)}
        one = PodEvents(pod(f"p{number}", "node-1", images, init={"i": "init:1"}, volumes={"v": "model:1"}, at=now))
        found.append(("pods", copy.deepcopy(one.pod)))
        events = [one.pulling("c0", now), one.failed("c0", now + 1, "not found"), one.pulled("c0", now + 2)]
        found += [("events", event) for event in events]
        one.started("c0", now + 3)
        found.append(("pods", copy.deepcopy(one.pod)))
    return found


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every location in a JSON value, as (container, key) pairs."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((value, key), *places(value[key]))]


def mangled(rng: random.Random, value: Any) -> Any:
    """Return a copy of a JSON value in which a few parts are removed, duplicated, or replaced by other values."""
    value = copy.deepcopy(value)
    for _ in range(rng.randint(0, 4)):
        if not (all_places := places(value)):
            break
        holder, key = rng.choice(all_places)
        match rng.randrange(4):
            case 0:
                holder[key] = copy.deepcopy(rng.choice(VALUES))
            case 1 if isinstance(holder, dict):
                del holder[key]
            case 2 if isinstance(holder, list):
                holder[key:key] = [copy.deepcopy(holder[key]) for _ in range(rng.choice((1, 30, 300)))]
            case _:
                holder[key] = copy.deepcopy(rng.choice(all_places)[0])  # copy one part of the value into another
    return value


async def test_fuzzing_pods_and_events_finds_no_errors(tmp_path):
    """Send ``FUZZ_OBJECTS`` mutated objects in lists and watches. The server keeps running and responds to every
    request.
    """
    rng, many = random.Random(int(os.environ.get("FUZZ_SEED", "7"))), int(os.environ.get("FUZZ_OBJECTS", "3000"))
    port, now = free_port(), time.time()
    valid = objects(now)
    slowest, sent = 0.0, 0
    async with ScriptedApi(tmp_path) as api:
        for name in api.listed:
            api.listed[name] = [mangled(rng, value) for kind, value in valid * 10 if kind == name]
        settings = {"HTTP_ADDR": f"127.0.0.1:{port}", "METRICS_ADDR": "127.0.0.1:0", "LOG_LEVEL": "debug"}
        environment = SERVER_ENVIRONMENT | {"KUBECONFIG": str(api.kubeconfig)}
        async with Process("server", environment=environment, **settings) as server, Api(port) as client:
            await client.ready()
            while sent < many:
                for _ in range(300):
                    name, value = rng.choice(valid)
                    line = {"type": rng.choice(("ADDED", "MODIFIED", "MODIFIED", "DELETED")), "object": value}
                    text = json.dumps(mangled(rng, line)).encode()
                    api.lines[name].put_nowait(text + b"\n")
                sent += 300
                for name in api.lines:
                    if rng.random() < 0.05:
                        api.lines[name].put_nowait(b"")  # the watch ends, so the server lists everything again
                while not all(queue.empty() for queue in api.lines.values()):
                    began = time.monotonic()
                    assert await client.pulls() is not None
                    slowest = max(slowest, time.monotonic() - began)
                for path in ("/api/v1/pods", "/api/v1/images"):
                    await client.get(path)
            await server.stop()
            assert "Traceback" not in server.output
            note({"objects": sent, "slowest": round(1000 * slowest)})
