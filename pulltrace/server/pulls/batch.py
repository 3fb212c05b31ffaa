"""Changes that many clients receive, rendered and compressed once for all of them. Sans-I/O.

Each piece of a batch is compressed separately, up to a full flush: it ends at a byte boundary and refers to no earlier
data. So it can follow any other data that a client has received, and a client can start with any piece after
``GZIP_HEADER``.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pulltrace.server.pulls.feed import Entry

PIECE = 1 << 14
"""The approximate size of a piece in bytes, before compression. Other clients get their turn between two pieces.

For a client that does not read, this process and the kernel each buffer one piece."""

LEVEL = 3
"""The compression level of zlib. Higher levels need twice the time for a tenth less data."""

GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
"""The header of a gzip stream (RFC 1952, 2.3.1), without name, time or operating system."""

Render = Callable[["Entry", bool], bytes]
"""Renders a change as an event of the stream, with or without its layers."""


def deflate(data: bytes) -> bytes:
    """Compress data as a part of a gzip stream that does not depend on any other part."""
    deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush(zlib.Z_FULL_FLUSH)


class Piece(NamedTuple):
    """Some of the changes in a batch, compressed."""

    entries: Sequence["Entry"]
    data: bytes


class Batch:
    """Changes in the order in which clients receive them, and their compressed pieces."""

    __slots__ = ("_is_retired", "_pieces", "entries")

    def __init__(self, entries: Sequence["Entry"]) -> None:
        self.entries = entries
        self._pieces: dict[bool, list[Piece]] = {False: [], True: []}
        self._is_retired = False

    def retire(self) -> None:
        """Drop the compressed pieces. If a client is still receiving the batch, its pieces are made separately."""
        self._pieces = {False: [], True: []}
        self._is_retired = True

    def pieces(self, render: Render, *, layers: bool) -> Iterator[Piece]:
        """Yield the pieces; each is made when the first client requests it."""
        start = number = 0
        while start < len(self.entries):
            made = self._pieces[layers]
            if number < len(made):
                piece = made[number]
            else:
                piece = self._make(start, render, layers=layers)
                if not self._is_retired:
                    made.append(piece)
            start += len(piece.entries)
            number += 1
            yield piece

    def _make(self, start: int, render: Render, *, layers: bool) -> Piece:
        parts: list[bytes] = []
        size, end = 0, start
        while size < PIECE and end < len(self.entries):
            parts.append(render(self.entries[end], layers))
            size += len(parts[-1])
            end += 1
        return Piece(self.entries[start:end], deflate(b"".join(parts)))
