"""Tests for how the agent derives a pull's image, the image's source, and the progress of each layer."""

import pytest

from pulltrace.agent.attribution import Image, image_of, source_of
from pulltrace.agent.layers import Absence, Layer, Progress
from pulltrace.agent.manifests import Config, Descriptor, Index, Manifest
from pulltrace.agent.model import Blob, Ingest, Lease
from pulltrace.agent.pull import Pull
from pulltrace.agent.snapshotters import Delivery, Snapshot
from pulltrace.wire import GUEST, MAX_LAYERS, SNAPSHOTTER, LayerPhase, PullPhase

SINCE = 100.0


def digest(letter):
    return "sha256:" + letter * 64


def manifest(config, *layers):
    return Manifest(Descriptor(digest(config), 5), [Descriptor(digest(letter), size) for letter, size in layers])


def ingest(offset, *, total=100, started_at=101.0):
    return Ingest(f"layer-{digest('a')}", digest("a"), offset, total, started_at, started_at + 1)


def test_an_image_has_the_layers_of_the_manifest_that_was_fetched_from_its_index():
    documents = {
        digest("1"): Index([Descriptor(digest("2"), 1), Descriptor(digest("3"), 1), Descriptor(digest("4"), 1)]),
        digest("3"): manifest("c", ("a", 10), ("b", 20)),
        digest("c"): Config([digest("d"), digest("e")]),
    }
    image = image_of(documents, documents)
    assert image.targets == (digest("1"), digest("3"))
    assert [(layer.digest, layer.size, layer.chain_ids) for layer in image.layers] == [
        (digest("a"), 10, (digest("d"),)),
        (digest("b"), 20, (digest("e"),)),
    ]


def test_an_attestation_that_was_not_fetched_does_not_add_layers():
    attestation = manifest("f", ("9", 1))
    documents = {
        digest("1"): Index([Descriptor(digest("3"), 1), Descriptor(digest("8"), 1)]),
        digest("3"): manifest("c", ("a", 10)),
        digest("8"): attestation,
    }
    image = image_of([digest("1"), digest("3")], documents)
    assert [layer.digest for layer in image.layers] == [digest("a")]


def test_a_layer_that_appears_twice_is_one_blob_with_two_chain_ids():
    documents = {
        digest("3"): manifest("c", ("a", 10), ("b", 20), ("a", 10)),
        digest("c"): Config([digest("d"), digest("e"), digest("f")]),
    }
    image = image_of(documents, documents)
    assert [layer.chain_ids for layer in image.layers] == [(digest("d"), digest("f")), (digest("e"),)]


def test_no_chain_ids_are_derived_from_a_config_that_does_not_match_its_manifest():
    documents = {digest("3"): manifest("c", ("a", 10)), digest("c"): Config([digest("d"), digest("e")])}
    assert image_of(documents, documents).layers[0].chain_ids == ()


def test_the_source_of_an_image_is_the_only_repository_that_all_its_manifests_and_configs_share():
    documents = digest("3"), digest("c"), digest("e")
    shared = Blob(5, 50.0, frozenset({("docker.io", "library/a"), ("docker.io", "library/b")}))
    own = Blob(5, 101.0, frozenset({("docker.io", "library/b")}))
    assert source_of(documents, {digest("3"): own, digest("c"): shared}) == ("docker.io", "library/b")
    assert source_of(documents, {digest("3"): shared, digest("c"): shared}) is None, "two repositories are possible"
    assert source_of(documents, {digest("3"): own, digest("c"): Blob(5, 50.0)}) is not None, "one blob has no label yet"
    assert source_of(documents, {}) is None


def test_a_layer_is_shown_as_waiting_while_the_offset_of_its_ingest_is_zero():
    progress = Progress(Layer(digest("a"), "", 100))
    progress.see_ingest(ingest(0), SINCE, None, 102.0)
    assert progress.phase is LayerPhase.WAITING
    progress.see_ingest(ingest(10), SINCE, None, 110.0)
    assert (progress.phase, progress.downloaded, progress.started_at) == (LayerPhase.DOWNLOADING, 10, 110.0)


def test_the_bytes_of_a_resumed_ingest_are_counted_from_the_offset_at_which_it_was_first_seen():
    progress = Progress(Layer(digest("a"), "", 100))
    progress.see_ingest(ingest(60, started_at=50.0), SINCE, None, 102.0)
    progress.see_ingest(ingest(75, started_at=50.0), SINCE, None, 103.0)
    assert (progress.cached, progress.downloaded) == (60, 15)
    progress.see_blob(Blob(100, 104.0), SINCE, None)
    assert (progress.cached, progress.downloaded) == (60, 40)


