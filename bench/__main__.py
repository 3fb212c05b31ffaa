"""``make bench``: measure the server under the reference load, and compare it with a naive server. Also find the cost
of each kind of load, and the load at which the server reaches its limits.

``--short`` runs every benchmark once with a small load and writes nothing, to check that the benchmarks work. ``--soak
MINUTES`` keeps the reference load running for that long. All traffic uses loopback. CPU figures are for the server
process only.
"""

import argparse
import asyncio
import os
import platform
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import uvloop

from bench.load import Generator, Load
from bench.measure import Row, measure, observe
from bench.plot import svg
from bench.process import running

HERE = Path(__file__).parent
BEGIN, END = "<!-- server: made by `make bench` -->", "<!-- server: end -->"
TARGET = Load(nodes=5000, pulling=500, readers=100, with_layers=5)
SAME = Load(nodes=1000, pulling=100, readers=100, with_layers=5, images=2)
"""The reference load with a fifth of its nodes, but with all its clients. With a quarter of the nodes, the naive
server loses events.
"""


@dataclass(frozen=True)
class Size:
    """The duration of each measurement, the number of repetitions, and the size of the loads."""

    seconds: float
    repeats: int
    part: float
    """The fraction of each load that is used."""

    def of(self, load: Load) -> Load:
        """Return the load scaled to this size."""
        small = {name: max(round(getattr(load, name) * self.part), 1) for name in ("nodes", "pulling", "readers")}
        return load if self.part == 1 else replace(load, **small)


FULL, SHORT = Size(5, 3, 1), Size(0.5, 1, 0.01)

HEAD = (
    "| load | reports/s | CPU | µs per report | RSS MiB | delay p50 / p99 ms | response p99 ms "
    "| refused | late | MiB/s | scrape ms |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|\n"
)


def line(name: str, row: Row) -> str:
    """Return one row of a table."""
    refused = ", ".join(f"{count} ({status})" for status, count in row.refused.items()) or 0
    return (
        f"| {name} | {row.reports:g} | {row.cpu:g} % | {row.us_per_report} | {row.rss:g} | "
        f"{row.delay_p50:g} / {row.delay_p99:g} | {row.response_p99:g} | {refused} | {row.late} | "
        f"{row.mib_per_second:g} | {row.scrape:g} |\n"
    )


async def target(size: Size) -> str:
    """Measure the reference load."""
    row = await measure("pulltrace", size.of(TARGET), 6 * size.seconds, settle=size.seconds)
    return f"### The reference load\n\n5,000 nodes, 500 of them pulling, 105 readers.\n\n{HEAD}{line('whole', row)}\n"


async def compared(size: Size) -> str:
    """Run both servers alternately under the same load.

    The benchmark requests no metrics from either server, because the naive server has none.
    """
    load = size.of(SAME)
    pairs = [
        (
            await measure("pulltrace", load, size.seconds, scraped=False),
            await measure("naive", load, size.seconds, scraped=False),
        )
        for _ in range(size.repeats)
    ]
    ratios = [naive.us_per_report / max(ours.us_per_report, 1) for ours, naive in pairs]
    rows = "".join(line("Pulltrace", ours) + line("naive", naive) for ours, naive in pairs)
    return (
        f"### Comparison with the naive server\n\n{SAME.nodes:,} nodes, {SAME.pulling} pulling 2 images each, 105 "
        f"readers: CPU per report is **{median(ratios):.1f} times** less "
        f"(from {min(ratios):.1f} to {max(ratios):.1f}).\n\n"
        f"{HEAD}{rows}\n"
    )


