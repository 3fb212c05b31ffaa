"""One client's event stream from ``/api/v1/events``: a hello event, then the current state or the missed changes, and
then a frame at each tick.
"""

from collections.abc import Iterator, Sequence

import msgspec

from pulltrace import __version__
from pulltrace.server.api.query import Query
from pulltrace.server.models import Hello, Reset
from pulltrace.server.pulls.batch import GZIP_HEADER, PIECE, Batch, deflate
from pulltrace.server.pulls.feed import Entry, Frame, encoder, removal
from pulltrace.server.pulls.hub import Hub
from pulltrace.wire import to_time

BEFORE_EVERYTHING = -1
"""A cursor that is older than every change. A client with this cursor gets a reset event and the full state."""
GOOD_BYE = b": the server stops\nretry: 1000\n\n"


class Subscription:
    """One client's position in the feed."""

    def __init__(self, hub: Hub, query: Query, last_event_id: str | None, *, gzip: bool = False) -> None:
        self._hub = hub
        self._query = query
        self._boot_id = hub.boot_id.encode()
        self._resume = last_event_id
        self._gzip = gzip
        self._has: set[str] = set()
        """For a client with a filter: the ids of the pulls that the client currently has. The client must be notified
        when one of these pulls no longer matches the filter.
        """
        self._quiet_since = hub.now()
        self._shared = not query.is_filtered and (gzip or not query.layers_of)

    def follow(self) -> Iterator[bytes]:
        """Yield the stream in pieces. An empty piece means that the client is up to date.

        The stream ends when the server stops.
        """
        hub, feed = self._hub, self._hub.feed
        cursor, first = self._begin()
        hello = Hello(
            version=__version__,
            boot_id=hub.boot_id,
            time=to_time(hub.now()),
            revision=feed.revision,
            pulls=len(first.entries) if self._resume is None and not self._query.is_filtered else None,
        )
        yield (GZIP_HEADER if self._gzip else b"") + self._encode(
            b": connected\n\nevent: hello\ndata: " + encoder.encode(hello) + b"\n\n"
        )
        yield from self._pieces(first)
        del first
        while not hub.closing:
            if cursor >= feed.frame.revision:
                yield self._encode(b": keep-alive\nid: " + self._id(cursor) + b"\n\n") if self._is_quiet() else b""
            elif self._shared and cursor == feed.frame.after:
                cursor = feed.frame.revision
                yield self._whole(feed.frame)
            else:
                missed = feed.since(cursor)
                cursor = feed.revision
                if missed is None:
                    self._has.clear()
                    state = feed.everything()
                    yield self._encode(self._reset(len(state.entries)))
                    yield from self._pieces(state)
                else:
                    yield from self._pieces(Batch(missed))
        yield self._encode(GOOD_BYE)

    def _reset(self, pulls: int) -> bytes:
        data = encoder.encode(Reset(pulls=None if self._query.is_filtered else pulls))
        return b"event: reset\ndata: " + data + b"\n\n"

    def _begin(self) -> tuple[int, Batch]:
        """Return the cursor and the first entries. A new client gets every pull. A client that resumes the stream gets
        only the pulls in ``layers_of``.
        """
        feed = self._hub.feed
        if self._resume is None:
            return feed.revision, feed.everything()
        cursor = self._cursor()
        if cursor is None:
            return BEFORE_EVERYTHING, Batch([])
        self._has = {pull.id for pull in feed.pulls()}
        return cursor, Batch([entry for id_ in sorted(self._query.layers_of) if (entry := feed.get(id_))])

    def _is_quiet(self) -> bool:
        """Return whether it is time for a keep-alive comment.

        The comment contains an id, which advances the client's cursor. Without such comments, the cursor could become
        hours old if no change matches the client's filter.
        """
        now = self._hub.now()
        if now - self._quiet_since < self._hub.limits.keep_alive * 2 / 3:
            return False
        self._quiet_since = now
        return True

    def _cursor(self) -> int | None:
        """Return the last revision that the client received. Return None if the client's last event id is missing,
        invalid, too old, or from before a server restart.
        """
        boot, _, revision = (self._resume or "").rpartition("-")
        if boot != self._hub.boot_id or not revision.isascii() or not revision.isdigit() or len(revision) > 18:
            return None
        return int(revision) if self._hub.feed.since(int(revision)) is not None else None

    def _encode(self, data: bytes) -> bytes:
        """Encode data for this client only, using the client's content encoding."""
        return deflate(data) if self._gzip else data

    def _whole(self, frame: Frame) -> bytes:
        """Return a whole frame as a single chunk."""
        self._quiet_since = self._hub.now()
        if self._query.layers_of:
            return b"".join(self._pieces(frame))
        return frame.whole(self._render, layers=self._query.all_layers, gzip=self._gzip)

    def _pieces(self, batch: Batch) -> Iterator[bytes]:
        """Yield the changes in pieces, in the form sent to this client. Clients share a piece unless their
        ``layers_of`` contains one of the piece's pulls.
        """
        if not (self._gzip and self._shared):
            yield from map(self._encode, self._own_pieces(batch.entries))
            return
        for piece in batch.pieces(self._render, layers=self._query.all_layers):
            self._quiet_since = self._hub.now()
            if any(entry.id in self._query.layers_of for entry in piece.entries):
                yield deflate(b"".join(map(self._own, piece.entries)))
            else:
                yield piece.data

    def _own_pieces(self, entries: Sequence[Entry]) -> Iterator[bytes]:
        parts, size = [], 0
        for number, entry in enumerate(entries, 1):
            parts.append(self._own(entry))
            size += len(parts[-1])
            if size >= PIECE or (size and number == len(entries)):
                self._quiet_since = self._hub.now()
                yield b"".join(parts)
                parts, size = [], 0

    def _own(self, entry: Entry) -> bytes:
        """Return one change in the form sent to this client. Return an empty bytes object if the pull does not match
        the filter and the client does not have it.
        """
        query = self._query
        if not query.is_filtered:
            return self._render(entry, query.layers(entry.id))
        if entry.pull and query.fits(entry.pull):
            self._has.add(entry.id)
            return self._render(entry, query.layers(entry.id))
        if entry.id not in self._has:
            return b""
        self._has.discard(entry.id)
        data = msgspec.json.encode(removal(entry.id, entry.node, entry.at))
        return b"id: " + self._id(entry.revision) + b"\ndata: " + data + b"\n\n"

    def _render(self, entry: Entry, layers: bool) -> bytes:
        return b"id: %b-%d\ndata: %b\n\n" % (self._boot_id, entry.revision, entry.data(layers=layers))

    def _id(self, revision: int) -> bytes:
        return b"%b-%d" % (self._boot_id, revision)
