"""Measure the memory, the time to list all pods, and the longest event-loop stall of a server that watches 10,000 pods.

One process acts as the API server, with real HTTP on loopback. The pods are as large as in a real cluster (about 9 kB
of JSON), and each waiting pod has one Pulling event. A second process watches the API server as Pulltrace's server
does, and measures its own memory and CPU time.

Usage:

    python -m bench.kube_memory [--pods 10000] [--waiting 500]
"""

import argparse
import asyncio
import contextlib
import copy
import gc
import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path

from pulltrace.demo.apiserver import ApiServer
from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.kubernetes.cluster import Cluster
from pulltrace.server.kubernetes.objects import Change
from pulltrace.server.kubernetes.watch import Watches

NODES = 500


def main() -> None:
    """Run all measurements and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--waiting", type=int, default=500, help="how many of the pods wait for an image")
    args = parser.parse_args()
    rows = [measure(args.pods, waiting) for waiting in (0, min(args.waiting, args.pods), args.pods)]
    print("   pods  waiting   RSS before      after       kept  listed in  longest stall     CPU")
    for row in rows:
        print("{:>7} {:>8} {:>8.1f} MiB {:>6.1f} MiB {:>6.1f} MiB {:>8.2f} s {:>11.0f} ms {:>5.2f} s".format(*row))


def measure(pods: int, waiting: int) -> tuple[float, ...]:
    """Run the benchmark once, in two new processes, and return one table row."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    api = context.Process(target=_serve, args=(pods, waiting, theirs), daemon=True)
    api.start()
    url = mine.recv()
    with context.Pool(1) as follower:
        row = follower.apply(_follow, (url, waiting))
    mine.send("end")
    api.join(10)
    return (pods, waiting, *row)


def _serve(pods: int, waiting: int, pipe: Connection) -> None:
    async def serve() -> None:
        async with ApiServer(bookmarks=60) as api:
            filler = {"annotations": {"filler": "x" * 8000}}
            for number in range(pods):
                image = f"registry.example.com/team-{number % 40}/app:{number % 7}"
                item = pod(
                    f"web-{number}-5d4f7c9b8d-abcde",
                    f"node-{number % NODES}",
                    {"app": image, "sidecar": "registry.example.com/mesh/proxy:1"},
                    owner=("ReplicaSet", f"web-{number}-5d4f7c9b8d"),
                    at=time.time(),
                )
                item["metadata"] |= copy.deepcopy(filler)
                arrival = PodEvents(item)
                if number < waiting:
                    api.put("events", arrival.pulling("app", time.time()))
                else:
                    arrival.started("app", time.time())
                    arrival.started("sidecar", time.time())
                api.put("pods", item)
            api.compact()
            pipe.send(api.url)
            await asyncio.to_thread(pipe.recv)

    asyncio.run(serve())


def _follow(url: str, waiting: int) -> tuple[float, ...]:
    async def follow() -> tuple[float, ...]:
        from pulltrace.server.kubernetes.client import HttpApi  # noqa: PLC0415  # so that its memory is in "RSS before"

        cluster = Cluster()

        def take(change: Change) -> None:
            cluster.apply(change, time.time())

        stalls: list[float] = []
        watches = Watches(HttpApi.at(url), None, take)
        gc.collect()
        before, cpu, begun = rss(), time.process_time(), time.monotonic()
        tasks = [asyncio.create_task(watches.run()), asyncio.create_task(_measure_stalls(stalls))]
        while watches.not_ready:
            await asyncio.sleep(0.01)
        took, used = time.monotonic() - begun, time.process_time() - cpu
        assert sum(1 for _ in cluster.waiting()) == waiting
        after = rss()
        gc.collect()
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        return before, after, after - before, took, max(stalls) * 1000, used

    return asyncio.run(follow())


async def _measure_stalls(stalls: list[float]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        before = loop.time()
        await asyncio.sleep(0.002)
        stalls.append(loop.time() - before - 0.002)


def rss() -> float:
    """Return the resident memory of this process, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
