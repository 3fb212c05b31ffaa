"""Tests for matching each image record with the pull that wrote it, and for deriving the pull's name from it."""

import pytest

from pulltrace.agent.model import ImageRecord, Lease, Write
from pulltrace.agent.records import MAX_NAMES, MAX_WRITES, Name, RecordLedger, name_of

LEASE = Lease("lease", 100.0)
TARGET = "sha256:" + "7" * 64
BY_DIGEST = f"r.io/a@{TARGET}"


def record(name: str, updated_at: float, created_at: float = 0.0) -> ImageRecord:
    return ImageRecord(name, TARGET, updated_at, created_at)


def ledger(*, earlier: dict[str, float] | None = None, now: dict[str, float] | None = None) -> RecordLedger:
    """Return a ledger with claims from earlier polls and from the current poll."""
    made = RecordLedger()
    for claims, end_poll in ((earlier, True), (now, False)):
        for name, at in (claims or {}).items():
            made.claim([record(name, at)], LEASE, Name(name, guessed=False, written_at=at))
        if end_poll:
            made.after_poll(oldest=0.0, unseen_since=0.0)
    return made


def named(*records: ImageRecord, known: RecordLedger | None = None) -> tuple[str, bool] | None:
    name = name_of(records, LEASE, None, known or RecordLedger())
    return name and (name.reference, name.guessed)


def test_a_pull_gets_the_name_of_the_tag_whose_record_was_updated():
    records = record("r.io/a:1", 50.0), record("r.io/a:2", 105.0), record(BY_DIGEST, 105.0)
    assert named(*records) == ("r.io/a:2", False)


def test_a_pull_gets_its_name_from_the_record_named_by_digest_if_no_tag_was_updated():
    assert named(record("r.io/a:1", 50.0), record(BY_DIGEST, 105.0)) == (BY_DIGEST, False)


def test_a_pull_does_not_get_its_name_from_records_older_than_its_lease():
    assert named(record("r.io/a:1", 99.0)) is None


def test_a_pull_does_not_get_its_name_from_a_record_whose_name_is_an_image_id():
    assert named(record(TARGET, 105.0)) is None


def test_a_record_claimed_by_an_earlier_pull_is_not_used_for_another_pull_until_it_has_been_updated():
    assert named(record("r.io/a:1", 105.0), known=ledger(earlier={"r.io/a:1": 105.0})) is None
    assert named(record("r.io/a:1", 105.0), known=ledger(earlier={"r.io/a:1": 104.0})) == ("r.io/a:1", False)


def test_both_pulls_of_an_image_count_as_completed_if_the_second_one_updated_the_record():
    twice = record("r.io/a:1", updated_at=106.0, created_at=105.0)

    def written_at(known: RecordLedger) -> float | None:
        name = name_of([twice], LEASE, None, known)
        return name and name.written_at

    assert written_at(ledger()) == 105.0
    assert written_at(ledger(earlier={"r.io/a:1": 105.0})) == 106.0
    assert written_at(ledger(now={"r.io/a:1": 105.0})) == 106.0, "both pulls end in one poll"
    assert written_at(ledger(earlier={"r.io/a:1": 106.0})) is None


def test_two_new_tags_found_by_the_same_poll_are_assigned_to_different_pulls_and_marked_as_guesses():
    records = record("r.io/a:1", 105.0), record("r.io/a:2", 106.0)
    assert named(*records) == ("r.io/a:2", True)
    assert named(*records, known=ledger(now={"r.io/a:2": 106.0})) == ("r.io/a:1", True)


def test_two_pulls_of_the_same_tag_that_end_during_the_same_poll_have_the_same_name():
    assert named(record("r.io/a:1", 105.0), known=ledger(now={"r.io/a:1": 105.0})) == ("r.io/a:1", False)


def test_a_pull_that_claims_a_tag_also_claims_the_records_named_by_digest_and_by_image_id():
    known = RecordLedger()
    tag, digest, image_id, other = (
        record(name, at) for name, at in (("r.io/a:1", 105.0), (BY_DIGEST, 105.1), (TARGET, 105.2), ("r.io/b:1", 90.0))
    )
    known.claim([tag, digest, image_id, other], LEASE, Name("r.io/a:1", guessed=False, written_at=105.0))
    assert [known.is_claimed(item.name) for item in (tag, digest, image_id, other)] == [True, True, True, False]


def test_claims_that_are_older_than_the_oldest_live_pull_are_forgotten():
    known = ledger(earlier={"r.io/a:1": 105.0, "r.io/b:1": 107.0})
    known.after_poll(oldest=106.0, unseen_since=106.0)
    assert (known.claimed_at("r.io/a:1"), known.claimed_at("r.io/b:1"), len(known)) == (0.0, 107.0, 1)


def test_events_reveal_the_first_write_of_a_record_and_whether_the_cri_plugin_made_it():
    known = RecordLedger()
    known.see_writes({"r.io/a:1": [Write(101.0), Write(103.0, foreign=True)]})
    known.see_writes({"r.io/a:1": [Write(105.0)]})
    assert [known.first_write("r.io/a:1", since) for since in (100.0, 102.0, 104.0, 106.0)] == [
        Write(101.0),
        Write(103.0, foreign=True),
        Write(105.0),
        None,
    ]
    assert [known.is_foreign("r.io/a:1", since) for since in (100.0, 102.0, 106.0)] == [False, True, False]
    assert known.first_write("r.io/b:1", 0.0) is None


@pytest.mark.parametrize(
    ("oldest", "unseen_since", "kept"), [(104.0, 107.0, True), (107.0, 104.0, True), (106.0, 107.0, False)]
)
def test_a_record_write_is_remembered_as_long_as_it_may_belong_to_a_pull(oldest, unseen_since, kept):
    known = RecordLedger()
    known.see_writes({"r.io/a:1": [Write(105.0)]})
    known.after_poll(oldest, unseen_since)
    assert bool(known.first_write("r.io/a:1", 0.0)) == kept


def test_the_number_of_remembered_writes_is_bounded():
    known = RecordLedger()
    known.see_writes({f"r.io/{number}": [Write(float(at)) for at in range(100)] for number in range(MAX_NAMES + 1)})
    known.after_poll(oldest=0.0, unseen_since=0.0)
    assert known.first_write("r.io/0", 0.0) is None
    assert known.first_write("r.io/1", 0.0) == Write(100.0 - MAX_WRITES)


def test_an_overlapping_pull_counts_as_completed_if_its_layers_are_complete_and_another_pull_claimed_its_record():
    """The second pull updated the record before the first pull's lease was deleted. The lease may still exist many
    polls later.
    """
    known, twice = ledger(earlier={"r.io/a:1": 105.0}), record("r.io/a:1", 105.0)
    for _ in range(60):
        known.after_poll(oldest=99.0, unseen_since=99.0)
    overlapping, later = Lease("overlapping", 104.0), Lease("began-after-it-was-written", 105.5)
    assert name_of([twice], overlapping, None, known, complete=True) == Name("r.io/a:1", False, 105.0)
    assert name_of([twice], overlapping, None, known) is None
    assert name_of([twice], later, None, known, complete=True) is None
