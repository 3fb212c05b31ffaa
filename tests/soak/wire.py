"""A TCP forwarder between two programs. It can cut, slow down, refuse or reset connections, or hold back responses.

The forwarder needs no privileges and acts immediately, so a soak test can break connections hundreds of times.
``tests/faults/network.py`` causes faults in a real network.
"""

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Self

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with a timeout of 0, so that close() sends RST


class Wire:
    """Listen on ``port``, and forward each connection to another loopback port."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._pace: float | None = None
        self._there, self._back = asyncio.Event(), asyncio.Event()
        self._open = True
        self._resets = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.mend()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def mend(self) -> None:
        """Resume all forwarding, including the data held back so far."""
        self._open, self._resets, self._pace = True, False, None
        self._there.set()
        self._back.set()

    def cut(self) -> None:
        """Stop forwarding, but close nothing, as if the cable were unplugged."""
        self._there.clear()
        self._back.clear()

    def one_way(self) -> None:
        """Forward data to the target, but hold back the responses."""
        self._back.clear()

    def slow(self, bytes_per_second: float) -> None:
        """Limit the rate of each connection in both directions."""
        self._pace = bytes_per_second

    def refuse(self) -> None:
        """Close existing and new connections."""
        self._open = False
        self._close(reset=False)

    def reset(self) -> None:
        """Reset every connection as soon as it carries data."""
        self._resets = True
        self._close(reset=True)

    def _close(self, *, reset: bool) -> None:
        for writer in list(self._writers):
            if reset and (sock := writer.get_extra_info("socket")):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        pair = {writer}
        self._writers.add(writer)
        try:
            if not self._open:
                return
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._target)
            pair.add(back_writer)
            self._writers.add(back_writer)
            pumps = [
                asyncio.create_task(self._pump(reader, back_writer, self._there)),
                asyncio.create_task(self._pump(back_reader, writer, self._back)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            pass
        finally:
            for one in pair:
                self._writers.discard(one)
                one.transport.abort()
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event) -> None:
        with suppress(OSError):
            while data := await reader.read(512 if self._pace else 65536):
                if self._resets:
                    self._close(reset=True)
                    return
                await flows.wait()
                if self._pace:
                    await asyncio.sleep(len(data) / self._pace)
                writer.write(data)
                await writer.drain()
