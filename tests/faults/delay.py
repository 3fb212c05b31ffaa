"""Delay the packets between two hosts. Each host has a TUN device, and this process queues the packets that travel
between the two hosts.

Test machines may have a kernel without netem, so this process reads each packet from one host's device, waits, and
writes it to the other host's device. Closing the devices also removes their routes.
"""

import asyncio
import fcntl
import os
import struct
from contextlib import suppress

from tests.faults.namespaces import entered

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_LARGEST = 65536


class Delay:
    """Forward IP packets between the devices called ``name`` in two namespaces, delaying each packet by ``seconds``."""

    def __init__(self, namespaces: tuple[str, str], name: str, seconds: float) -> None:
        self._seconds = seconds
        self._ends = [_open(namespace, name) for namespace in namespaces]
        self._loop = asyncio.get_running_loop()
        for end, other in (self._ends, self._ends[::-1]):
            self._loop.add_reader(end, self._later, end, other)

    def _later(self, end: int, other: int) -> None:
        with suppress(BlockingIOError):
            packet = os.read(end, _LARGEST)
            self._loop.call_later(self._seconds, self._arrive, other, packet)

    def _arrive(self, end: int, packet: bytes) -> None:
        if end in self._ends:
            with suppress(OSError):  # the device is down, or its queue is full: packets may be lost
                os.write(end, packet)

    def close(self) -> None:
        """Stop carrying packets. Packets that are still queued are lost."""
        for end in self._ends:
            self._loop.remove_reader(end)
            os.close(end)
        self._ends = []


def _open(namespace: str, name: str) -> int:
    """Open a device with this name in a network namespace."""
    with entered(namespace):
        end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return end
