"""Tests with stream clients that never read, that read one kilobyte per second, or that use a buffering proxy."""

import asyncio
import json
import shutil
import socket
import time
from contextlib import AsyncExitStack, ExitStack

import pytest

from tests.faults.lab import Fault
from tests.faults.namespaces import socket_inside
from tests.faults.network import Network, lacking
from tests.patience import PATIENCE
from tests.real.process import Process, free_port

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin")
CONFIG = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error;
events {{}}
http {{
  access_log off; proxy_temp_path {folder}/proxy; client_body_temp_path {folder}/body;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{target}; proxy_http_version 1.1; proxy_buffering on; {more} }}
  }}
}}
"""


def socket_at(address):
    """Return a socket that is bound to the given loopback address."""
    bound = socket.socket()
    bound.bind((address, 0))
    return bound


class Subscription:
    """A client that reads the stream from a socket. ``events`` contains the received events with their
    arrival times.
    """

    def __init__(self, port, sock=None, address="127.0.0.1", query="?layers=false"):
        self._port, self._socket, self._address, self._query = port, sock or socket.socket(), address, query
        self.events = []

    async def __aenter__(self):
        self._socket.setblocking(False)
        await asyncio.get_running_loop().sock_connect(self._socket, (self._address, self._port))
        self._reader, self._writer = await asyncio.open_connection(sock=self._socket, limit=4 << 20)
        self._writer.write(f"GET /api/v1/events{self._query} HTTP/1.1\r\nHost: reader\r\n\r\n".encode())
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._writer.transport.abort()

    async def _read(self):
        async for line in self._reader:
            if line.startswith(b"data: {") and b'"pull"' in line:
                self.events.append((time.monotonic(), json.loads(line[6:])))

    async def received(self, pull, status):
        """Return whether the client has received this status for the pull."""
        return any(
            event["pull"].get("imageRef") == str(pull.reference) and event["pull"]["status"] == status
            for _, event in self.events
        )


async def test_128_clients_that_never_read_do_not_delay_127_other_clients(lab, fault):
    """The server sends each client all layers of eight images, which is far more data than its socket can buffer."""

    async def wide_images(name):
        pulls = [lab.pull(f"{name}-{number}", *[1 / 16] * 100, 30) for number in range(8)]
        await lab.until(lambda: lab.over(*pulls))

    # Pull images with many layers before the fault, so that the memory for them does not count as growth.
    await wide_images("before")
    what = "255 clients, 128 of which never read"
    async with fault(what, "the reading clients are served immediately; the others are disconnected") as seen:
        with ExitStack() as deaf:
            for _ in range(128):
                one = deaf.enter_context(socket.socket())
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                one.bind(("127.0.0.2", 0))  # a single address may use at most half of all streams
                one.connect(("127.0.0.1", lab.port))
                one.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: deaf\r\n\r\n")
            async with AsyncExitStack() as stack:
                addresses = [f"127.0.0.{3 + number // 32}" for number in range(127)]
                readers = [
                    await stack.enter_async_context(Subscription(lab.port, socket_at(address))) for address in addresses
                ]
                await lab.until(lambda: lab.measured("pulltrace_sse_clients_active", 255))
                await wide_images("meanwhile")
                last = await lab.running("last", 8)
                await lab.until(lambda: lab.row(last, "completed"))
                for reader in readers:
                    await lab.until(lambda reader=reader: reader.received(last, "completed"))
                await lab.until(lambda: lab.measured("pulltrace_sse_clients_dropped_total", 128))
        seen.over()
        await lab.until(lambda: lab.measured("pulltrace_sse_clients_active", 0))


@pytest.mark.skipif(bool(lacking()), reason=lacking() or "never")
async def test_a_client_on_a_1_kb_per_second_link_receives_every_finished_pull(make_lab):
    """The kernel buffers only a limited amount of data for the client, so the server skips states that are already out
    of date.
    """
    async with Network() as network:
        lab = await make_lab(network=network, agent={"before": network.inside(network.server)})
        await network.slow("8kbit")
        reader = Subscription(lab.port, socket_inside(network.agent), network.address)
        async with (
            Fault(
                lab, "a client's link carries 1 kB/s", "the client receives fewer states, but the end of every pull"
            ) as seen,
            reader,
        ):
            await lab.until(lambda: lab.measured("pulltrace_sse_clients_active", 1))
            running = [await lab.running(f"app-{number}", 40) for number in range(4)]
            await lab.until(lambda: lab.over(*running))
            await lab.recovered()
            for pull in running:
                await lab.until(lambda pull=pull: reader.received(pull, "completed"), 2 * PATIENCE)
            seen.over()
            await network.mend()


@pytest.mark.skipif(not NGINX, reason="no nginx here; `make parts` installs it")
@pytest.mark.parametrize("obeys", [True, False], ids=["obeys X-Accel-Buffering", "ignores X-Accel-Buffering"])
async def test_events_arrive_through_a_buffering_proxy(lab, fault, tmp_path, obeys):
    port = free_port()
    more = "" if obeys else "proxy_ignore_headers X-Accel-Buffering;"
    (tmp_path / "conf").write_text(CONFIG.format(folder=tmp_path, port=port, target=lab.port, more=more))
    nginx = Process([NGINX, "-p", tmp_path, "-e", tmp_path / "error", "-c", tmp_path / "conf"], tmp_path / "log")
    try:
        await lab.until(lambda: _listens(port))
        how = "but obeys" if obeys else "and ignores"
        async with (
            fault(f"nginx buffers {how} `X-Accel-Buffering: no`", "the stream still arrives") as seen,
            Subscription(port) as reader,
        ):
            pull = await lab.pulled("app", 8)
            await lab.until(lambda: reader.received(pull, "completed"))
            async with lab.api._session.get(f"http://127.0.0.1:{port}/api/v1/pulls") as answer:
                assert [row["status"] for row in (await answer.json())["pulls"]] == ["completed"]
            seen.over()
    finally:
        await nginx.end(15)


async def _listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
