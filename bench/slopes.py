"""Measure the CPU time and memory that the server needs for each additional live pull, finished pull, client or waiting
pod.

Each figure is the difference between the measurements at two loads, divided by the number of items that were added.
``--short`` uses small loads, only to check that the benchmark works. The cost of live pulls and clients is measured in
a real server process. The cost of finished pulls and waiting pods is measured in a process without sockets. This cost
includes only storing the state, updating it on each tick, and encoding frames.

Usage:

    python -m bench.slopes [--seconds 8] [--repeats 2] [--identity] [PART …]
"""

import argparse
import gc
import multiprocessing
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import uvloop

from bench.load import Load
from bench.measure import Row, measure
from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.kubernetes.cluster import Cluster
from pulltrace.server.kubernetes.objects import Event, EventSeen, Pod, PodSeen
from pulltrace.server.limits import Limits
from pulltrace.server.metrics import Metrics
from pulltrace.server.pulls.feed import Entry
from pulltrace.server.pulls.hub import Hub
from pulltrace.settings import ServerSettings, load
from pulltrace.wire import AgentReport, LayerPhase, LayerState, PullPhase, PullState, to_time

NODES = 500
LAYERS = 10
MIB = 1 << 20


@dataclass(frozen=True)
class Size:
    """The sizes of the benchmark's loads. ``few`` and ``many`` are numbers of live pulls or clients, ``ended`` is the
    number of finished pulls, and ``pods`` is the number of waiting pods. Each measurement takes ``seconds`` seconds.
    """

    few: int = 100
    many: int = 500
    ended: int = 5_000
    pods: int = 10_000
    seconds: float = 8.0
    gzip: bool = True
    """True if the clients accept gzip."""


async def difference(name: str, few: Load, many: Load, size: Size) -> None:
    """Measure each load on a new server, and print the cost of one additional pull or client."""
    rows: list[Row] = [await measure("pulltrace", each, size.seconds, scraped=False) for each in (few, many)]
    cpu, memory = ((getattr(rows[1], figure) - getattr(rows[0], figure)) for figure in ("cpu", "rss"))
    count = size.many - size.few
    show(name, cpu * 10 / count, memory * 1024 / count)


def show(name: str, cpu: float, memory: float) -> None:
    print(f"one more {name}: {cpu:.3f} ms of CPU per second, {memory:.1f} KiB", flush=True)


async def pulls(size: Size) -> None:
    """With one client, measure the CPU time and memory for each live pull that is reported once a second."""
    few, many = (Load(nodes=number, pulling=number, readers=1, images=1) for number in (size.few, size.many))
    await difference("live pull", few, many, size)


async def clients(size: Size) -> None:
    """Measure the CPU time and memory per client that does not request layers, while a hundred pulls change every
    second.
    """
    pulling = Load(nodes=size.few, pulling=size.few, images=1, gzip=size.gzip)
    few, many = (replace(pulling, readers=number) for number in (size.few, size.many))
    await difference("client of the stream", few, many, size)


class InProcess:
    """A hub without sockets. ``spend`` advances its clock."""

    def __init__(self) -> None:
        self.now = time.time()
        self.cluster = Cluster()
        self.hub = Hub(
            load(ServerSettings, {}), Metrics(), limits=Limits(), cluster=self.cluster, clock=lambda: self.now
        )

    def spend(self, seconds: float) -> float:
        """Advance the clock tick by tick, and encode each frame once. Return the CPU time, in seconds, per simulated
        second.
        """
        began, spent = self.now, time.process_time()
        while self.now < began + seconds:
            self.now += self.hub.limits.tick
            self.hub.tick(self.now)
            self.hub.feed.frame.whole(_render, layers=False, gzip=True)
        return (time.process_time() - spent) / seconds


def _render(entry: Entry, layers: bool) -> bytes:
    return entry.data(layers=layers)


async def ended(size: Size) -> None:
    """Measure the CPU time and memory per finished pull in the history, while five pulls finish per second."""
    server = InProcess()
    server.spend(60)  # the server no longer waits for the agents' first reports
    before, idle = rss(), server.spend(size.seconds)
    for number in range(size.ended):
        at = server.now
        layers = [
            LayerState(
                digest=f"sha256:{number * LAYERS + index:064x}",
                total_bytes=20 * MIB,
                downloaded_bytes=20 * MIB,
                total_known=True,
                state=LayerPhase.EXTRACTED,
                started_at=to_time(at),
                completed_at=to_time(at + 10),
            )
            for index in range(LAYERS)
        ]
        state = PullState(
            id=f"{number}-lease",
            image_ref=f"docker.io/team-{number % 40}/service:{number}",
            status=PullPhase.COMPLETED,
            started_at=to_time(at - 20),
            completed_at=to_time(at - 5),
            total_known=True,
            layers=layers,
        )
        node = f"node-{number % NODES}"
        report = AgentReport(node_name=node, boot_id="bench", sequence=number + 1, heartbeat_seconds=1e9, pulls=[state])
        server.hub.report(report)
        if number % 50 == 0:
            server.spend(10)
    del layers, state, report
    server.spend(200)
    gc.collect()
    memory = rss() - before
    show("stored ended pull", 1000 * (server.spend(size.seconds) - idle) / size.ended, memory * 1024 / size.ended)


async def pods(size: Size) -> None:
    """Measure the CPU time and memory per waiting pod whose image is not being pulled yet."""
    server = InProcess()
    server.spend(60)
    before, idle = rss(), server.spend(size.seconds)
    for number in range(size.pods):
        image = f"registry.example.com/team-{number % 40}/app:{number % 7}"
        arrival = PodEvents(pod(f"web-{number}", f"node-{number % NODES}", {"app": image}, at=server.now))
        server.hub.take_change(PodSeen(msgspec.convert(arrival.pod, Pod)))
        server.hub.take_change(EventSeen(msgspec.convert(arrival.pulling("app", server.now), Event), fresh=True))
    server.spend(10)
    gc.collect()
    memory = rss() - before
    show("waiting pod", 1000 * (server.spend(size.seconds) - idle) / size.pods, memory * 1024 / size.pods)


def rss() -> float:
    """Return the resident memory of this process, in MiB."""
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


PARTS: dict[str, Callable[[Size], Coroutine[None, None, None]]] = {
    part.__name__: part for part in (pulls, clients, ended, pods)
}


def run(name: str, size: Size) -> None:
    """Run one part of the benchmark in a separate process, so that other parts do not affect its memory use."""
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(name, size))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{name}: exit code {process.exitcode}")


def _run(name: str, size: Size) -> None:
    uvloop.run(PARTS[name](size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--identity", action="store_true", help="the clients do not accept gzip")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"from {', '.join(PARTS)} (default: all)")
    args = parser.parse_args()
    size = Size(seconds=args.seconds, gzip=not args.identity)
    if args.short:
        size = replace(size, few=1, many=2, ended=50, pods=50)
    for _ in range(args.repeats):
        for name in args.parts or PARTS:
            run(name, size)


if __name__ == "__main__":
    main()