async def curves(size: Size) -> str:
    """Measure how CPU use grows with the number of nodes, pulls and clients, one at a time, and write the plot."""
    by = {
        "idle nodes": [Load(nodes=count) for count in (100, 1000, 5000, 10_000)],
        "pulls": [
            Load(nodes=max(count // 3, 1), pulling=max(count // 3, 1), images=3)
            for count in (10, 100, 1000, 2500, 5000)
        ],
        "readers": [Load(nodes=100, pulling=100, readers=count) for count in (1, 10, 100, 300, 1000)],
    }
    text, plots = f"### Cost by kind of load\n\n![CPU by nodes, pulls, readers](server.svg)\n\n{HEAD}", []
    for name, loads in by.items():
        points = []
        for load in loads[: None if size is FULL else 2]:
            row = await measure("pulltrace", size.of(load), size.seconds * 0.8)
            count = {"idle nodes": load.nodes, "pulls": 3 * load.pulling, "readers": load.readers}[name]
            points.append((count, row.cpu))
            text += line(f"{count:,} {name}", row)
        plots.append((name, points))
    picture = svg(plots)
    if size is FULL:
        (HERE / "server.svg").write_text(picture)
    return text + "\n"


async def broken(size: Size) -> str:
    """Increase the number of pulling nodes, and then the number of clients under the reference load, until the delay
    reaches two seconds or a request is refused.
    """
    steps = {
        "pulling nodes": [
            Load(nodes=pulling, pulling=pulling, readers=20, slow=3, filtered=3)
            for pulling in (1000, 2000, 2500, 3000, 3500, 4000)
        ],
        "readers": [replace(TARGET, readers=readers - TARGET.with_layers) for readers in (256, 512, 1024, 2048)],
    }
    text = f"### Where the limits are\n\n{HEAD}"
    for name, loads in steps.items():
        for load in loads:
            row = await measure("pulltrace", size.of(load), size.seconds)
            count = load.pulling if name == "pulling nodes" else load.readers + load.with_layers
            text += line(f"{count:,} {name}", row)
            if max(row.delay_p99, row.response_p99) > 2000 or row.refused or row.broken or size is not FULL:
                break
    return text + "\n"


async def soak(minutes: float) -> None:
    """Keep the reference load running, and print one line per minute."""
    async with running("pulltrace") as server, Generator(server, TARGET) as generator:
        await asyncio.sleep(10)
        print(HEAD, end="")
        for minute in range(round(minutes)):
            print(line(f"minute {minute + 1}", await observe(server, generator, TARGET, 60)), end="", flush=True)


PARTS: dict[str, Callable[[Size], Awaitable[str]]] = {
    part.__name__: part for part in (target, compared, curves, broken)
}


async def run(size: Size, names: list[str]) -> str:
    """Run the parts one after another."""
    text = ""
    for name in names:
        part = await PARTS[name](size)
        print(part, flush=True)
        text += part
    return text


def write(text: str) -> None:
    """Write the tables into README.md between our markers, and leave the rest of the file unchanged."""
    readme = HERE / "README.md"
    old = readme.read_text() if readme.exists() else f"# Benchmarks\n\n{BEGIN}\n{END}\n"
    if BEGIN not in old:
        old += f"\n{BEGIN}\n{END}\n"
    before, _, rest = old.partition(BEGIN)
    after = rest.partition(END)[2]
    about = (
        f"## The server under load\n\n{datetime.now(UTC):%Y-%m-%d}, {platform.python_implementation()} "
        f"{platform.python_version()}, on {os.cpu_count()} cores shared with the load generator and other programs "
        f"(load average {os.getloadavg()[1]:.1f}). CPU is the user and system time of the server's process, as a share "
        "of one core. *Delay* is the time from sending a report to its arrival at a client; *late* counts reports that "
        "were due before the server had responded to the previous one.\n\n"
    )
    readme.write_text(f"{before}{BEGIN}\n{about}{text}{END}{after}")


def main() -> None:
    """Run the requested benchmarks."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--soak", type=float, metavar="MINUTES")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"from {', '.join(PARTS)} (default: all)")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(unknown)}")
    if args.soak:
        uvloop.run(soak(args.soak))
        return
    text = uvloop.run(run(SHORT if args.short else FULL, args.parts or list(PARTS)))
    if not args.short and not args.parts:
        write(text)


if __name__ == "__main__":
    main()
