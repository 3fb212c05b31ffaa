"""Tests for leases under which an image is imported from an archive, and for the leases that unpack such an image."""

import pytest

from pulltrace.demo.images import make_image, make_layer
from pulltrace.wire import UNKNOWN_IMAGE, ErrorReason, PullPhase
from tests.agent.archive_import import ArchiveImport, Unpacking, write_layers
from tests.agent.conftest import HOST, MIB
from tests.agent.follow import downloaded, layers, to_fetch

NAME = f"{HOST}/imported:1"


@pytest.fixture(params=[False, True], ids=["OCI archive", "Docker archive"])
def start_import(watched, request):
    """Return a function that starts an import into the watched node."""
    return lambda: ArchiveImport(watched.node, docker=request.param)


def an_image(name: str = "imported", *sizes: int) -> object:
    return make_image(name, *(make_layer(f"{name}-{size}", size * MIB) for size in sizes or (4, 9)), multi_arch=False)


def polls_of(watched):
    while True:
        watched.polls(1)
        yield


def shown(watched) -> set[tuple[str, bool, str | None]]:
    """Return the image name, the ``imported`` flag and the registry of each reported pull state."""
    states = [state for history in watched.history.values() for state in history]
    return {(state.image_ref, state.imported, state.registry) for state in states}


def test_an_import_is_shown_as_an_import_and_completes_under_its_own_name(watched, start_import):
    image, importing = an_image(), start_import()
    write_layers(importing, image, polls_of(watched))
    assert [pull.status for pull in watched.live] == [PullPhase.DOWNLOADING]
    importing.end({NAME: image})
    watched.polls(2)
    (ended,) = watched.ended
    assert (ended.status, ended.image_ref, ended.ref_guessed) == (PullPhase.COMPLETED, NAME, False)
    assert set(layers(ended)) == {layer.blob.digest for layer in image.layers}
    assert downloaded(ended) == image.size
    assert shown(watched) == {(UNKNOWN_IMAGE, True, None), (NAME, True, None)}


def test_the_byte_count_of_an_import_grows_while_its_total_size_is_unknown(watched, start_import):
    image, importing = an_image(), start_import()
    write_layers(importing, image, polls_of(watched))
    (history,) = watched.history.values()
    reported = [downloaded(pull) for pull in history]
    assert reported == sorted(reported)
    assert reported[-1] == image.size
    assert not any(pull.total_known for pull in history)


def test_every_byte_of_an_import_counts_even_if_the_lease_lists_the_ingest_late(watched, start_import):
    image, importing = an_image(), start_import()
    layer = image.layers[0].blob
    ref = importing.begin(layer)
    del importing.lease.resources["ingests", ref]
    watched.polls(2)
    importing.lease.resources["ingests", ref] = None
    importing.grow(ref, MIB)
    watched.polls(2)
    write_layers(importing, image, polls_of(watched))
    importing.end({NAME: image})
    watched.polls(2)
    assert [(downloaded(pull), to_fetch(pull)) for pull in watched.ended] == [(image.size, image.size)]


@pytest.mark.parametrize("seen", ["nothing", "one layer"])
def test_an_import_is_shown_as_completed_even_if_it_ends_shortly_after_a_poll(watched, start_import, seen):
    image, importing = an_image(), start_import()
    if seen == "one layer":
        importing.begin(image.layers[0].blob, MIB)
    watched.polls(2, every=0.1)
    for layer in image.layers:
        importing.commit(layer.blob)
    importing.end({NAME: image})
    watched.polls(2)
    assert [(pull.status, pull.image_ref) for pull in watched.ended] == [(PullPhase.COMPLETED, NAME)]


def test_an_archive_with_several_images_is_shown_as_one_import_without_a_name(watched, start_import):
    base = make_layer("base", 5 * MIB)
    images = {
        f"{HOST}/part{number}:1": make_image(f"part{number}", base, make_layer(f"top{number}", MIB), multi_arch=False)
        for number in range(4)
    }
    importing = start_import()
    for image in images.values():
        write_layers(importing, image, polls_of(watched))
    importing.end(images)
    watched.polls(2)
    (ended,) = watched.ended
    assert (ended.status, ended.image_ref, ended.ref_guessed) == (PullPhase.COMPLETED, UNKNOWN_IMAGE, False)
    assert downloaded(ended) == 9 * MIB
    assert len(watched.history) == 1


