"""``make bench`` measures the server under the reference load, and compares the server with a naive server. The
benchmark also measures the cost of each kind of load, and finds the load at which the server reaches its limits.

``--short`` runs every benchmark once under a small load and writes nothing, to check that the benchmarks work. ``--soak
MINUTES`` runs the reference load for the given time. All traffic uses loopback. CPU figures cover only the server
process.
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
TARGET_IN_WORDS = "The reference load consists of 5,000 nodes, 500 of them pulling, and 105 readers of the stream."
COMPARISON = (
    "With {load.nodes:,} nodes, {load.pulling} of them pulling 2 images each, and 105 readers, the naive server uses "
    "**{median:.1f} times** as much CPU per report\nas Pulltrace (from {least:.1f} to {most:.1f})."
)
CONDITIONS = (
    "These tables were measured on {date:%Y-%m-%d} with {python}, on {cores} cores shared with the load generator and "
    "other programs (load\naverage {load:.1f}). The *CPU* column shows the user and system time of the server's "
    "process, as a share of one core. The *delay* column\nshows the time from sending a report to its arrival at a "
    "client. The *late* column counts reports that were due before the server\nhad responded to the previous report."
)
SAME = Load(nodes=1000, pulling=100, readers=100, with_layers=5, images=2)
"""The reference load with a fifth of the nodes. The naive server starts to lose events at a quarter of the nodes."""


@dataclass(frozen=True)
class Size:
    """The duration and number of the measurements, and the factor by which the loads are scaled."""

    seconds: float
    repeats: int
    part: float
    """The factor by which each full load is scaled."""

    def of(self, load: Load) -> Load:
        """Return the load with the numbers of nodes and clients scaled by ``part``."""
        small = {name: max(round(getattr(load, name) * self.part), 1) for name in ("nodes", "pulling", "readers")}
        return load if self.part == 1 else replace(load, **small)


FULL, SHORT = Size(5, 3, 1), Size(0.5, 1, 0.01)

HEAD = (
    "| load | reports/s | CPU | µs per report | RSS MiB | delay p50 / p99 ms | response p99 ms "
    "| refused | late | MiB/s | scrape ms |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|\n"
)


def line(name: str, row: Row) -> str:
    """Return one table row."""
    refused = ", ".join(f"{count} ({status})" for status, count in row.refused.items()) or 0
    return (
        f"| {name} | {row.reports:g} | {row.cpu:g} % | {row.us_per_report} | {row.rss:g} | "
        f"{row.delay_p50:g} / {row.delay_p99:g} | {row.response_p99:g} | {refused} | {row.late} | "
        f"{row.mib_per_second:g} | {row.scrape:g} |\n"
    )


async def target(size: Size) -> str:
    """Measure the reference load."""
    row = await measure("pulltrace", size.of(TARGET), 6 * size.seconds, settle=size.seconds)
    return f"### The reference load\n\n{TARGET_IN_WORDS}\n\n{HEAD}{line('whole', row)}\n"


async def compared(size: Size) -> str:
    """Run Pulltrace's server and the naive server alternately under the same load.

    The metrics are not scraped, because the naive server has no metrics.
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
        "### Comparison with the naive server\n\n"
        + COMPARISON.format(load=SAME, median=median(ratios), least=min(ratios), most=max(ratios))
        + f"\n\n{HEAD}{rows}\n"
    )


async def curves(size: Size) -> str:
    """Vary the numbers of nodes, pulls and clients one at a time, and plot the CPU use."""
    by = {
        "idle nodes": [Load(nodes=count) for count in (100, 1000, 5000, 10_000)],
        "pulls": [
            Load(nodes=max(count // 3, 1), pulling=max(count // 3, 1), images=3)
            for count in (10, 100, 1000, 2500, 5000)
        ],
        "readers": [Load(nodes=100, pulling=100, readers=count) for count in (1, 10, 100, 300, 1000)],
    }
    image = "![The server's CPU use by number of nodes, pulls and readers](server.svg)"
    text, plots = f"### Cost by kind of load\n\n{image}\n\n{HEAD}", []
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
    """Increase the number of nodes that pull images until a delay exceeds two seconds, a report is refused or a
    connection breaks. Under the reference load, increase the number of clients in the same way.
    """
    steps = {
        "pulling nodes": [
            Load(nodes=pulling, pulling=pulling, readers=20, slow=3, filtered=3)
            for pulling in (1000, 2000, 2500, 3000, 3500, 4000)
        ],
        # If hundreds of clients inflated the stream, they would use more CPU time than the server.
        "readers without gzip": [
            replace(TARGET, readers=readers - TARGET.with_layers, gzip=False) for readers in (256, 512, 1024, 2048)
        ],
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
    """Run the reference load for the given number of minutes, and print one line per minute."""
    async with running("pulltrace") as server, Generator(server, TARGET) as generator:
        await asyncio.sleep(10)
        print(HEAD, end="")
        for minute in range(round(minutes)):
            print(line(f"minute {minute + 1}", await observe(server, generator, TARGET, 60)), end="", flush=True)


PARTS: dict[str, Callable[[Size], Awaitable[str]]] = {
    part.__name__: part for part in (target, compared, curves, broken)
}


async def run(size: Size, names: list[str]) -> str:
    """Run the named parts of the benchmark one after another."""
    text = ""
    for name in names:
        part = await PARTS[name](size)
        print(part, flush=True)
        text += part
    return text


def write(text: str) -> None:
    """Replace the text between the markers in README.md, and leave the rest of the file unchanged."""
    readme = HERE / "README.md"
    old = readme.read_text() if readme.exists() else f"# Benchmarks\n\n{BEGIN}\n{END}\n"
    if BEGIN not in old:
        old += f"\n{BEGIN}\n{END}\n"
    before, _, rest = old.partition(BEGIN)
    after = rest.partition(END)[2]
    about = "## The server under load\n\n" + CONDITIONS.format(
        date=datetime.now(UTC),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        cores=os.cpu_count(),
        load=os.getloadavg()[1],
    )
    readme.write_text(f"{before}{BEGIN}\n{about}\n\n{text}{END}{after}")


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