def test_the_reported_bytes_do_not_decrease_when_the_offset_of_the_ingest_decreases():
    progress = Progress(Layer(digest("a"), "", 100))
    progress.see_ingest(ingest(60), SINCE, None, 102.0)
    progress.see_ingest(ingest(10), SINCE, None, 103.0)
    assert progress.downloaded == 60


def test_the_bytes_counted_for_an_ingest_never_exceed_the_size_of_the_layer():
    progress = Progress(Layer(digest("a"), "", 100))
    progress.see_ingest(ingest(160), SINCE, None, 102.0)
    assert progress.downloaded == 100


def see_snapshots(progress, *times, owner=None, delivery=Delivery.UNKNOWN, absence=None):
    progress.see_snapshots([Snapshot(time, delivery) for time in times], SINCE, owner, absence)


def amounts(progress):
    return progress.phase, progress.downloaded, progress.cached


def test_a_layer_is_not_shown_as_extracting_until_its_blob_is_complete_even_if_its_snapshot_is_prepared():
    progress = Progress(Layer(digest("a"), "", 100, (digest("d"),)))
    progress.see_unpacking(110.0)
    assert progress.phase is LayerPhase.WAITING
    progress.see_blob(Blob(100, 104.0), SINCE, None)
    progress.see_unpacking(110.0)
    assert (progress.phase, progress.extract_started_at) == (LayerPhase.EXTRACTING, 110.0)
    see_snapshots(progress, 112.0)
    assert (progress.phase, progress.extracted_at) == (LayerPhase.EXTRACTED, 112.0)


def test_unpacking_never_starts_before_the_blob_is_committed_even_if_the_snapshot_was_prepared_earlier():
    progress = Progress(Layer(digest("a"), "", 100, (digest("d"),)))
    progress.see_blob(Blob(100, 110.2), SINCE, None)
    progress.see_unpacking(110.0)
    assert progress.extract_started_at == 110.2


def test_a_layer_counts_as_cached_if_its_snapshot_is_older_than_the_lease():
    progress = Progress(Layer(digest("a"), "", 100, (digest("d"),)))
    see_snapshots(progress, 50.0)
    assert amounts(progress) == (LayerPhase.CACHED, 0, 100)


def test_a_layer_is_counted_as_downloaded_by_another_pull_if_that_pull_unpacked_it():
    progress = Progress(Layer(digest("a"), "", 100, (digest("d"),)))
    see_snapshots(progress, 105.0, owner="other")
    assert amounts(progress) == (LayerPhase.EXTRACTED, 100, 0)
    assert progress.fetched_by == "other"


def test_a_layer_is_shown_as_waiting_until_it_is_known_whether_its_blob_is_missing():
    progress = Progress(Layer(digest("a"), "", 100, (digest("d"),)))
    see_snapshots(progress, 105.0)
    assert amounts(progress) == (LayerPhase.WAITING, 0, 0)
    progress.see_blob(Blob(100, 104.0), SINCE, None)
    see_snapshots(progress, 105.0)
    assert amounts(progress) == (LayerPhase.EXTRACTED, 100, 0)


@pytest.mark.parametrize(
    ("absence", "expected", "fetched_by"),
    [
        (Absence.STAGED, (LayerPhase.CACHED, 0, 100), None),
        (Absence.DISCARDED, (LayerPhase.EXTRACTED, 100, 0), None),
        (Absence.SNAPSHOTTER, (LayerPhase.EXTRACTED, 100, 0), SNAPSHOTTER),
    ],
)
def test_the_reason_why_a_blob_is_missing_determines_how_its_bytes_are_counted(absence, expected, fetched_by):
    progress = Progress(Layer(digest("a"), "", 100, (digest("d"),)))
    see_snapshots(progress, 105.0, absence=absence)
    assert amounts(progress) == expected
    assert (progress.fetched_by, progress.extracted_at) == (fetched_by, 105.0)


@pytest.mark.parametrize("seen_before", [False, True])
def test_a_streamed_layer_does_not_count_as_downloaded_or_cached_even_if_a_poll_saw_it_being_fetched(seen_before):
    progress = Progress(Layer(digest("a"), "", 100, (digest("d"),)))
    if seen_before:
        progress.see_snapshotter(None, 104.0)
        assert (progress.phase, progress.fetched_by) == (LayerPhase.DOWNLOADING, SNAPSHOTTER)
    see_snapshots(progress, 105.0, delivery=Delivery.STREAMED)
    progress.end(completed=True)
    assert amounts(progress) == (LayerPhase.REMOTE, 0, 0)
    assert progress.fetched_by is None


