"""Measure the memory of the server or the agent after many short pulls: ``python -m tests.soak.million server|agent``.

With ``server``, the program posts reports from 200 nodes with ten short pulls each, as fast as the server accepts them.
All limits have their default values, except that a node may send reports less than half a second apart. With ``agent``,
the program runs a simulated containerd with 220 short pulls at a time. A real agent polls it twice a second and reports
to a real server.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import uvloop

from pulltrace.demo.grpc_server import SimulatedContainerd
from pulltrace.demo.images import make_image, make_layer
from pulltrace.demo.registries import Manner, Registries
from pulltrace.demo.virtual_containerd import CONTAINERD_1, VirtualContainerd
from pulltrace.server.limits import Limits
from pulltrace.server.run import serve
from pulltrace.settings import ServerSettings, load
from pulltrace.wire import AgentReport, LayerPhase, LayerState, PullPhase, PullState, to_time
from tests.faults.lab import AGENT_ENVIRONMENT, MIB, SERVER_ENVIRONMENT, Process
from tests.real.process import free_port

NODES, AT_ONCE = 200, 10
BUSY = 220
EVERY = 10_000
MARKS = (10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000)
HOST = "registry.test"


def pull(number: int, now: float, *, ended: bool) -> PullState:
    """Return a live or a finished pull with two layers."""
    state, came = (LayerPhase.EXTRACTED, MIB) if ended else (LayerPhase.DOWNLOADING, MIB // 2)
    layers = [
        LayerState(
            digest=f"sha256:{number:063}{layer}", total_bytes=MIB, downloaded_bytes=came, total_known=True, state=state
        )
        for layer in range(2)
    ]
    return PullState(
        id=f"lease-{number}",
        image_ref=f"{HOST}/app-{number % 500}:{number}",
        registry=HOST,
        repository=f"app-{number % 500}",
        layers=layers,
        total_known=True,
        started_at=to_time(now - 1),
        status=PullPhase.COMPLETED if ended else PullPhase.DOWNLOADING,
        completed_at=to_time(now) if ended else None,
    )


def requests(round_: int) -> list[bytes]:
    """Return one report per node, with this round's live pulls and the finished pulls of the previous round."""
    made, now = [], time.time()
    for node in range(NODES):
        first = (round_ * NODES + node) * AT_ONCE
        before = first - NODES * AT_ONCE
        pulls = [pull(first + more, now, ended=False) for more in range(AT_ONCE)]
        pulls += [pull(before + more, now, ended=True) for more in range(AT_ONCE)] if round_ else []
        body = msgspec.json.encode(
            AgentReport(
                node_name=f"node-{node}", timestamp=to_time(now), pulls=pulls, boot_id="million", sequence=round_ + 1
            )
        )
        made.append(b"POST /api/v1/report HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    return made


async def server(pulls: int) -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", __spec__.name, "serve", str(port))
    try:
        for _ in range(200):
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except OSError:
                await asyncio.sleep(0.1)
        print_line(f"{0:>9,} pulls: server {rss(process.pid):.1f} MiB")
        began = time.monotonic()
        for round_ in range(pulls // (NODES * AT_ONCE) + 1):
            for request in requests(round_):
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200"), head
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
            if (done := round_ * NODES * AT_ONCE) in MARKS:
                print_line(f"{done:>9,} pulls: server {rss(process.pid):.1f} MiB, {time.monotonic() - began:.0f} s")
        writer.close()
    finally:
        process.terminate()
        await process.wait()


async def agent(pulls: int) -> None:
    registries = Registries(manners={HOST: Manner(speed=100 * MIB, latency=0.2)})
    node = VirtualContainerd(registries, now=time.time(), version=CONTAINERD_1, bandwidth=1e12, disk=1e12)
    port, metrics = free_port(), free_port()
    listen = {"HTTP_ADDR": f"127.0.0.1:{port}", "METRICS_ADDR": f"127.0.0.1:{metrics}", "LOG_LEVEL": "warn"}
    told = {"NODE_NAME": "busy", "SERVER_URL": f"http://127.0.0.1:{port}", "LOG_LEVEL": "warn"}
    with tempfile.TemporaryDirectory(prefix="pulltrace-") as folder:
        async with SimulatedContainerd(node, Path(folder) / "c.sock") as containerd:
            told |= {"CONTAINERD_SOCKET": str(containerd.socket), "REPORT_INTERVAL": "500ms"}
            half = Process("agent", environment=AGENT_ENVIRONMENT, **told)
            async with Process("server", environment=SERVER_ENVIRONMENT, **listen) as other, half:
                await asyncio.sleep(3)
                print_line(f"{0:>9,} pulls: agent {half.rss:.1f} MiB, server {other.rss:.1f} MiB")
                async for done, seconds in _pull(pulls, node):
                    memory = f"agent {half.rss:.1f} MiB, server {other.rss:.1f} MiB, {seconds:.0f} s"
                    completed, failed = await _ends(metrics)
                    print_line(f"{done:>9,} pulls, told {completed:>9,.0f} completed, {failed:.0f} failed: {memory}")


async def _pull(pulls: int, node: VirtualContainerd) -> AsyncIterator[tuple[int, float]]:
    """Pull images with one small layer each, and remove each image after a few seconds."""
    began = then = time.monotonic()
    begun = 0
    while begun - len(node.pulls) < pulls:
        await asyncio.sleep(0.05)
        now = time.monotonic()
        node.advance(now - then)
        then = now
        if len(node.store.records) > 4000:
            node.remove(*[name for name in node.store.records if name.startswith(HOST) and "@" not in name][:200])
        while len(node.pulls) < BUSY:
            begun += 1
            node.pull(_push(node, begun))
            if begun % EVERY == 0:
                yield begun, now - began
    await asyncio.sleep(10)
    yield begun, time.monotonic() - began


async def _ends(port: int) -> tuple[float, float]:
    """Return how many completed and failed pulls the server has counted."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    ends = [line for line in lines if line.startswith("pulltrace_pulls_total{")]
    counts = [
        sum(float(line.rpartition(" ")[2]) for line in ends if f'"{how}"' in line) for how in ("completed", "failed")
    ]
    return counts[0], counts[1]


def _push(node: VirtualContainerd, number: int) -> str:
    """Serve a new image, and drop old images."""
    images = node.registries.images
    if len(images) > 2000:
        for name in list(images)[:1000]:
            del images[name]
    image = make_image(f"app-{number}", make_layer(f"layer-{number}", 2 * MIB), multi_arch=False)
    return node.registries.push(f"{HOST}/app-{number}:1", image)


def rss(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


def print_line(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.million", description=__doc__)
    parser.add_argument("what", choices=("server", "agent", "serve"))
    parser.add_argument("number", type=float, nargs="?", help="the number of pulls, or the port for serve")
    args = parser.parse_args()
    os.environ["GRPC_VERBOSITY"] = "NONE"
    if args.what == "server":
        asyncio.run(server(int(args.number or 1_000_000)))
    elif args.what == "agent":
        uvloop.run(agent(int(args.number or 1_000_000)))
    else:
        local = {
            "PULLTRACE_HTTP_ADDR": f"127.0.0.1:{int(args.number)}",
            "PULLTRACE_METRICS_ADDR": "127.0.0.1:0",
        }
        uvloop.run(serve(load(ServerSettings, local), limits=Limits(report_interval=0.0)))


if __name__ == "__main__":
    main()
