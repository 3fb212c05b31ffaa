"""The feed: every change has a number, its *revision*; a client holds a cursor, the last one it received. Sans-I/O.

Each pull stands in the feed once, at the revision of its newest state, in the order of revisions: what a reader missed
is the feed's tail, and however slow it is there is never more to send than there are pulls. What must not be skipped —
the end of an attempt that a retry superseded, a removal — stays as a *leftover*; those are bounded, and a cursor from
before the last one dropped is of no use any more: that reader starts from a reset.

What has ended is most of what there is, and few ask for it: once its frame is over its layers are kept packed.

What changed in one tick is a ``Frame``. Every entry is encoded at most once for each kind of reader, and a reader that
is in step gets the frame's own bytes object.
"""

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from msgspec import structs

from pulltrace.wire import (
    SCHEMA_VERSION,
    EventType,
    PullEvent,
    PullRemovedEvent,
    PullStatus,
    RemovedPull,
    to_time,
)

encoder = msgspec.json.Encoder()


class Entry:
    """One change: a pull's state, or its removal (``pull`` is None)."""

    __slots__ = ("_bytes", "_layers", "at", "id", "node", "pull", "revision", "type")

    def __init__(
        self, *, revision: int, type_: EventType, id_: str, node: str, pull: PullStatus | None, at: float
    ) -> None:
        self.revision = revision
        self.type = type_
        self.id = id_
        self.node = node
        self.pull = pull
        """Without its layers once they are packed; ``shown`` has them."""
        self.at = at
        self._bytes: dict[bool, bytes] | None = {}
        self._layers: bytes | None = None

    def data(self, *, layers: bool) -> bytes:
        """The event's JSON, kept as long as the entry is of the newest frame."""
        if self._bytes is None:
            return encoder.encode(self._event(layers))
        data = self._bytes.get(layers)
        if data is None:
            data = self._bytes[layers] = encoder.encode(self._event(layers))
        return data

    def pack(self) -> None:
        """It is of an old frame: few will ask for it."""
        self._bytes = None
        if self.pull and self.pull.layers and self.pull.status.ended:
            self._layers = zlib.compress(encoder.encode(self.pull.layers), 1)
            self.pull = structs.replace(self.pull, layers=None)

    def shown(self, *, layers: bool) -> PullStatus | None:
        """The pull as list and stream encode it, with or without its layers; None of a removal."""
        if self.pull is None:
            return None
        if self._layers and layers:
            unpacked: Any = msgspec.Raw(zlib.decompress(self._layers))  # already the JSON that it will be
            return structs.replace(self.pull, layers=unpacked)
        return self.pull if layers or self.pull.layers is None else structs.replace(self.pull, layers=None)

    def _event(self, layers: bool) -> PullEvent | PullRemovedEvent:
        pull = self.shown(layers=layers)
        if pull is None:
            return removal(self.id, self.node, self.at)
        return PullEvent(
            timestamp=to_time(self.at),
            type=self.type,
            node_name=self.node,
            pull=pull,
            schema_version=SCHEMA_VERSION,
        )


def removal(id_: str, node: str, at: float) -> PullRemovedEvent:
    """The last event of a pull, for everyone or for a reader whose filter it has left."""
    return PullRemovedEvent(
        timestamp=to_time(at),
        type=EventType.REMOVED,
        node_name=node,
        pull=RemovedPull(id=id_),
        schema_version=SCHEMA_VERSION,
    )


class Frame:
    """The changes between two ticks. A reader whose cursor is ``after`` is in step."""

    __slots__ = ("_bytes", "after", "entries", "revision")

    def __init__(self, after: int, revision: int, entries: list[Entry]) -> None:
        self.after = after
        self.revision = revision
        self.entries = entries
        self._bytes: dict[bool, bytes] = {}

    def bytes(self, render: Callable[[Entry, bool], bytes], *, layers: bool) -> bytes:
        """The frame as sent, the same object for all readers of a kind."""
        data = self._bytes.get(layers)
        if data is None:
            data = self._bytes[layers] = b"".join(render(entry, layers) for entry in self.entries)
        return data


class Feed:
    """All pulls by the revision of their last change, and the ends and removals that no client may miss."""

    def __init__(self, tombstones: int) -> None:
        self.revision = 0
        self.floor = 0
        """Cursors below cannot be served: something between is forgotten."""
        self.frame = Frame(0, 0, [])
        self._entries: dict[int, Entry] = {}  # ordered: revisions only grow
        self._newest: dict[str, Entry] = {}  # by pull id, removals excluded
        self._leftovers: deque[int] = deque()
        self._max_leftovers = tombstones

    def __len__(self) -> int:
        return len(self._newest)

    def get(self, id_: str) -> Entry | None:
        """A pull's newest state."""
        return self._newest.get(id_)

    def entries(self) -> Iterable[Entry]:
        """Every pull's newest state, in no order."""
        return self._newest.values()

    def pulls(self) -> Iterator[PullStatus]:
        """The same as pulls; those that ended may lack their layers."""
        return (entry.pull for entry in self._newest.values() if entry.pull)

    def current(self) -> list[Entry]:
        """Every pull's newest state, in the order of their last change."""
        return sorted(self._newest.values(), key=lambda entry: entry.revision)

    def publish(self, changed: Iterable[PullStatus], removed: Iterable[str], now: float) -> None:
        """Number these changes. Lists show them at once, readers with the next frame."""
        for id_ in removed:
            self._remove(id_, now)
        for pull in changed:
            self._change(pull, now)

    def cut(self) -> bool:
        """Make the changes since the last frame the next frame. Return whether there are any."""
        if self.frame.revision == self.revision:
            return False
        for entry in self.frame.entries:
            entry.pack()
        missed = self.since(self.frame.revision)
        # More than there is room for has ended at once: then nobody is in step.
        after = self.frame.revision if missed is not None else self.revision
        self.frame = Frame(after, self.revision, missed or [])
        return True

    def since(self, cursor: int) -> list[Entry] | None:
        """Return the changes after this cursor, oldest first. None if they are not known any more: reset the client."""
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
        """Drop a state that a newer one replaces, unless it is the end of an attempt, which no client may miss."""
        old = before.pull
        if old and old.status.ended and not (pull and pull.status == old.status and pull.attempt == old.attempt):
            self._keep(before)
        else:
            del self._entries[before.revision]

    def _keep(self, entry: Entry) -> None:
        self._leftovers.append(entry.revision)
        if len(self._leftovers) > self._max_leftovers:
            oldest = self._leftovers.popleft()
            del self._entries[oldest]
            self.floor = max(self.floor, oldest)


def _type_of(pull: PullStatus, before: PullStatus | None) -> EventType:
    if pull.status.ended:
        return EventType.FAILED if pull.status == "failed" else EventType.COMPLETED
    if before is None or before.attempt < pull.attempt:
        return EventType.STARTED
    return EventType.PROGRESS
