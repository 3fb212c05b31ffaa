"""The event stream of one client of ``/api/v1/events``: hello, the current state or the missed changes, then a frame at
each tick.
"""

from collections.abc import Iterable, Iterator

import msgspec

from pulltrace import __version__
from pulltrace.server.api.query import Query
from pulltrace.server.pulls.feed import Entry, encoder, removal
from pulltrace.server.pulls.hub import Hub
from pulltrace.wire import Hello, to_time

CHUNK = 1 << 14
"""Approximate size of the pieces sent to a client that is behind. Other clients get their turn between two pieces.

For a client that does not read, the server buffers one piece twice."""
RESET = b"event: reset\ndata: {}\n\n"
BEFORE_EVERYTHING = -1
"""A cursor from which no feed can resume."""
GOOD_BYE = b": the server stops\nretry: 1000\n\n"


class Subscription:
    """One client's position in the feed."""

    def __init__(self, hub: Hub, query: Query, last_event_id: str | None) -> None:
        self._hub = hub
        self._query = query
        self._resume = last_event_id
        self._has: set[str] = set()
        """Pulls that the filtered client currently shows: it must be notified when they no longer match."""
        self._quiet_since = hub.now()
        self._shared = not query.is_filtered and not query.layers_of

    def follow(self) -> Iterator[bytes]:
        """Return the stream in pieces; an empty piece means that the client is up to date.

        The stream ends when the server stops.
        """
        hub, feed = self._hub, self._hub.feed
        hello = Hello(version=__version__, boot_id=hub.boot_id, time=to_time(hub.now()), revision=feed.revision)
        yield b": connected\n\nevent: hello\ndata: " + encoder.encode(hello) + b"\n\n"
        cursor, first = self._begin()
        yield from self._chunks(first)
        while not hub.closing:
            if self._is_quiet():
                yield b": keep-alive\nid: " + self._id(cursor) + b"\n\n"
            elif cursor >= feed.frame.revision:
                yield b""
            elif self._shared and cursor == feed.frame.after:
                frame = feed.frame
                cursor = frame.revision
                self._quiet_since = self._hub.now()
                yield frame.bytes(self._render, layers=self._query.all_layers)
            else:
                missed = feed.since(cursor)
                cursor = feed.revision
                if missed is None:
                    missed = feed.current()
                    self._has.clear()
                    yield RESET
                yield from self._chunks(missed)
        yield GOOD_BYE

    def _begin(self) -> tuple[int, list[Entry]]:
        """Return the cursor and the first entries: everything for a new client, only the opened layers for one that
        resumes.
        """
        feed = self._hub.feed
        if self._resume is None:
            return feed.revision, feed.current()
        cursor = self._cursor()
        if cursor is None:
            return BEFORE_EVERYTHING, []
        self._has = {pull.id for pull in feed.pulls()}
        return cursor, [entry for id_ in sorted(self._query.layers_of) if (entry := feed.get(id_))]

    def _is_quiet(self) -> bool:
        """Return whether nothing has been sent for so long that a comment is due.

        The comment carries an id, which advances the client's cursor: its filter may have matched nothing for hours.
        """
        now = self._hub.now()
        if now - self._quiet_since < self._hub.limits.keep_alive * 2 / 3:
            return False
        self._quiet_since = now
        return True

    def _cursor(self) -> int | None:
        """Return the revision at which the client stopped; None if its id belongs to another boot, is too old, or is
        invalid.
        """
        boot, _, revision = (self._resume or "").rpartition("-")
        if boot != self._hub.boot_id or not revision.isascii() or not revision.isdigit() or len(revision) > 18:
            return None
        return int(revision) if self._hub.feed.since(int(revision)) is not None else None

    def _chunks(self, entries: list[Entry]) -> Iterable[bytes]:
        parts, size = [], 0
        for number, entry in enumerate(entries, 1):
            parts.append(self._own(entry))
            size += len(parts[-1])
            if size >= CHUNK or (size and number == len(entries)):
                self._quiet_since = self._hub.now()
                yield b"".join(parts)
                parts, size = [], 0

    def _own(self, entry: Entry) -> bytes:
        """Return one change in the form for this client; nothing if the pull is neither selected nor shown by it."""
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
        return b"id: " + self._id(entry.revision) + b"\ndata: " + entry.data(layers=layers) + b"\n\n"

    def _id(self, revision: int) -> bytes:
        return f"{self._hub.boot_id}-{revision}".encode()
