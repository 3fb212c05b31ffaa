"""The feed assigns every change a number, its *revision*. Each client has a cursor: the last revision that it received.
Sans-I/O.

Each pull appears in the feed once, at the revision of its latest state, and the feed is sorted by revision. The changes
that a client missed are therefore at the end of the feed. A client is never sent more entries than the feed contains.

Two kinds of entries must reach every client: the final state of an attempt before a retry, and the removal of a pull.
The feed keeps a limited number of these entries as *tombstones*. If a client's cursor is older than the last dropped
tombstone, the client receives the full state again.

Most pulls in the feed have finished, and clients rarely request the layers of such pulls. A finished pull's layers are
therefore compressed once its frame is no longer the newest one.

The changes in one tick form a ``Frame``. Each entry is encoded at most once per kind of client, and all clients that
are up to date receive the same ``bytes`` object.
"""

import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import structs

from pulltrace.server.models import SCHEMA_VERSION, EventType, PullEvent, PullRemovedEvent, PullStatus, RemovedPull
from pulltrace.server.pulls.batch import Batch, Render
from pulltrace.wire import to_time

encoder = msgspec.json.Encoder()
_to_time = lru_cache(16)(to_time)  # all changes in one tick have the same time


class Entry:
    """One change: the new state of a pull, or its removal (``pull`` is None)."""

    __slots__ = ("_bytes", "_layers", "at", "id", "node", "pull", "revision", "type")

    def __init__(
        self, *, revision: int, type_: EventType, id_: str, node: str, pull: PullStatus | None, at: float
    ) -> None:
        self.revision = revision
        self.type = type_
        self.id = id_
        self.node = node
        self.pull = pull
        """The pull. ``pack`` compresses its layers and removes them from this object; ``shown`` restores them."""
        self.at = at
        self._bytes: dict[bool, bytes] | None = {}
        self._layers: bytes | None = None

    def data(self, *, layers: bool) -> bytes:
        """Return the event as JSON. The JSON is cached while the entry belongs to the newest frame."""
        if self._bytes is None:
            return encoder.encode(self._event(layers))
        data = self._bytes.get(layers)
        if data is None:
            data = self._bytes[layers] = encoder.encode(self._event(layers))
        return data

    def pack(self) -> None:
        """Compress the layers. Clients rarely request the layers of a pull that did not change in the newest frame."""
        self._bytes = None
        if self.pull and self.pull.layers and self.pull.status.ended:
            self._layers = zlib.compress(encoder.encode(self.pull.layers), 1)
            self.pull = structs.replace(self.pull, layers=None)

    def shown(self, *, layers: bool) -> PullStatus | None:
        """Return the pull as lists and streams encode it, with or without its layers. Return None for a
        removal.
        """
        if self.pull is None:
            return None
        if self._layers and layers:
            unpacked: Any = msgspec.Raw(zlib.decompress(self._layers))  # the layers are already encoded as JSON
            return structs.replace(self.pull, layers=unpacked)
        return self.pull if layers or self.pull.layers is None else structs.replace(self.pull, layers=None)

    def _event(self, layers: bool) -> PullEvent | PullRemovedEvent:
        pull = self.shown(layers=layers)
        if pull is None:
            return removal(self.id, self.node, self.at)
        return PullEvent(
            timestamp=_to_time(self.at),
            type=self.type,
            node_name=self.node,
            pull=pull,
            schema_version=SCHEMA_VERSION,
        )


def removal(id_: str, node: str, at: float) -> PullRemovedEvent:
    """Return a pull's last event. The event is sent to all clients when the pull is removed, or to a single client when
    the pull no longer matches that client's filter.
    """
    return PullRemovedEvent(
        timestamp=_to_time(at),
        type=EventType.REMOVED,
        node_name=node,
        pull=RemovedPull(id=id_),
        schema_version=SCHEMA_VERSION,
    )


class Frame(Batch):
    """The changes since the previous tick. A client is up to date if its cursor equals ``after``."""

    __slots__ = ("_whole", "after", "revision")

    def __init__(self, after: int, revision: int, entries: list[Entry]) -> None:
        super().__init__(entries)
        self.after = after
        self.revision = revision
        self._whole: dict[tuple[bool, bool], bytes] = {}

    def whole(self, render: Render, *, layers: bool, gzip: bool) -> bytes:
        """Return the encoded frame. All clients that request the frame in the same form receive the same object."""
        data = self._whole.get((layers, gzip))
        if data is None:
            pieces = (piece.data for piece in self.pieces(render, layers=layers))
            data = b"".join(pieces if gzip else (render(entry, layers) for entry in self.entries))
            self._whole[layers, gzip] = data
        return data


