"""Tests for the feed in isolation: its revisions and cursors, the entries that every client must receive, and its
limits.
"""

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pulltrace.server.models import EventType, PullEvent, PullStatus
from pulltrace.server.pulls.feed import Entry, Feed
from pulltrace.wire import PullPhase
from tests.server.build import NOW, SimulatedHub, layer, pull


def a_pull(id_: str, phase: PullPhase = PullPhase.DOWNLOADING, attempt: int = 1) -> PullStatus:
    sim = SimulatedHub()
    sim.report(pull("l", layer("a")))
    return replace(sim.one, id=id_, status=phase, attempt=attempt)


EXAMPLE = a_pull("x")


def ids(entries: list[Entry] | None) -> list[str]:
    assert entries is not None
    return [entry.id for entry in entries]


def change(feed: Feed, id_: str, phase: PullPhase = PullPhase.DOWNLOADING, attempt: int = 1) -> None:
    feed.publish([replace(EXAMPLE, id=id_, status=phase, attempt=attempt)], [], NOW)
    feed.cut()


def test_a_client_receives_each_pull_only_once_and_in_the_order_in_which_the_pulls_last_changed() -> None:
    feed = Feed(100)
    for id_ in ("a", "b", "c", "a"):
        change(feed, id_)
    assert ids(feed.since(0)) == ["b", "c", "a"]
    assert ids(feed.since(3)) == ["a"]
    assert feed.since(4) == []


def test_each_kind_of_change_has_its_own_event_type() -> None:
    feed = Feed(100)
    sent = []
    for phase, attempt in (
        (PullPhase.QUEUED, 1),
        (PullPhase.DOWNLOADING, 1),
        (PullPhase.FAILED, 1),
        (PullPhase.QUEUED, 2),
        (PullPhase.DOWNLOADING, 2),
        (PullPhase.COMPLETED, 2),
    ):
        change(feed, "a", phase, attempt)
        sent.append(feed.frame.entries[0].type)
    feed.publish([], ["a"], NOW)
    feed.cut()
    sent.append(feed.frame.entries[0].type)
    started, progress = EventType.STARTED, EventType.PROGRESS
    failed, completed, removed = EventType.FAILED, EventType.COMPLETED, EventType.REMOVED
    assert sent == [started, progress, failed, started, progress, completed, removed]


def test_the_end_of_an_attempt_is_sent_even_after_a_retry_has_begun() -> None:
    feed = Feed(100)
    change(feed, "a")
    change(feed, "a", PullPhase.FAILED)
    change(feed, "a", attempt=2)
    change(feed, "a", attempt=2)
    missed = feed.since(1)
    assert missed is not None
    assert [entry.type for entry in missed] == [EventType.FAILED, EventType.PROGRESS]


def test_a_finished_pull_is_sent_only_once_even_if_details_are_added_later() -> None:
    feed = Feed(100)
    change(feed, "a", PullPhase.FAILED)
    feed.publish([replace(EXAMPLE, id="a", status=PullPhase.FAILED, error="why")], [], NOW)
    assert len(feed.since(0) or []) == 1


def test_a_client_that_missed_a_removal_receives_it_later() -> None:
    feed = Feed(100)
    change(feed, "a")
    change(feed, "b")
    feed.publish([], ["a"], NOW)
    assert ids(feed.since(2)) == ["a"]
    assert feed.get("a") is None
    assert ids(feed.current()) == ["b"]


def test_no_removal_event_is_sent_for_a_pull_that_was_never_sent() -> None:
    feed = Feed(100)
    feed.publish([], ["ghost"], NOW)
    assert feed.revision == 0
    assert not feed.cut()


def test_a_frame_contains_all_changes_since_the_previous_frame_including_every_ended_attempt() -> None:
    feed = Feed(100)
    change(feed, "before")
    for phase, attempt in ((PullPhase.DOWNLOADING, 1), (PullPhase.FAILED, 1), (PullPhase.QUEUED, 2)):
        feed.publish([replace(EXAMPLE, id="a", status=phase, attempt=attempt)], [], NOW)
    assert ids(feed.frame.entries) == ["before"], "the frame remains the same until the next one is cut"
    assert feed.cut()
    sent = [(entry.id, entry.pull.status, entry.pull.attempt) for entry in feed.frame.entries]
    assert sent == [("a", PullPhase.FAILED, 1), ("a", PullPhase.QUEUED, 2)]
    assert not feed.cut()


def test_every_client_must_fetch_the_full_state_again_if_there_are_more_removals_than_the_feed_keeps() -> None:
    feed = Feed(3)
    change(feed, "before")
    for number in range(9):
        feed.publish([replace(EXAMPLE, id=f"p{number}")], [], NOW)
    feed.publish([], [f"p{number}" for number in range(9)], NOW)
    before = feed.frame.revision
    assert feed.cut()
    assert feed.frame.after == feed.frame.revision == feed.revision
    assert feed.since(before) is None


