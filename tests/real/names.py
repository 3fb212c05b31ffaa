"""A DNS server for one cluster. The server resolves the cluster's services and the hosts that a test adds."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address
from typing import Any, Self

_SERVICE = re.compile(r"([^.]+)\.([^.]+)\.svc\.cluster\.local")
_A, _NO_ERROR, _NO_SUCH_NAME = b"\0\1", 0x8580, 0x8583


class Names(asyncio.DatagramProtocol):
    """A DNS server as an async context manager. Queries for names in ``silent`` get no response; queries for other
    unknown names get NXDOMAIN.
    """

    def __init__(self, listener: socket.socket, service: Callable[[str, str], Awaitable[str | None]]) -> None:
        """``service`` is a function that returns a service's address, given the service's namespace and name."""
        self.hosts: dict[str, str] = {}
        self.silent: set[str] = set()
        self._listener = listener
        self._service = service
        self._answering: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=self._listener)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._transport.close()
        for task in list(self._answering):
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    def datagram_received(self, data: bytes, address: Any) -> None:
        task = asyncio.create_task(self._answer(data, address))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, query: bytes, address: Any) -> None:
        end = query.index(b"\0", 12)
        name, kind, question = _name(query[12:end]), query[end + 1 : end + 3], query[12 : end + 5]
        if name in self.silent:
            return
        found = await self._find(name)
        flags = _NO_ERROR if found else _NO_SUCH_NAME
        record = b""
        if found is not None and kind == _A:
            record = b"\xc0\x0c" + kind + b"\0\1" + (1).to_bytes(4) + b"\0\4" + IPv4Address(found).packed
        counts = b"\0\1" + bool(record).to_bytes(2) + b"\0\0\0\0"
        self._transport.sendto(query[:2] + flags.to_bytes(2) + counts + question + record, address)

    async def _find(self, name: str) -> str | None:
        if service := _SERVICE.fullmatch(name):
            return await self._service(service[2], service[1])
        return self.hosts.get(name)


def _name(labels: bytes) -> str:
    found = []
    while labels:
        length = labels[0]
        found.append(labels[1 : 1 + length].decode("ascii", "replace").lower())
        labels = labels[1 + length :]
    return ".".join(found)