class Feed:
    """All pulls, sorted by the revision of their last change. The feed also contains finished attempts and removals,
    which every client must receive.
    """

    def __init__(self, tombstones: int) -> None:
        self.revision = 0
        self.floor = 0
        """The oldest cursor from which a client can resume. For any older cursor, some of the later changes have
        already been dropped from the feed.
        """
        self.frame = Frame(0, 0, [])
        self._everything: tuple[int, Batch] | None = None
        self._entries: dict[int, Entry] = {}  # sorted, because revisions only increase
        self._newest: dict[str, Entry] = {}  # by pull id; contains no removals
        self._tombstones: deque[int] = deque()
        self._max_tombstones = tombstones

    def __len__(self) -> int:
        return len(self._newest)

    def get(self, id_: str) -> Entry | None:
        """Return the latest state of a pull."""
        return self._newest.get(id_)

    def entries(self) -> Iterable[Entry]:
        """Return the latest state of every pull, in arbitrary order."""
        return self._newest.values()

    def pulls(self) -> Iterator[PullStatus]:
        """Return the latest state of every pull as an object. The layers of finished pulls may be missing."""
        return (entry.pull for entry in self._newest.values() if entry.pull)

    def current(self) -> list[Entry]:
        """Return the latest state of every pull, sorted by the time of the last change."""
        return sorted(self._newest.values(), key=lambda entry: entry.revision)

    def everything(self) -> Batch:
        """Return the latest state of every pull as a batch that all new clients share."""
        if self._everything is None or self._everything[0] != self.revision:
            self._drop_everything()
            self._everything = self.revision, Batch(self.current())
        return self._everything[1]

    def _drop_everything(self) -> None:
        if self._everything:
            self._everything[1].retire()
        self._everything = None

    def publish(self, changed: Iterable[PullStatus], removed: Iterable[str], now: float) -> None:
        """Assign revisions to these changes. Lists show the changes immediately, and streams show them with the next
        frame.
        """
        for id_ in removed:
            self._remove(id_, now)
        for pull in changed:
            self._change(pull, now)

    def cut(self) -> bool:
        """Turn the changes since the last frame into the next frame. Return False if there are no changes."""
        if self.frame.revision == self.revision:
            return False
        self._drop_everything()
        for entry in self.frame.entries:
            entry.pack()
        missed = self.since(self.frame.revision)
        # If tombstones that are newer than the last frame have been dropped, no client counts as up to date.
        after = self.frame.revision if missed is not None else self.revision
        self.frame = Frame(after, self.revision, missed or [])
        return True

    def since(self, cursor: int) -> list[Entry] | None:
        """Return the changes after a cursor, oldest first.

        Return None if some of the changes have been dropped. In that case, the client must be reset.
        """
        if not self.floor <= cursor <= self.revision:
            return None
        missed = []
        for revision in reversed(self._entries):
            if revision <= cursor:
                break
            missed.append(self._entries[revision])
        missed.reverse()
        return missed

    def _change(self, pull: PullStatus, now: float) -> None:
        before = self._newest.get(pull.id)
        entry = self._append(
            _type_of(pull, before.pull if before else None), pull.id, pull.node_name, pull=pull, now=now
        )
        if before:
            self._supersede(before, pull)
        self._newest[pull.id] = entry

    def _remove(self, id_: str, now: float) -> None:
        before = self._newest.pop(id_, None)
        if before is None:
            return
        self._supersede(before, None)
        entry = self._append(EventType.REMOVED, id_, before.node, pull=None, now=now)
        self._keep(entry)

    def _append(self, type_: EventType, id_: str, node: str, *, pull: PullStatus | None, now: float) -> Entry:
        self.revision += 1
        entry = Entry(revision=self.revision, type_=type_, id_=id_, node=node, pull=pull, at=now)
        self._entries[self.revision] = entry
        return entry

    def _supersede(self, before: Entry, pull: PullStatus | None) -> None:
        """Drop a state that a newer state has replaced. The final state of an attempt is kept, because every client
        must receive it.
        """
        old = before.pull
        if old and old.status.ended and not (pull and pull.status == old.status and pull.attempt == old.attempt):
            self._keep(before)
        else:
            del self._entries[before.revision]

    def _keep(self, entry: Entry) -> None:
        self._tombstones.append(entry.revision)
        if len(self._tombstones) > self._max_tombstones:
            oldest = self._tombstones.popleft()
            del self._entries[oldest]
            self.floor = max(self.floor, oldest)


def _type_of(pull: PullStatus, before: PullStatus | None) -> EventType:
    if pull.status.ended:
        return EventType.FAILED if pull.status == "failed" else EventType.COMPLETED
    if before is None or before.attempt < pull.attempt:
        return EventType.STARTED
    return EventType.PROGRESS