def test_a_cursor_that_is_older_than_the_oldest_kept_entry_is_rejected() -> None:
    feed = Feed(3)
    for number in range(10):
        change(feed, f"p{number}")
    feed.publish([], [f"p{number}" for number in range(9)], NOW)
    assert feed.since(1) is None
    assert feed.since(feed.floor) is not None
    assert feed.since(feed.revision + 1) is None


def test_all_clients_share_one_encoded_copy_with_layers_and_one_without() -> None:
    feed = Feed(100)
    feed.publish([replace(EXAMPLE, id="a"), replace(EXAMPLE, id="b")], [], NOW)
    feed.cut()
    frame = feed.frame
    calls = []

    def render(entry: Entry, layers: bool) -> bytes:
        calls.append((entry.id, layers))
        return entry.data(layers=layers)

    assert frame.whole(render, layers=False, gzip=False) is frame.whole(render, layers=False, gzip=False)
    assert frame.whole(render, layers=True, gzip=False) != frame.whole(render, layers=False, gzip=False)
    assert sorted(calls) == [("a", False), ("a", True), ("b", False), ("b", True)]
    assert frame.entries[0].data(layers=True) is frame.entries[0].data(layers=True)


def test_the_encoded_bytes_of_old_frames_are_discarded() -> None:
    feed = Feed(100)
    change(feed, "a")
    old = feed.frame.entries[0]
    old.data(layers=True)
    change(feed, "b")
    assert old._bytes is None
    assert old.data(layers=True)


def test_compressing_the_layers_of_a_finished_pull_does_not_change_the_data_that_clients_receive() -> None:
    feed = Feed(100)
    ended = replace(EXAMPLE, id="a", status=PullPhase.COMPLETED)
    feed.publish([ended, replace(EXAMPLE, id="b")], [], NOW)
    feed.cut()
    old, running = feed.frame.entries
    before = old.data(layers=True)
    change(feed, "c")
    assert old.pull == replace(ended, layers=None)
    assert old.data(layers=True) == before
    assert old.shown(layers=False) == old.pull
    assert running.pull.layers == EXAMPLE.layers, "a running pull is not packed"


step = st.tuples(
    st.sampled_from(["change", "end", "retry", "remove", "read", "cut"]), st.sampled_from("abcd"), st.integers(0, 3)
)


class Subscription:
    """A client that reads only when a test calls ``take`` or ``read``, and keeps the entries that it receives."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.cursor = 0
        self.has: dict[str, PullStatus] = {}
        self.ends: set[tuple[str, int]] = set()
        self.was_reset = False

    def take(self) -> None:
        """If this client is up to date, read the newest frame."""
        frame = self.feed.frame
        if self.cursor != frame.after:
            self.read()
        elif frame.after < frame.revision:
            self.cursor = frame.revision
            self.learn(frame.entries)

    def read(self) -> None:
        missed = self.feed.since(self.cursor)
        if missed is None:
            self.was_reset, self.has, missed = True, {}, self.feed.current()
        self.cursor = self.feed.revision
        self.learn(missed)

    def learn(self, missed: list[Entry]) -> None:
        assert [entry.revision for entry in missed] == sorted({entry.revision for entry in missed})
        for entry in missed:
            if entry.pull is None:
                self.has.pop(entry.id, None)
                continue
            self.has[entry.id] = msgspec.json.decode(entry.data(layers=True), type=PullEvent).pull
            if entry.pull.status.ended:
                self.ends.add((entry.id, entry.pull.attempt))


def next_state(before: PullStatus | None, what: str, id_: str, number: int) -> PullStatus | None:
    """Return the next state of a pull, or None if there is none. The attempt number distinguishes successive pulls that
    have the same id.
    """
    attempt = before.attempt if before else number * 100
    if before and before.status.ended:
        if what != "retry":
            return None
        attempt += 1
    status = PullPhase.FAILED if what == "end" else PullPhase.DOWNLOADING
    return replace(EXAMPLE, id=id_, status=status, attempt=attempt, downloaded_bytes=number)


@given(st.lists(step, max_size=80), st.integers(1, 30))
def test_slow_and_fast_clients_reach_the_correct_state_and_receive_the_end_of_every_pull(
    steps: list, tombstones: int
) -> None:
    feed = Feed(tombstones)
    readers = [Subscription(feed) for _ in range(4)]
    in_step = Subscription(feed)
    truth: dict[str, PullStatus] = {}
    ends = set()
    for number, (what, id_, who) in enumerate(steps):
        if what == "read":
            readers[who].read()
        elif what == "cut":
            if feed.cut():
                in_step.take()
        elif what == "remove":
            feed.publish([], [id_], NOW)
            truth.pop(id_, None)
        elif state := next_state(truth.get(id_), what, id_, number):
            truth[id_] = state
            feed.publish([state], [], NOW)
            if state.status.ended:
                ends.add((id_, state.attempt))
    for reader in (*readers, in_step):
        reader.read()
        assert reader.has == truth
        assert reader.was_reset or reader.ends == ends
    assert len(feed._entries) <= len(truth) + tombstones