def test_a_streamed_layer_does_not_count_as_cached_even_if_its_blob_was_already_on_the_node():
    progress = Progress(Layer(digest("a"), "", 100, (digest("d"),)))
    progress.see_blob(Blob(100, 50.0), SINCE, None)
    see_snapshots(progress, 105.0, delivery=Delivery.STREAMED)
    assert amounts(progress) == (LayerPhase.REMOTE, 0, 0)


def test_a_layer_that_a_guest_will_fetch_is_attributed_to_the_guest():
    progress = Progress(Layer(digest("a"), "", 100, (digest("d"),)))
    see_snapshots(progress, 105.0, delivery=Delivery.GUEST)
    assert (progress.phase, progress.fetched_by) == (LayerPhase.REMOTE, GUEST)


@pytest.mark.parametrize("seen_before", [False, True])
def test_a_layer_fetched_by_the_snapshotter_is_counted_as_downloaded_when_it_is_committed(seen_before):
    progress = Progress(Layer(digest("a"), "", 100, (digest("d"),)))
    if seen_before:
        progress.see_snapshotter(None, 104.0)
        assert amounts(progress) == (LayerPhase.DOWNLOADING, 0, 0)
    see_snapshots(progress, 105.0, delivery=Delivery.FETCHED)
    assert amounts(progress) == (LayerPhase.EXTRACTED, 100, 0)
    assert progress.fetched_by == SNAPSHOTTER


def test_a_blob_that_the_snapshotter_copies_to_containerd_is_not_counted_again():
    progress = Progress(Layer(digest("a"), "", 100, (digest("d"),)))
    progress.see_snapshotter(None, 104.0)
    progress.see_blob(Blob(100, 104.5), SINCE, None)
    see_snapshots(progress, 105.0, delivery=Delivery.FETCHED)
    assert amounts(progress) == (LayerPhase.EXTRACTED, 100, 0)
    assert progress.fetched_by == SNAPSHOTTER


def test_a_blob_that_was_already_on_the_node_stays_cached_even_if_the_snapshotter_prepared_the_layer():
    progress = Progress(Layer(digest("a"), "", 100, (digest("d"),)))
    progress.see_blob(Blob(100, 50.0), SINCE, None)
    see_snapshots(progress, 105.0, delivery=Delivery.FETCHED)
    assert amounts(progress) == (LayerPhase.EXTRACTED, 0, 100)


def test_a_layer_waits_for_containerd_to_fetch_it_if_the_snapshotter_declines_it():
    progress = Progress(Layer(digest("a"), "", 100, (digest("d"),)))
    progress.see_snapshotter(None, 104.0)
    progress.see_no_fetch()
    assert (progress.phase, progress.fetched_by, progress.started_at) == (LayerPhase.WAITING, None, None)


def test_layers_are_no_longer_counted_as_cached_once_they_turn_out_to_be_in_the_wrong_snapshotter():
    progress = Progress(Layer(digest("a"), "", 100, (digest("d"),)))
    see_snapshots(progress, 50.0)
    progress.see_other_snapshotter()
    assert amounts(progress) == (LayerPhase.WAITING, 0, 0)
    assert not progress.complete


def test_a_layer_is_no_longer_counted_as_cached_if_it_must_be_fetched_again():
    progress = Progress(Layer(digest("a"), "", 100))
    progress.see_blob(Blob(100, 50.0), SINCE, None)
    assert progress.phase is LayerPhase.CACHED
    progress.see_collected()
    progress.see_ingest(ingest(10), SINCE, None, 102.0)
    assert (progress.phase, progress.cached, progress.downloaded) == (LayerPhase.DOWNLOADING, 0, 10)


def test_the_total_size_is_unknown_if_a_pull_of_all_platforms_has_too_many_layers():
    layers = tuple(Layer(f"sha256:{number:064x}", "", 100, (f"chain-{number}",)) for number in range(MAX_LAYERS + 1))
    for count, known in ((MAX_LAYERS, True), (MAX_LAYERS + 1, False)):
        image = Image(("sha256:i",), ("sha256:i",), "sha256:m", "", layers[:count], config_read=True)
        pull = Pull(Lease("lease", SINCE), inherited=False, moved_at=0.0, image=image)
        pull.take_layers({})
        assert {pull.state(phase).total_known for phase in (PullPhase.DOWNLOADING, PullPhase.COMPLETED)} == {known}
        assert len(pull.state(PullPhase.DOWNLOADING).layers) == MAX_LAYERS
