"""Tests for the order of writes and the CRI plugin's label, which distinguish pulls of cached images from imports."""

from dataclasses import replace

import pytest

from pulltrace.agent.attribution import Image
from pulltrace.agent.model import Blob, Facts, Lease, Write
from pulltrace.agent.origin import Origin, origin_of
from pulltrace.agent.pull import Pull
from pulltrace.agent.records import Name, RecordLedger
from tests.agent.test_conclusion import CONFIG, LAYER, TARGET
from tests.agent.test_conclusion import IMAGE as IMAGE_OF_MANIFEST

BEFORE, BEGAN = 50.0, 100.0
REFERENCE = "registry.test/app:1"
IMAGE = replace(IMAGE_OF_MANIFEST, documents=(TARGET, CONFIG))
SOURCES = frozenset({("registry.test", "app")})


def origin(
    manifest: float | None,
    config: float | None,
    *writes: Write,
    guessed: bool = False,
    image: Image | None = IMAGE,
    downloaded: bool = False,
) -> Origin:
    """Return how the client obtained a cached image. ``manifest`` and ``config`` are the times at which these blobs
    were labelled (None if unknown), and ``writes`` are the writes of the image record.
    """
    facts, ledger = Facts(), RecordLedger()
    for digest, labelled_at in ((TARGET, manifest), (CONFIG, config)):
        if labelled_at is not None:
            facts.blobs[digest] = Blob(10, BEFORE, SOURCES, labelled_at)
    if downloaded:
        facts.blobs[LAYER] = Blob(10, BEGAN + 1, SOURCES)
    ledger.see_writes({REFERENCE: writes})
    pull = Pull(Lease("1-abcd", BEGAN), inherited=False, moved_at=BEGAN, image=image, guessed=guessed)
    pull.take_layers({})
    return origin_of(pull, Name(REFERENCE, guessed=False, written_at=writes[-1].at), facts, ledger)


FOREIGN = Write(103.0, foreign=True)
LABEL_ADDED = Write(106.0)


@pytest.mark.parametrize(
    ("manifest", "config", "writes", "expected"),
    [
        pytest.param(101.0, 102.0, [Write(103.0)], Origin.PULL, id="a pull"),
        pytest.param(101.0, BEFORE, [Write(103.0)], Origin.IMPORT, id="an import, not yet unpacked"),
        pytest.param(101.0, 104.0, [Write(103.0)], Origin.IMPORT, id="an import that was unpacked afterwards"),
        pytest.param(
            101.0, 104.0, [FOREIGN, LABEL_ADDED], Origin.IMPORT, id="the same, and the CRI plugin added its label"
        ),
        pytest.param(BEFORE, 104.0, [Write(103.0)], Origin.IMPORT, id="the unpacking of an import"),
        pytest.param(101.0, 102.0, [FOREIGN], Origin.UNKNOWN, id="the transfer service"),
        pytest.param(
            101.0, 102.0, [FOREIGN, LABEL_ADDED], Origin.UNKNOWN, id="the same, and the CRI plugin added its label"
        ),
    ],
)
@pytest.mark.parametrize("guessed", [False, True])
def test_the_write_order_and_the_label_of_the_cri_plugin_distinguish_pulls_from_imports(
    manifest, config, writes, expected, guessed
):
    assert origin(manifest, config, *writes, guessed=guessed) is expected


@pytest.mark.parametrize(
    ("manifest", "config"),
    [
        pytest.param(104.0, 105.0, id="another pull has labelled both"),
        pytest.param(104.0, 102.0, id="another pull has labelled the manifest"),
        pytest.param(102.5, 102.0, id="another pull labelled the manifest before the record was written"),
        pytest.param(101.0, None, id="the config is not known"),
        pytest.param(None, 102.0, id="the manifest is not known"),
    ],
)
@pytest.mark.parametrize(("guessed", "expected"), [(False, Origin.PULL), (True, Origin.UNKNOWN)])
def test_an_image_with_an_unknown_write_order_counts_as_pulled_only_if_polls_have_seen_it(
    manifest, config, guessed, expected
):
    assert origin(manifest, config, Write(103.0), guessed=guessed) is expected


def test_an_image_counts_as_pulled_if_one_of_its_layers_was_downloaded():
    assert origin(101.0, BEFORE, Write(103.0), downloaded=True) is Origin.PULL


def test_an_image_counts_as_pulled_if_there_is_no_evidence_of_its_origin():
    assert origin(None, None, Write(103.0), guessed=True) is Origin.PULL
    assert origin(101.0, BEFORE, Write(103.0), image=None) is Origin.PULL
