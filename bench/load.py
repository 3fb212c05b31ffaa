"""A load generator: agents that report on schedule, and clients that read the stream. The agents and clients all run in
one process, and use asyncio protocols directly.
"""

import asyncio
import random
import re
import resource
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import httptools

from bench.nodes import STAMP, SimulatedNode
from bench.process import ServerProcess

HOST = "127.0.0.1"
_STAMPS = re.compile(STAMP + rb"(\d{16})")
_SLOW_PAUSE = 2.0
"""How long, in seconds, a slow client pauses after each read."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """The load that the load generator creates. By default, each pulling node pulls 1 to 3 images concurrently and
    reports every second.
    """

    nodes: int
    pulling: int = 0
    readers: int = 0
    with_layers: int = 0
    filtered: int = 0
    slow: int = 0
    gzip: bool = True
    """True if the clients accept gzip, as browsers do."""
    pull_seconds: float = 40.0
    report_interval: float = 1.0
    heartbeat: float = 10.0
    images: int = 0
    """How many images each pulling node pulls concurrently; 0 means a random number from 1 to 3."""

    @property
    def reports_per_second(self) -> float:
        """Return the number of reports per second, including heartbeats."""
        return self.pulling / self.report_interval + (self.nodes - self.pulling) / self.heartbeat


@dataclass
class Seen:
    """The load generator's measurements since the last reset. Latencies are in seconds."""

    since_us: int = 0
    responses: Counter[int] = field(default_factory=Counter)
    response_times: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    """The time, in seconds, from when each report was sent until it reached a client."""
    late: int = 0
    """The number of reports that became due before the server had responded to the previous report. An agent skips
    these reports, and sends the newest state afterwards.
    """
    broken: int = 0
    received: int = 0

    def clear(self) -> None:
        """Reset all measurements."""
        self.__init__(since_us=time.time_ns() // 1000)  # type: ignore[misc]


class _Agent(asyncio.Protocol):
    def __init__(self, node: SimulatedNode, seen: Seen) -> None:
        self._node, self._seen = node, seen
        self._transport: asyncio.Transport | None = None
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self._seen.broken += self._transport is not None
        self._transport = None

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 "):  # all other data belongs to a response body
            self._seen.responses[int(data[9:12])] += 1
            self._seen.response_times.append(time.monotonic() - self._sent)
            self._sent = 0.0

    def report(self) -> None:
        if self._transport is None:
            return
        if self._sent:
            self._seen.late += 1
            return
        self._sent = time.monotonic()
        self._transport.write(self._node.request())

    def close(self) -> None:
        transport, self._transport = self._transport, None
        if transport:
            transport.abort()


class _Reader(asyncio.BufferedProtocol):
    """A client that reads and discards the stream. If ``watches`` is true, the client extracts the timestamps from the
    data before it discards the data.
    """

    shared = bytearray(1 << 18)  # all clients share one buffer, because the data is used immediately

    def __init__(self, path: str, seen: Seen, *, gzip: bool = True, watches: bool = False, slow: bool = False) -> None:
        self._path, self._seen, self._gzip, self._slow = path, seen, gzip, slow
        self._parser = httptools.HttpResponseParser(self) if watches else None
        self._inflate: Callable[[bytes], bytes] = bytes
        self._rest = b""
        self._received: set[bytes] = set()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        encoding = "Accept-Encoding: gzip\r\n" if self._gzip else ""
        transport.write(f"GET {self._path} HTTP/1.1\r\nHost: bench\r\n{encoding}\r\n".encode())  # type: ignore[attr-defined]

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.shared

    def buffer_updated(self, nbytes: int) -> None:
        self._seen.received += nbytes
        if self._parser:
            self._parser.feed_data(bytes(self.shared[:nbytes]))
        if self._slow and self._transport:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(_SLOW_PAUSE, self._resume)

    def _resume(self) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.resume_reading()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Prepare to decompress the body if it is compressed. The HTTP parser calls this method for each header."""
        if (name.lower(), value) == (b"content-encoding", b"gzip"):
            self._inflate = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS).decompress

    def on_body(self, data: bytes) -> None:
        """Process a chunk of the response body. The HTTP parser calls this method."""
        self._look(self._rest + self._inflate(data))

    def _look(self, data: bytes) -> None:
        now = time.time_ns() // 1000
        for stamp in _STAMPS.findall(data):
            if stamp not in self._received and int(stamp) >= self._seen.since_us:
                self._seen.delays.append((now - int(stamp)) / 1e6)
            self._received.add(stamp)
        self._rest = data[-32:]

    def connection_lost(self, exc: Exception | None) -> None:
        self._seen.broken += self._transport is not None
        self._transport = None

    def close(self) -> None:
        transport, self._transport = self._transport, None
        if transport:
            transport.abort()


class Generator:
    """A load generator. Inside ``async with``, the generator sends the load to a server and collects measurements in
    ``seen``.
    """

    def __init__(self, server: ServerProcess, load: Load, seed: int = 7) -> None:
        self.seen = Seen()
        self._server, self._load = server, load
        rng = random.Random(seed)
        self._nodes = [
            SimulatedNode(
                number, (load.images or rng.randint(1, 3)) if number < load.pulling else 0, rng, load.pull_seconds
            )
            for number in range(load.nodes)
        ]
        self._agents: list[_Agent] = []
        self._readers: list[_Reader] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Generator":
        loop, load = asyncio.get_running_loop(), self._load
        for start in range(0, load.nodes, 200):
            made = [
                loop.create_connection(lambda node=node: _Agent(node, self.seen), HOST, self._server.port)
                for node in self._nodes[start : start + 200]
            ]
            self._agents += [agent for _, agent in await asyncio.gather(*made)]  # type: ignore[misc]
        self._tasks.append(asyncio.create_task(self._report(self._agents[: load.pulling], load.report_interval)))
        self._tasks.append(asyncio.create_task(self._report(self._agents[load.pulling :], load.heartbeat)))
        await asyncio.sleep(min(load.report_interval, 1.0))
        for reader in self._make_readers():
            await loop.create_connection(lambda reader=reader: reader, HOST, self._server.port)
            self._readers.append(reader)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for each in (*self._agents, *self._readers):
            each.close()
        await asyncio.sleep(0)

    def _make_readers(self) -> list[_Reader]:
        load = self._load
        reader = partial(_Reader, seen=self.seen, gzip=load.gzip)
        bare = "/api/v1/events?layers=false"
        readers = [reader(bare, watches=number < 3) for number in range(load.readers)]
        readers += [reader("/api/v1/events", watches=number < 1) for number in range(load.with_layers)]
        readers += [reader(f"{bare}&node=node-{number:05}.bench") for number in range(load.filtered)]
        return readers + [reader(bare, slow=True) for _ in range(load.slow)]

    async def _report(self, agents: list[_Agent], interval: float) -> None:
        """Make each agent report once per interval, and spread the reports evenly over the interval."""
        slots = max(int(interval * 100), 1)
        groups = [agents[number::slots] for number in range(slots)]
        due = time.monotonic()
        while agents:
            for group in groups:
                for agent in group:
                    agent.report()
                due += interval / slots
                await asyncio.sleep(max(due - time.monotonic(), 0))


def own_cpu_seconds() -> float:
    """Return the CPU time that this process, the load generator, has used, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
