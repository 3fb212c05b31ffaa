"""Run an attack on a server that is a separate process: ``python -m tests.faults.attacks NAME PORT``.

Each attack prints a line when it begins, and lasts until the process receives SIGTERM. It then prints a JSON line with
the number of responses by status. ``closed`` is how many connections the server closed without responding.
"""

import asyncio
import base64
import itertools
import json
import os
import resource
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

HOST = "127.0.0.1"
GET = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
MIB = 1 << 20


class Attack:
    """An attack's connections, and the number of responses by status."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.seen: Counter[str] = Counter()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection."""
        return await asyncio.open_connection(HOST, self.port)

    async def endless(self, first: bytes, part: bytes) -> None:
        """Send ``first``, and then ``part`` repeatedly, until the server responds or disconnects. Then start again."""
        while True:
            reader, writer = await self.connect()
            try:
                writer.write(first)
                while True:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
                    if reader.at_eof() or reader._buffer:  # type: ignore[attr-defined]  # the server has responded
                        break
            except OSError:
                pass
            await self.end(reader, writer)

    async def end(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Count the response and close the connection."""
        try:
            line = await asyncio.wait_for(reader.readline(), 15)
            self.seen[line[9:12].decode() or "closed"] += 1
        except (OSError, TimeoutError):
            self.seen["closed"] += 1
        writer.transport.abort()

    async def once(self, data: bytes) -> None:
        """Send the data and wait for the response."""
        reader, writer = await self.connect()
        writer.write(data)
        await self.end(reader, writer)

    async def many(self, count: int, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``count`` copies of ``work`` concurrently."""
        await asyncio.gather(*(work() for _ in range(count)), return_exceptions=True)


async def endless_headers(attack: Attack) -> None:
    """Send headers that never end."""
    await attack.endless(b"GET / HTTP/1.1\r\n", b"a:b\r\n" * 2000)


async def endless_header_value(attack: Attack) -> None:
    """On each of two connections, send a header that never ends."""
    await attack.many(2, lambda: attack.endless(b"GET / HTTP/1.1\r\na:", b"b" * 65_536))


async def endless_target(attack: Attack) -> None:
    """Send a request target that never ends."""
    await attack.endless(b"GET /", b"a" * 65_536)


async def endless_chunk_extension(attack: Attack) -> None:
    """Send a chunk extension that never ends."""
    first = b"POST /api/v1/report HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;"
    await attack.endless(first, b"e" * 65_536)


async def endless_trailers(attack: Attack) -> None:
    """Send trailers that never end."""
    first = b"POST /api/v1/report HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    await attack.endless(first, b"a:b\r\n" * 2000)


async def unfinished_heads(attack: Attack) -> None:
    """Send 2,500 unfinished request heads of 60 KB each."""
    await attack.many(2500, lambda: attack.once(b"GET / HTTP/1.1\r\n" + b"h: " + b"v" * 60_000))


async def small_unfinished_heads(attack: Attack) -> None:
    """Send 2,500 unfinished request heads of 15 KB each, which is below the limit for a single head."""
    await attack.many(2500, lambda: attack.once(b"GET / HTTP/1.1\r\n" + b"h: " + b"v" * 15_000))


async def unfinished_bodies(attack: Attack) -> None:
    """Send 700 one-mebibyte bodies, each without its last byte."""
    head = b"POST /api/v1/report HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n"
    await attack.many(700, lambda: attack.once(head + bytes(MIB - 1)))


async def silent_connections(attack: Attack) -> None:
    """Open 4,000 connections and send nothing."""
    await attack.many(4000, lambda: attack.once(b""))


async def pipelined_streams(attack: Attack) -> None:
    """Open 256 streams, send another request on each connection, close all connections at once, and repeat."""

    async def stream() -> None:
        reader, writer = await attack.connect()
        writer.write(GET % b"/api/v1/events" + GET % b"/healthz")
        line = await reader.readline()
        attack.seen[line[9:12].decode() or "closed"] += 1
        writer.transport.abort()

    while True:
        await attack.many(256, stream)


async def all_streams(attack: Attack) -> None:
    """Open 300 streams from a single address."""

    async def stream() -> None:
        reader, writer = await attack.connect()
        writer.write(GET % b"/api/v1/events?layers=false")
        line = await reader.readline()
        attack.seen[line[9:12].decode() or "closed"] += 1
        while await reader.read(65_536):
            pass
        writer.close()

    await attack.many(300, stream)


async def unread_lists(attack: Attack) -> None:
    """Request the whole history from 150 clients that never read the responses."""
    loop = asyncio.get_running_loop()
    sockets = []
    for _ in range(150):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await loop.sock_connect(sock, (HOST, attack.port))
        await loop.sock_sendall(sock, GET % b"/api/v1/pulls")
        sockets.append(sock)
    await asyncio.sleep(60)


async def ten_histories(attack: Attack) -> None:
    """Request the whole history with ten clients, half of which stop reading."""

    async def read(all_of_it: bool) -> None:
        reader, writer = await attack.connect()
        writer.write(GET % b"/api/v1/pulls")
        line = await reader.readline()
        attack.seen[line[9:12].decode() or "closed"] += 1
        size = 0
        while all_of_it and (data := await reader.read(65_536)):
            size += len(data)
        attack.seen["MiB read"] += size >> 20
        if not all_of_it:
            await asyncio.sleep(60)
        writer.transport.abort()

    await asyncio.gather(*(read(bool(number % 2)) for number in range(10)))


def largest_report(node: int, number: int) -> bytes:
    """Return a report that adds a running pull to a node. The pull has the most layers and the longest strings that the
    server accepts.
    """
    layer = (
        '{"digest":"%s","mediaType":"%s","totalBytes":%d,"downloadedBytes":%d,"totalKnown":true,"state":"downloading"}'
    )
    names = [f"{node:05}-{number:03}-{one:03}-".ljust(200, "d") for one in range(500)]
    layers = ",".join(layer % (name, "m" * 256, MIB + one, one) for one, name in enumerate(names))
    pulls = [f"{other:03}".ljust(512, "p") for other in range(number + 1)]
    pull = '{"id":"%s","status":"downloading","imageRef":"%s","startedAt":"2026-01-01T00:00:00Z","layers":[%s]}'
    text = pull % (pulls[-1], "r/".ljust(512, "i"), layers)
    others = json.dumps(pulls[:-1])
    report = '{"nodeName":"node-%d","bootId":"b","sequence":%d,"pulls":[%s],"others":%s}'
    return (report % (node, number + 1, text, others)).encode()


async def largest_reports(attack: Attack) -> None:
    """Report more and more pulls of the maximum size from 100 nodes, while two clients are reading the list."""

    async def report(first: int) -> None:
        reader, writer = await attack.connect()
        for number in range(100):
            for node in range(first, 100, 4):
                body = largest_report(node, number)
                head = b"POST /api/v1/report HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
                writer.write(head + body)
                attack.seen[(await reader.readuntil(b"\r\n\r\n"))[9:12].decode()] += 1
                await reader.readuntil(b"}")

    async def read() -> None:
        while True:
            reader, writer = await attack.connect()
            writer.write(GET % b"/api/v1/pulls")
            while await asyncio.wait_for(reader.read(MIB), 1):
                pass
            writer.close()

    await asyncio.gather(*(report(first) for first in range(4)), read(), read(), return_exceptions=True)


def forged_token(number: int) -> bytes:
    """Return an unsigned token with the claims of an agent's token."""
    claims = {"sub": "system:serviceaccount:pulltrace:pulltrace-agent", "aud": ["pulltrace"], "exp": 9_999_999_999}
    payload = base64.urlsafe_b64encode(json.dumps(claims | {"jti": str(number)}).encode()).rstrip(b"=")
    return b"e30." + payload + b".e30"


async def forged_tokens(attack: Attack) -> None:
    """Send a new forged token and a body of 64 KiB with every request, on 80 connections."""
    numbers = itertools.count()

    async def forge() -> None:
        while True:
            head = b"POST /api/v1/report HTTP/1.1\r\nHost: x\r\nContent-Length: 65536\r\nAuthorization: Bearer "
            with suppress(OSError):
                await attack.once(head + forged_token(next(numbers)) + b"\r\n\r\n" + bytes(65_536))

    await attack.many(80, forge)


async def scrapes(attack: Attack) -> None:
    """Scrape the metrics repeatedly with 60 concurrent requests."""

    async def scrape() -> None:
        reader, writer = await attack.connect()
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        line = await reader.readline()
        attack.seen[line[9:12].decode() or "closed"] += 1
        await reader.read()
        writer.close()

    while True:
        await attack.many(60, scrape)


ATTACKS = {
    attack.__name__: attack
    for attack in (
        *(endless_headers, endless_header_value, endless_target, endless_chunk_extension, endless_trailers),
        *(unfinished_heads, small_unfinished_heads, unfinished_bodies, silent_connections, pipelined_streams),
        *(all_streams, unread_lists, ten_histories, scrapes, forged_tokens, largest_reports),
    )
}


def stop(attack: Attack) -> None:
    """Exit the process even if the attack is still blocked."""
    sys.stdout.write(json.dumps(attack.seen))
    sys.stdout.flush()
    os._exit(0)


async def main() -> None:
    """Run the attack named on the command line."""
    # Use ordinary priority even if the tests run with real-time priority.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    name, port = sys.argv[1], int(sys.argv[2])
    attack = Attack(port)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop, attack)
    sys.stdout.write("attacking\n")
    sys.stdout.flush()
    await ATTACKS[name](attack)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
