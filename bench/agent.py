"""Measure the agent's memory and CPU use, idle and with five pulls, and compare it with a minimal poller and an older
version.

Each poller is a separate process, as in the agent's image. All pollers watch the same containerd at the same time, so
the conditions are the same for all. By default, containerd is simulated (gRPC on a Unix socket, in this process). With
``--real``, a real containerd pulls from a slow registry. A server in this process accepts all reports. Memory use is
read from /proc after the run, and CPU time during the run. CPU times from different runs cannot be compared with each
other, but the ratios within a run can.

Usage:

    python -m bench.agent                          # 30 s with each load, on the current interpreter
    python -m bench.agent --before ../pulltrace-1  # also the agent of another source tree, and the ratios
    python -m bench.agent --real --python python3.13 --seconds 60 --set MALLOC_ARENA_MAX=2
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from pulltrace.demo.grpc_server import SimulatedContainerd
from pulltrace.demo.images import make_image, make_layer
from pulltrace.demo.registries import Manner, Registries
from pulltrace.demo.virtual_containerd import CONTAINERD_1, VirtualContainerd

MIB = 1 << 20
LAYERS = 12
WARM_UP = 12.0  # seconds of warm-up, for imports, the first reports and reading manifests
HOST = "registry.test"
FLOOR, BEFORE, NOW = "bare poller", "agent before", "agent"


@dataclass
class Poller:
    """A poller, with its command, its process, and its measurements."""

    name: str
    command: list[str]
    tree: str
    variables: dict[str, str] = field(default_factory=dict)
    reports: int = 0
    live_pulls: int = 0
    pid: int = 0
    spent: float = 0.0


def memory(pid: int) -> tuple[float, float]:
    """Return a process's resident memory, and the part that is not shared with other processes, in MiB."""
    kib = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, *_ = line.split()
        kib[name.rstrip(":")] = int(value)
    return kib["Rss"] / 1024, (kib["Private_Clean"] + kib["Private_Dirty"]) / 1024


def cpu(pid: int) -> float:
    """Return the CPU seconds that a process has used, to the nanosecond (``/proc/PID/stat`` counts in 10 ms ticks)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) * 1e-9


@asynccontextmanager
async def serving(pollers: Sequence[Poller]) -> AsyncIterator[str]:
    """Accept each poller's reports on a separate path, and yield the base URL."""

    async def report(request: web.Request) -> web.Response:
        poller = pollers[int(request.match_info["number"])]
        poller.live_pulls = len(json.loads(await request.read()).get("pulls") or ())
        poller.reports += 1
        return web.json_response({"bootId": "bench"})

    app = web.Application()
    app.router.add_post("/{number}/api/v1/report", report)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@asynccontextmanager
