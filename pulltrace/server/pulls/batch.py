"""Changes that are rendered and compressed once for all the clients that receive them. Sans-I/O.

Each chunk of a batch is compressed separately and ends with a full flush. A chunk therefore ends at a byte boundary and
does not refer to earlier data, so a client can receive it after any other chunk of the stream. ``GZIP_HEADER`` precedes
the first chunk.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pulltrace.server.pulls.feed import Entry

PIECE = 1 << 14
"""The approximate size of a chunk in bytes, before compression. The server can serve other clients between two chunks.

If a client stops reading its response, this process and the kernel each buffer one chunk for it.
"""

LEVEL = 3
"""The zlib compression level. Higher levels take twice as long, but the output is only 10% smaller."""

GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
"""A gzip header (RFC 1952, 2.3.1) without a file name, time or operating system."""

Render = Callable[["Entry", bool], bytes]
"""A function that renders a change as a stream event, with or without its layers."""


def deflate(data: bytes) -> bytes:
    """Compress data as one part of a gzip stream, independent of all other parts."""
    deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush(zlib.Z_FULL_FLUSH)


class Piece(NamedTuple):
    """A compressed chunk of a batch, with the changes that it contains."""

    entries: Sequence["Entry"]
    data: bytes


class Batch:
    """The changes, in the order in which clients receive them. The changes are also kept as compressed chunks."""

    __slots__ = ("_is_retired", "_pieces", "entries")

    def __init__(self, entries: Sequence["Entry"]) -> None:
        self.entries = entries
        self._pieces: dict[bool, list[Piece]] = {False: [], True: []}
        self._is_retired = False

    def retire(self) -> None:
        """Drop the compressed chunks. Clients that are still receiving these chunks get separate copies."""
        self._pieces = {False: [], True: []}
        self._is_retired = True

    def pieces(self, render: Render, *, layers: bool) -> Iterator[Piece]:
        """Yield the chunks. Each chunk is created when the first client requests it."""
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
