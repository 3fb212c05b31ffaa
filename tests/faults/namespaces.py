"""Enter a network namespace, so that a socket or a device created there belongs to it."""

import ctypes
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


@contextmanager
def entered(namespace: str) -> Iterator[None]:
    """Move this thread into the namespace for the duration of the ``with`` block. The block must not await anything."""
    with Path("/proc/self/ns/net").open() as here, Path("/run/netns", namespace).open() as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(here.fileno())


def socket_inside(namespace: str, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Return a new socket that belongs to a namespace."""
    with entered(namespace):
        return socket.socket(family, kind)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
