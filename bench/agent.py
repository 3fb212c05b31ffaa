"""What the agent costs a node: memory and CPU, idle and with five pulls.

    python -m bench.agent                          # a minute each, with this Python
    python -m bench.agent --python python3.13 --seconds 60 --set MALLOC_ARENA_MAX=2

The agent is a child process, exactly as in its image; a simulated containerd (real gRPC on a unix socket) and a server
that takes every report are in this one. Figures are read from /proc: memory after the run, CPU over it.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from aiohttp import web

from pulltrace.demo.grpc_server import SimulatedContainerd
from pulltrace.demo.images import make_image, make_layer
from pulltrace.demo.registries import Manner, Registries
from pulltrace.demo.virtual_containerd import CONTAINERD_1, VirtualContainerd

MIB = 1 << 20
WARM_UP = 5.0  # seconds: imports and the first reports are not the running cost
HOST = "registry.test"


def memory(pid: int) -> tuple[float, float]:
    """Resident and own (not shared with other processes) MiB."""
    kib = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, *_ = line.split()
        kib[name.rstrip(":")] = int(value)
    return kib["Rss"] / 1024, (kib["Private_Clean"] + kib["Private_Dirty"]) / 1024


def cpu(pid: int) -> float:
    """Seconds of user and system time so far, to the nanosecond (``/proc/PID/stat`` has ticks of 10 ms)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) * 1e-9


def begin(node: VirtualContainerd, pulls: int) -> None:
    """Pulls of twelve layers that never come to an end."""
    for number in range(pulls):
        layers = [make_layer(f"{number}-{layer}", 4096 * MIB) for layer in range(12)]
        node.pull(node.registries.push(f"{HOST}/app{number}:1", make_image(f"app{number}", *layers)))


async def measure(pulls: int, seconds: float, command: list[str], variables: dict[str, str]) -> None:
    """One run, one line. Ends the program when the agent did not tell those pulls."""
    node = VirtualContainerd(
        Registries(manners={HOST: Manner(speed=20 * MIB, latency=0.05)}), now=time.time(), version=CONTAINERD_1
    )
    reports, live_pulls = 0, 0

    async def report(request: web.Request) -> web.Response:
        nonlocal reports, live_pulls
        live_pulls = len(json.loads(await request.read()).get("pulls") or ())
        reports += 1
        return web.json_response({"bootId": "bench"})

    app = web.Application()
    app.router.add_post("/api/v1/report", report)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    with tempfile.TemporaryDirectory(prefix="pulltrace-") as folder:
        async with SimulatedContainerd(node, Path(folder) / "containerd.sock") as containerd:
            kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
            agent = await asyncio.create_subprocess_exec(
                *command,
                env=kept
                | variables
                | {
                    "PULLTRACE_NODE_NAME": "bench",
                    "PULLTRACE_SERVER_URL": f"http://127.0.0.1:{port}",
                    "PULLTRACE_CONTAINERD_SOCKET": str(containerd.socket),
                },
                stdout=asyncio.subprocess.DEVNULL,
            )
            live = asyncio.create_task(_live(node))
            try:
                await asyncio.sleep(WARM_UP / 2)
                begin(node, pulls)  # pulls older than containerd's socket did not survive its start
                await asyncio.sleep(WARM_UP / 2)
                began, before, told = time.monotonic(), cpu(agent.pid), reports
                await asyncio.sleep(seconds)
                spent = (cpu(agent.pid) - before) / (time.monotonic() - began)
                rss, own = memory(agent.pid)
                figures = f"{rss:5.1f} MiB resident, {own:5.1f} own, {spent * 1000:5.2f} ms of CPU per second"
                print(f"{pulls} pulls: {figures}, {reports - told} reports", flush=True)
                if live_pulls != pulls:
                    raise SystemExit(f"the last report has {live_pulls} pulls")
            finally:
                live.cancel()
                agent.terminate()
                await agent.wait()
    await runner.cleanup()


async def _live(node: VirtualContainerd) -> None:
    while True:
        await asyncio.sleep(0.25)
        node.advance(time.time() - node.now, step=0.25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--python", default=sys.executable, help="the interpreter (with the agent's libraries)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a variable for the agent")
    parser.add_argument("--flag", action="append", default=[], help="a flag for the interpreter, like --flag=-O")
    parser.add_argument("--pulls", type=int, nargs="+", default=[0, 5])
    args = parser.parse_args()
    command = [args.python, *args.flag, "-m", "pulltrace", "agent"]
    for pulls in args.pulls:
        asyncio.run(measure(pulls, args.seconds, command, dict(item.split("=", 1) for item in args.set)))


if __name__ == "__main__":
    main()