def test_an_archived_image_with_several_tags_is_named_after_one_of_the_tags(watched, start_import):
    image, importing = an_image(), start_import()
    write_layers(importing, image, polls_of(watched))
    importing.end({NAME: image, f"{HOST}/imported:latest": image})
    watched.polls(2)
    (ended,) = watched.ended
    assert ended.status is PullPhase.COMPLETED
    assert ended.image_ref in (NAME, f"{HOST}/imported:latest")


def test_an_interrupted_import_counts_as_cancelled(watched, start_import):
    importing = start_import()
    importing.begin(an_image().layers[0].blob, MIB)
    watched.polls(2)
    importing.abort()
    watched.polls(2)
    (ended,) = watched.ended
    assert (ended.status, ended.error_reason, ended.imported) == (PullPhase.FAILED, ErrorReason.CANCELED, True)


def test_an_import_has_no_registry_even_if_its_blobs_came_from_a_registry(watched, start_import, push):
    ref, image = push("app:1", ("app", 10), multi_arch=False)
    watched.node.pull(ref)
    watched.until(lambda: watched.ended)
    more = make_layer("more", 9 * MIB)
    importing = start_import()
    importing.begin(more.blob, MIB)
    watched.polls(2)
    importing.commit(more.blob)
    importing.end({NAME: make_image("imported", *image.layers, more, multi_arch=False)})
    watched.polls(2)
    assert [(pull.image_ref, pull.registry) for pull in watched.ended] == [(ref, HOST), (NAME, None)]


def test_a_pull_during_an_import_keeps_its_own_name(watched, start_import, push):
    ref, _ = push("app:1", ("app", 12))
    image, importing = an_image(), start_import()
    importing.begin(image.layers[0].blob, MIB)
    watched.node.pull(ref)
    watched.polls(1)
    for layer in image.layers:
        importing.commit(layer.blob)
    importing.end({NAME: image})
    watched.until(lambda: len(watched.ended) == 2)
    assert {(pull.image_ref, pull.imported, pull.status) for pull in watched.ended} == {
        (ref, False, PullPhase.COMPLETED),
        (NAME, True, PullPhase.COMPLETED),
    }


def test_unpacking_an_imported_image_does_not_count_as_a_pull(watched, start_import):
    image, importing = an_image(), start_import()
    write_layers(importing, image, polls_of(watched))
    importing.end({NAME: image})
    watched.polls(1)
    unpacking = Unpacking(watched.node, image)
    watched.polls(3)
    unpacking.commit()
    watched.polls(3)
    watched.node.release(unpacking.lease)
    watched.polls(2)
    assert set(watched.history) == {importing.lease.id}


@pytest.mark.parametrize("polls", [0, 1, 3])
@pytest.mark.parametrize("written", [("by image id",), ("by name",), ("by image id", "by name")])
def test_unpacking_an_imported_image_does_not_count_as_a_pull_even_if_a_poll_saw_its_empty_lease(
    watched, start_import, written, polls
):
    """While the image is being unpacked, the CRI plugin writes a record whose name is the image id, and then adds its
    label to the imported image's record.
    """
    image, importing = an_image(), start_import()
    write_layers(importing, image, polls_of(watched))
    importing.end({NAME: image})
    watched.polls(polls)
    lease = watched.node.new_lease()
    watched.polls(1)
    watched.node.advance(0.5)
    names = {"by image id": image.config.digest, "by name": NAME}
    for kind in written:
        watched.node.store.record(names[kind], image, watched.node.now)
    watched.node.release(lease)
    watched.polls(3)
    assert set(watched.history) == {importing.lease.id}


