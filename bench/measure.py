"""Run a load against a server, and return the measurements as one row."""

import asyncio
import time
import urllib.request
from dataclasses import asdict, dataclass

from bench.load import Generator, Load, own_cpu_seconds
from bench.process import PATIENCE, ServerProcess, running


@dataclass(frozen=True)
class Row:
    """The server's resource use under a given load, and the delays that agents and clients experience. Delays are in
    milliseconds, and memory is in MiB.
    """

    kind: str
    load: dict[str, float]
    seconds: float
    reports: float
    """Accepted reports per second."""
    cpu: float
    """The server process's CPU use, as a percentage of one core."""
    us_per_report: float
    rss: float
    delay_p50: float
    delay_p99: float
    response_p99: float
    refused: dict[int, int]
    """The number of reports that were not accepted, keyed by response status."""
    late: int
    broken: int
    mib_per_second: float
    """The rate at which all clients combined received data."""
    load_cpu: float
    scrape: float
    """The duration of the slowest scrape of /metrics, or 0 if there were no scrapes."""


async def measure(kind: str, load: Load, seconds: float, settle: float | None = None, *, scraped: bool = True) -> Row:
    """Start a server and the load, wait ``settle`` seconds, and measure for ``seconds``."""
    async with running(kind) as server, Generator(server, load) as generator:
        await asyncio.sleep(min(seconds, 3.0) if settle is None else settle)
        return await observe(server, generator, load, seconds, scraped=scraped)


async def observe(
    server: ServerProcess, generator: Generator, load: Load, seconds: float, *, scraped: bool = True
) -> Row:
    """Measure the server under the load for ``seconds``. If ``scraped`` is true, scrape /metrics every five seconds."""
    seen = generator.seen
    seen.clear()
    began, cpu, own = time.monotonic(), server.cpu_seconds(), own_cpu_seconds()
    scrape = 0.0
    while time.monotonic() - began < seconds:
        if scraped:
            scrape = max(scrape, await asyncio.to_thread(_scrape, server.metrics_port))
        await asyncio.sleep(min(5.0, max(seconds - (time.monotonic() - began), 0)))
    took = time.monotonic() - began
    cpu, own = server.cpu_seconds() - cpu, own_cpu_seconds() - own
    taken = seen.responses[200]
    return Row(
        kind=server.kind,
        load=asdict(load),
        seconds=round(took, 1),
        reports=round(taken / took, 1),
        cpu=round(100 * cpu / took, 1),
        us_per_report=round(1e6 * cpu / max(taken, 1)),
        rss=round(server.rss(), 1),
        delay_p50=_percentile(seen.delays, 50),
        delay_p99=_percentile(seen.delays, 99),
        response_p99=_percentile(seen.response_times, 99),
        refused={status: count for status, count in sorted(seen.responses.items()) if status != 200},
        late=seen.late,
        broken=seen.broken,
        mib_per_second=round(seen.received / took / 2**20, 2),
        load_cpu=round(100 * own / took, 1),
        scrape=round(1000 * scrape, 1),
    )


def _scrape(port: int) -> float:
    began = time.monotonic()
    urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE).read()
    return time.monotonic() - began


def _percentile(values: list[float], percent: int) -> float:
    """Return a percentile of values in seconds, converted to milliseconds. Return 0 for an empty list."""
    ordered = sorted(values)
    return round(1000 * ordered[min(len(ordered) * percent // 100, len(ordered) - 1)], 1) if ordered else 0.0