async def running(poller: Poller, url: str, socket: Path) -> AsyncIterator[None]:
    """Run a poller in a child process, and stop it on exit."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    own = {"NODE_NAME": "bench", "SERVER_URL": url, "CONTAINERD_SOCKET": str(socket)}
    process = await asyncio.create_subprocess_exec(
        *poller.command,
        env=kept | poller.variables | {f"PULLTRACE_{name}": value for name, value in own.items()},
        stdout=asyncio.subprocess.DEVNULL,
        cwd=poller.tree,
    )
    poller.pid = process.pid
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def simulated(pulls: int) -> AsyncIterator[tuple[Path, list[asyncio.Task[None]]]]:
    """Run a simulated containerd with endless twelve-layer pulls."""
    node = VirtualContainerd(
        Registries(manners={HOST: Manner(speed=20 * MIB, latency=0.05)}), now=time.time(), version=CONTAINERD_1
    )

    async def live() -> None:
        for number in range(pulls):
            layers = [make_layer(f"{number}-{layer}", 4096 * MIB) for layer in range(LAYERS)]
            node.pull(node.registries.push(f"{HOST}/app{number}:1", make_image(f"app{number}", *layers)))
        while True:
            await asyncio.sleep(0.25)
            node.advance(time.time() - node.now, step=0.25)

    with tempfile.TemporaryDirectory(prefix="pulltrace-") as folder:
        async with SimulatedContainerd(node, Path(folder) / "containerd.sock") as containerd:
            yield containerd.socket, [asyncio.create_task(live())]


@asynccontextmanager
async def real(pulls: int, line: str) -> AsyncIterator[tuple[Path, list[asyncio.Task[None]]]]:
    """Run a real containerd with twelve-layer pulls that are too slow to finish during the run."""
    from tests.real import images  # noqa: PLC0415  # needed only with --real
    from tests.real.containerd import Containerd  # noqa: PLC0415
    from tests.real.registry import Registry  # noqa: PLC0415
    from tests.real.versions import containerds  # noqa: PLC0415

    program = containerds()[line]
    if program is None:
        raise SystemExit(f"there is no containerd {line} here: run make parts")
    async with Registry() as registry, Containerd(program) as node:
        node.trust(registry.host, registry.url)
        made = [images.make_image(*(images.make_layer(4 * MIB) for _ in range(LAYERS))) for _ in range(pulls)]
        references = [registry.push(f"bench/app{number}:1", image) for number, image in enumerate(made)]
        registry.limit(pulls * MIB / 8)

        async def pull(reference: str) -> None:
            await node.cri.pull(reference, deadline=3600)

        yield node.socket, [asyncio.create_task(pull(reference)) for reference in references]


async def measure(pulls: int, seconds: float, pollers: list[Poller], line: str | None) -> None:
    """Run all pollers at the same time, and print one line of measurements for each. Exit with an error if any pull is
    missing from the last report.
    """
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(pollers))
        socket, work = await stack.enter_async_context(real(pulls, line) if line else simulated(pulls))
        for number, poller in enumerate(pollers):
            await stack.enter_async_context(running(poller, f"{url}/{number}", socket))
        try:
            await asyncio.sleep(WARM_UP)
            began = time.monotonic()
            before = [(cpu(poller.pid), poller.reports) for poller in pollers]
            await asyncio.sleep(seconds)
            elapsed = time.monotonic() - began
            floor = 0.0
            for poller, (spent, reports) in zip(pollers, before, strict=True):
                poller.spent = (cpu(poller.pid) - spent) / elapsed
                floor = floor or poller.spent
                rss, own = memory(poller.pid)
                figures = f"{rss:5.1f} MiB resident, {own:5.1f} own, {poller.spent * 1000:5.2f} ms of CPU per second"
                print(
                    f"{pulls} pulls, {poller.name:12}: {figures}, {poller.spent / floor:4.2f} of the bare poller, "
                    f"{poller.reports - reports} reports",
                    flush=True,
                )
                if poller.name != FLOOR and poller.live_pulls != pulls:
                    raise SystemExit(f"{poller.name}: the last report has {poller.live_pulls} pulls")
        finally:
            for task in work:
                task.cancel()
            await asyncio.wait(work) if work else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--python", default=sys.executable, help="the interpreter (with the agent's libraries)")
    parser.add_argument("--before", help="the source tree of another version, for a comparison")
    parser.add_argument(
        "--real", nargs="?", const="2.4", metavar="LINE", help="use a real containerd (debian, 1.7 or 2.4)"
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a variable for the agents")
    parser.add_argument("--flag", action="append", default=[], help="a flag for the interpreter, for example --flag=-O")
    parser.add_argument("--pulls", type=int, nargs="+", default=[0, 5])
    args = parser.parse_args()
    variables = dict(item.split("=", 1) for item in args.set)
    here = str(Path(__file__).parents[1])
    python = [args.python, *args.flag, "-m"]
    for pulls in args.pulls:
        pollers = [Poller(FLOOR, [*python, "bench.floor"], here, variables)]
        if args.before:
            pollers.append(Poller(BEFORE, [*python, "pulltrace", "agent"], args.before, variables))
        pollers.append(Poller(NOW, [*python, "pulltrace", "agent"], here, variables))
        asyncio.run(measure(pulls, args.seconds, pollers, args.real))


if __name__ == "__main__":
    main()
