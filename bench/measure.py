"""Put one load on one server for ``seconds``, and return one row of figures."""

import asyncio
import time
import urllib.request
from dataclasses import asdict, dataclass

from bench.load import Generator, Load, own_cpu_seconds
from bench.process import ServerProcess, running


@dataclass(frozen=True)
class Row:
    """The cost of one load, and the delays that its clients saw. Times are in milliseconds, memory is in MiB."""

    kind: str
    load: dict[str, float]
    seconds: float
    reports: float
    """Accepted reports per second."""
    cpu: float
    """Percentage of one core used by the server process."""
    us_per_report: float
    rss: float
    delay_p50: float
    delay_p99: float
    response_p99: float
    refused: dict[int, int]
    """Reports that were not accepted, by response status."""
    late: int
    broken: int
    mib_per_second: float
    """The data that all clients together receive per second."""
    load_cpu: float
    scrape: float
    """The longest scrape of /metrics; 0 if there was none."""


async def measure(kind: str, load: Load, seconds: float, settle: float | None = None, *, scraped: bool = True) -> Row:
    """Start a server, put the load on it, let it settle, then measure."""
    async with running(kind) as server, Generator(server, load) as generator:
        await asyncio.sleep(min(seconds, 3.0) if settle is None else settle)
        return await observe(server, generator, load, seconds, scraped=scraped)


async def observe(
    server: ServerProcess, generator: Generator, load: Load, seconds: float, *, scraped: bool = True
) -> Row:
    """Measure the server under a running load. If ``scraped`` is true, also request /metrics every five seconds."""
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
    urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30).read()
    return time.monotonic() - began


def _percentile(values: list[float], percent: int) -> float:
    """Return the percentile in milliseconds; 0 for an empty list."""
    ordered = sorted(values)
    return round(1000 * ordered[min(len(ordered) * percent // 100, len(ordered) - 1)], 1) if ordered else 0.0
