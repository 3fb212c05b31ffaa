"""Tests for each row of the decision table in ``conclusion``: what polls have seen, which image records were written,
and how the pull ended.
"""

import pytest

from pulltrace.agent.attribution import Image
from pulltrace.agent.conclusion import OUTCOMES, Conclusion, Outcome, Written
from pulltrace.agent.layers import Layer, Progress
from pulltrace.agent.manifests import Config, Descriptor, Manifest
from pulltrace.agent.model import Blob, Facts, ImageRecord, Lease, Resources
from pulltrace.agent.pull import Pull, Seen
from pulltrace.agent.records import Name, RecordLedger
from pulltrace.wire import LayerPhase

BEGAN, LAST_SEEN, WRITTEN, NOW = 100.0, 104.0, 104.5, 105.0
TARGET, LAYER, OTHER, CONFIG = ("sha256:" + letter * 64 for letter in "1234")
REFERENCE = "registry.test/app:1"
IMAGE = Image((TARGET,), (TARGET,), TARGET, "", (Layer(LAYER, "", 10),), config_read=True)


def a_pull(seen: Seen) -> Pull:
    """Return a pull whose ``seen`` property has this value."""
    lease = Lease("1-abcd", BEGAN, is_default=seen is not Seen.FETCH)
    pull = Pull(lease, inherited=False, moved_at=BEGAN, seen_at=LAST_SEEN, polls=2)
    match seen:
        case Seen.IMAGE:
            pull.image, pull.resources = IMAGE, Resources(content=frozenset({TARGET}))
        case Seen.CONTENT:
            pull.resources = Resources(content=frozenset({TARGET}))
        case Seen.FETCH:
            pull.layers = {LAYER: Progress(Layer(LAYER, "", 10))}
        case Seen.IMPORT:
            pull.imported, pull.resources = True, Resources(content=frozenset({LAYER}))
        case Seen.OTHER:
            pull.resources = Resources(foreign=True)
    assert pull.seen is seen
    return pull


def ending_of(pull: Pull, *records: ImageRecord, ended: tuple[Pull, ...] = (), now: float = NOW):
    """Return the outcome of the pull, as inferred from these image records."""
    facts, ledger = Facts(), RecordLedger()
    manifest = Manifest(Descriptor(CONFIG, 5), [Descriptor(LAYER, 10)])
    facts.documents |= {TARGET: manifest, CONFIG: Config([LAYER]), OTHER: None, LAYER: None}
    facts.blobs |= {LAYER: Blob(10, WRITTEN), OTHER: Blob(10, BEGAN - 1)}
    conclusion = Conclusion(facts, ledger)
    facts.images[""] = list(records)
    facts.images[TARGET] = [record for record in records if record.target == TARGET]
    together = [pull, *ended]
    while questions := conclusion.questions(pull, together, together, "overlayfs") - facts.asked:
        facts.asked |= questions
    return conclusion.ending(pull, now)


def record(target: str = TARGET, updated_at: float = WRITTEN, name: str = REFERENCE) -> ImageRecord:
    return ImageRecord(name, target, updated_at, updated_at)


@pytest.mark.parametrize(("seen", "written"), OUTCOMES, ids=lambda value: value.name)
def test_each_row_of_the_decision_table_gives_the_expected_outcome(seen, written):
    old, other, own = record(updated_at=BEGAN - 1), record(OTHER, name="registry.test/other:1"), record()
    unclear = [other] if seen is Seen.IMPORT else [own, other]
    records = {Written.OWN: [own], Written.NONE: [old], Written.UNCLEAR: unclear}[written]
    ending = ending_of(a_pull(seen), *records)
    assert ending.outcome is OUTCOMES[seen, written]
    assert (ending.name is not None) == (written is Written.OWN)
    assert (ending.error is not None) == (ending.outcome in (Outcome.FAILED, Outcome.CANCELLED))
    assert (ending.reason is not None) == (ending.outcome is Outcome.CANCELLED)
    assert ending.at == (WRITTEN if written is Written.OWN else NOW)


def test_the_only_new_image_is_attributed_to_the_pull_with_the_empty_lease():
    pull = a_pull(Seen.LEASE)
    ending = ending_of(pull, record())
    assert (ending.outcome, ending.name) == (Outcome.COMPLETED, Name(REFERENCE, guessed=False, written_at=WRITTEN))
    assert pull.guessed


def test_the_outcome_of_two_pulls_with_empty_leases_is_unknown_if_there_is_only_one_new_image():
    pull, twin = a_pull(Seen.LEASE), a_pull(Seen.LEASE)
    assert ending_of(pull, record(), ended=(twin,)).outcome is Outcome.UNKNOWN


def test_the_outcome_of_a_pull_with_an_empty_lease_is_unknown_if_the_clock_has_been_set_back():
    assert ending_of(a_pull(Seen.LEASE), now=LAST_SEEN - 60).outcome is Outcome.UNKNOWN


def test_a_container_lease_does_not_count_as_a_pull_and_needs_no_queries():
    pull = a_pull(Seen.OTHER)
    conclusion = Conclusion(Facts(), RecordLedger())
    assert not conclusion.questions(pull, [pull], [pull], "overlayfs")
    assert conclusion.ending(pull, NOW).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("complete", "outcome"), [(True, Outcome.COMPLETED), (False, Outcome.CANCELLED)], ids=["complete", "incomplete"]
)
def test_a_download_without_a_lease_counts_as_completed_if_all_its_layers_are_complete(complete, outcome):
    pull = a_pull(Seen.FETCH)
    if complete:
        pull.layers[LAYER].completed_at, pull.layers[LAYER].phase = WRITTEN, LayerPhase.DOWNLOADED
    facts = Facts(blobs={LAYER: None})
    assert Conclusion(facts, RecordLedger()).ending(pull, NOW).outcome is outcome


@pytest.mark.parametrize(
    ("complete", "outcome"), [(True, Outcome.COMPLETED), (False, Outcome.FAILED)], ids=["complete", "incomplete"]
)
def test_a_pull_whose_record_was_claimed_by_another_pull_counts_as_completed_only_if_its_layers_are_complete(
    complete, outcome
):
    facts, ledger = Facts(images={TARGET: [record()]}), RecordLedger()
    ledger.claim([record()], Lease("other", BEGAN), Name(REFERENCE, guessed=False, written_at=WRITTEN))
    ledger.after_poll(oldest=0.0, unseen_since=0.0)
    pull = a_pull(Seen.IMAGE)
    pull.layers = {LAYER: Progress(Layer(LAYER, "", 10), cached_before=complete)}
    assert Conclusion(facts, ledger).ending(pull, NOW).outcome is outcome
