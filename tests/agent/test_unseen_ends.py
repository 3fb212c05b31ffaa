"""Tests for the outcomes and names of pulls that ended between two polls."""

import pytest

from pulltrace.demo.registries import Refusal
from pulltrace.wire import UNKNOWN_IMAGE, PullPhase
from tests.agent.conftest import HOST


def test_pulls_that_ended_between_two_polls_are_reported_as_completed_with_guessed_names(watched, push):
    refs = [push(f"app-{number}:1", (f"app-{number}", 1))[0] for number in range(3)]
    for ref in refs:
        watched.node.pull(ref)
    watched.polls(2, every=0.05)
    assert [pull.image_ref for pull in watched.live] == [UNKNOWN_IMAGE] * 3
    watched.polls(1, every=10)
    assert {pull.image_ref: (pull.status, pull.ref_guessed) for pull in watched.ended} == dict.fromkeys(
        refs, (PullPhase.COMPLETED, True)
    )


def test_a_pull_that_ended_between_two_polls_gets_the_name_of_the_only_new_image(watched, push):
    seen, _ = push("seen:1", ("seen", 40))
    unseen, _ = push("unseen:1", ("unseen", 1))
    watched.node.pull(seen)
    watched.polls(8, every=0.2)
    watched.node.pull(unseen)
    watched.polls(2, every=0.05)
    watched.polls(1, every=10)
    ended = {pull.image_ref: (pull.status, pull.ref_guessed) for pull in watched.ended}
    assert ended == {seen: (PullPhase.COMPLETED, False), unseen: (PullPhase.COMPLETED, True)}


@pytest.mark.parametrize("fails", [True, False], ids=["one of them fails", "another pull begins and ends meanwhile"])
def test_pulls_whose_outcome_is_unclear_are_reported_as_completed_only_if_their_image_is_new_and_never_as_failed(
    watched, push, fails, registries
):
    first, _ = push("first:1", ("first", 1))
    other, _ = push("other:1", ("other", 1))
    if fails:
        registries.refuse(other, Refusal.UNAUTHORIZED)
    watched.node.pull(first)
    if fails:
        watched.node.pull(other)
    watched.polls(2, every=0.05)
    watched.node.pull(other)
    watched.polls(3, every=10)
    assert not watched.live
    made = {first} if fails else {first, other}
    assert {(pull.image_ref, pull.status) for pull in watched.ended} == {(ref, PullPhase.COMPLETED) for ref in made}


def test_repeated_pulls_that_ended_between_two_polls_are_not_reported_as_failed(watched, push):
    ref, _ = push("app:1", ("app", 1))
    watched.node.pull(ref)
    watched.until(lambda: watched.ended)
    watched.node.pull(ref)
    watched.node.advance(0.2)
    watched.node.pull(ref)
    watched.polls(3, every=0.05)
    watched.polls(3)
    assert not watched.live
    assert {pull.status for pull in watched.ended} == {PullPhase.COMPLETED}


def test_a_pull_that_ended_between_two_polls_is_not_reported_as_failed_if_the_clock_has_been_set_back(watched, push):
    watched.node.pull(push("app:1", ("app", 1))[0])
    watched.polls(2, every=0.05)
    watched.node.now -= 30
    watched.polls(3, every=5)
    assert not watched.live
    assert not watched.ended


@pytest.mark.parametrize("polls", [1, 2, 4])
def test_an_image_record_written_after_the_lease_was_deleted_is_not_used_for_another_pull(
    watched, push, registries, polls
):
    """The CRI plugin deletes the pull's lease before it writes the image records whose names are the digest and the
    image id.
    """
    good, _ = push("good:1", ("good", 1))
    bad, _ = push("bad:1", ("bad", 1))
    node = watched.node
    node.pull(good)
    watched.until(lambda: watched.live and watched.live[0].total_known, every=0.05)
    while node.pulls:
        node.advance(0.05)
    late = {name: node.store.records.pop(name) for name in list(node.store.records) if name != good}
    registries.manners[HOST].latency = 0.3 * polls
    registries.refuse(bad, Refusal.UNAUTHORIZED)
    node.pull(bad)
    watched.polls(polls, every=0.2)
    for name, record in late.items():
        record.created_at = record.updated_at = node.now + 0.005
        node.store.records[name] = record
    watched.polls(3)
    assert [pull.image_ref for pull in watched.ended if pull.status is PullPhase.COMPLETED] == [good]


def test_a_container_lease_does_not_count_as_a_pull_that_ended_between_two_polls(watched, push):
    foreign = [watched.node.new_lease() for _ in range(2)]
    for number, lease in enumerate(foreign):
        lease.resources["snapshots/overlayfs", f"container-{number}"] = None
    watched.polls(2, every=0.1)
    unseen, _ = push("unseen:1", ("unseen", 1))
    watched.node.pull(unseen)
    watched.node.advance(5)
    watched.node.release(foreign[0])
    watched.polls(2)
    assert [(pull.image_ref, pull.ref_guessed) for pull in watched.ended] == [(unseen, False)]
    ref, _ = push("app:1", ("app", 1))
    watched.node.pull(ref)
    watched.polls(2, every=0.05)
    watched.node.release(foreign[1])
    watched.polls(2, every=10)
    assert [(pull.image_ref, pull.status) for pull in watched.ended] == [
        (unseen, PullPhase.COMPLETED),
        (ref, PullPhase.COMPLETED),
    ]


def test_a_pull_that_ended_between_two_polls_without_a_new_image_is_reported_as_failed(watched, push, registries):
    ref, _ = push("app:1", ("app", 1))
    registries.refuse(ref, Refusal.UNAUTHORIZED)
    watched.node.pull(ref)
    watched.polls(2, every=0.05)
    watched.polls(1, every=10)
    assert [pull.status for pull in watched.ended] == [PullPhase.FAILED]