class ImportAgain:
    """Imports an archive of an image that the node has already pulled. ``seen`` contains the steps after which the
    agent polls.

    ``order`` selects the order of the writes. With ``client``, the image is unpacked under a second lease, and the CRI
    plugin adds its label before the image has been unpacked. With ``busy node``, the CRI plugin adds its label only
    after the image has been unpacked. With ``transfer service``, the image is unpacked under the first lease, before
    its record is written.
    """

    def __init__(self, watched, ref, image, order="client"):
        self.watched, self.ref, self.image, self.order = watched, ref, image, order
        self.node = watched.node

    def run(self, seen):
        importing = ArchiveImport(self.node)
        self._step("an empty lease", seen)
        for layer in self.image.layers:
            importing.commit(layer.blob)
        self._step("only layers", seen)
        for blob in self.image.documents:
            importing.commit(blob)
        self._step("content", seen)
        if self.order == "transfer service":
            self.node.store.content[self.image.config.digest].updated_at = self.node.now + 0.01
        importing.end({self.ref: self.image})
        self._step("the record", seen)
        lease = self.node.new_lease()
        self._step("the lease of the unpacking", seen)
        steps = [self._label_record, self._label_config]
        for step in reversed(steps) if self.order == "busy node" else steps:
            step()
            self.node.advance(0.05)
        self.node.release(lease)

    def _label_record(self):
        """Update the record, as the CRI plugin does to add its label."""
        self.node.store.record(self.ref, self.image, self.node.now)

    def _label_config(self):
        if self.order != "transfer service":
            self.node.store.content[self.image.config.digest].updated_at = self.node.now

    def _step(self, name, seen):
        self.node.advance(0.05)
        if name in seen:
            self.watched.poll()


@pytest.mark.parametrize(
    "seen",
    [
        (),
        ("an empty lease",),
        ("the record",),
        ("the lease of the unpacking",),
        ("an empty lease", "the lease of the unpacking"),
        ("an empty lease", "the record", "the lease of the unpacking"),
    ],
)
@pytest.mark.parametrize("order", ["client", "busy node", "transfer service"])
@pytest.mark.parametrize("multi_arch", [False, True])
def test_importing_an_image_does_not_count_as_a_pull_if_it_was_already_pulled(watched, push, seen, multi_arch, order):
    ref, image = push("app:1", ("app", 1), multi_arch=multi_arch)
    watched.node.pull(ref)
    watched.until(lambda: watched.ended)
    watched.polls(2)
    ImportAgain(watched, ref, image, order).run(seen)
    watched.polls(3)
    assert len(watched.ended) == 1
    watched.node.pull(ref)
    watched.polls(4)
    assert [(pull.image_ref, pull.status, pull.imported) for pull in watched.ended] == 2 * [
        (ref, PullPhase.COMPLETED, False)
    ]


@pytest.mark.parametrize("order", ["client", "busy node", "transfer service"])
@pytest.mark.parametrize("seen", ["an empty lease", "only layers", "content"])
def test_importing_an_image_just_before_it_is_pulled_again_does_not_add_a_row(watched, push, registries, seen, order):
    for manner in registries.manners.values():
        manner.latency = 0.0
    ref, image = push("app:1", ("app", 1))
    watched.node.pull(ref)
    watched.until(lambda: watched.ended)
    watched.polls(2)
    ImportAgain(watched, ref, image, order).run((seen,))
    watched.node.pull(ref)
    watched.polls(4)
    assert [(pull.image_ref, pull.status) for pull in watched.ended] == 2 * [(ref, PullPhase.COMPLETED)]


@pytest.mark.parametrize("order", ["client", "busy node"])
@pytest.mark.parametrize("more", [(), ("the record",), ("the lease of the unpacking",)])
def test_importing_an_image_again_is_shown_as_an_import_if_a_poll_saw_the_content(watched, push, more, order):
    ref, image = push("app:1", ("app", 1))
    watched.node.pull(ref)
    watched.until(lambda: watched.ended)
    watched.polls(2)
    ImportAgain(watched, ref, image, order).run(("content", *more))
    watched.polls(3)
    assert [(pull.image_ref, pull.status, pull.imported) for pull in watched.ended] == [
        (ref, PullPhase.COMPLETED, False),
        (ref, PullPhase.COMPLETED, True),
    ]


def test_nothing_is_reported_if_the_transfer_service_may_have_imported_an_image_again(watched, push):
    """The transfer service makes the same writes in the same order for an import as for a pull."""
    ref, image = push("app:1", ("app", 1))
    watched.node.pull(ref)
    watched.until(lambda: watched.ended)
    watched.polls(2)
    ImportAgain(watched, ref, image, "transfer service").run(("content",))
    watched.polls(3)
    assert not watched.live
    assert [(pull.image_ref, pull.status) for pull in watched.ended] == [(ref, PullPhase.COMPLETED)]
