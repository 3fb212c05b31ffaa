"""Run a cluster for experiments, with ``make cluster`` or ``python -m tests.real.local_cluster 8080``. Ctrl-C stops the
cluster.

The cluster's dashboard and API server are forwarded to loopback, and the images of one Deployment are being pulled.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress

from tests.real.images import MIB, make_layer
from tests.real.manifests import deployment
from tests.real.namespace import Namespace
from tests.real.observed import HTTP_PORT, Observed

RATE = 2 * MIB


class Relay:
    """Forward connections from a port on this machine to an address inside a namespace."""

    def __init__(self, inside: Namespace, address: str, port: int) -> None:
        self._inside = inside
        self._target = (address, port)

    async def listen(self, port: int) -> asyncio.Server:
        """Return a server that listens on the given loopback port. Port 0 means any free port."""
        return await asyncio.start_server(self._pass_on, "127.0.0.1", port)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = self._inside.socket()
        try:
            await asyncio.get_running_loop().sock_connect(target, self._target)
            to_reader, to_writer = await asyncio.open_connection(sock=target)
        except OSError:
            target.close()
            writer.close()
            return
        await asyncio.gather(_copy(reader, to_writer), _copy(to_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()
    with suppress(ConnectionError):
        writer.close()
        await writer.wait_closed()


def print_line(line: str) -> None:
    print(line, flush=True)  # noqa: T201 (this is a program)


async def main(port: int) -> None:
    this = asyncio.current_task()
    assert this is not None
    for ends in (signal.SIGTERM, signal.SIGHUP):  # Ctrl-C cancels this task even without a handler
        asyncio.get_running_loop().add_signal_handler(ends, this.cancel)
    print_line("cluster: starting (about ten seconds)")
    async with Observed() as observed:
        cluster = observed.cluster
        page = await Relay(cluster.inside, "127.0.0.1", HTTP_PORT).listen(port)
        api = await Relay(cluster.inside, "127.0.0.1", cluster.api.port).listen(0)
        kubeconfig = cluster.folder / "kubeconfig"
        kubeconfig.write_text(cluster.api.kubeconfig.read_text().replace(cluster.api.url, f"https://{_address(api)}"))
        cluster.registry.limit(RATE)
        ref = cluster.push("demo/example:1", *(make_layer(size * MIB) for size in (12, 8, 20)))
        await cluster.create(deployment("example", ref, 3))
        print_line(f"cluster: http://{_address(page)} is the dashboard; {ref} is being pulled for three pods")
        print_line(f"cluster: KUBECONFIG={kubeconfig} kubectl get pods")
        print_line(f"cluster: the kubelet's log is {cluster.kubelet_log}, containerd's {cluster.containerd.log}")
        print_line("cluster: Ctrl-C ends it and removes everything")
        await asyncio.Event().wait()


def _address(server: asyncio.Server) -> str:
    host, port = server.sockets[0].getsockname()
    return f"{host}:{port}"


if __name__ == "__main__":
    with suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(main(int(sys.argv[1])))
