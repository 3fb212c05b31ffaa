"""Tests for ingest refs, digests and leases in the forms that various versions of containerd and its clients write."""

import pytest

from pulltrace.agent.identifiers import EXPIRE_LABEL, digest_of, is_digest, lease_of

HEX = "0123456789abcdef"
SHA256, SHA384, SHA512 = "sha256:" + HEX * 4, "sha384:" + HEX * 6, "sha512:" + HEX * 8
CREATED = 1_795_981_688.035  # 2026-11-29T19:48:08Z
TOMORROW = "2026-11-30T19:48:08Z"


@pytest.mark.parametrize("digest", [SHA256, SHA384, SHA512])
def test_the_digest_of_a_download_is_found_in_its_ref_for_every_algorithm(digest):
    for kind in ("layer", "manifest", "index", "config", "attestation", "unknown"):
        assert digest_of(f"{kind}-{digest}") == digest
    assert digest_of(f"layer-registry.test/app:1@{digest}") == digest
    assert digest_of(digest) == digest
    assert digest_of("tar-blobs/" + digest.replace(":", "/")) == digest
    assert is_digest(digest)


def test_a_file_in_a_docker_archive_is_identified_by_its_ref():
    assert digest_of(f"tar-{HEX * 4}/layer.tar") == f"tar-{HEX * 4}/layer.tar"
    assert not is_digest(f"tar-{HEX * 4}/layer.tar")


@pytest.mark.parametrize("ref", ["", "upload", "layer-", "layer-sha256:short", f"{SHA256}-more", "buildkit-abc"])
def test_no_digest_is_found_in_a_ref_without_a_valid_digest(ref):
    assert digest_of(ref) is None


@pytest.mark.parametrize("lease_id", ["35772828-LjHK", "7-_a-Z", "464355156-tPvV"])
@pytest.mark.parametrize("expires", [TOMORROW, "2026-11-30T20:48:08+01:00", "2026-11-30T19:48:09Z"])
def test_a_pull_lease_has_the_default_id_format_lifetime_and_labels(lease_id, expires):
    lease = lease_of(lease_id, CREATED, {EXPIRE_LABEL: expires})
    assert (lease.expires, lease.is_default) == (True, True)


@pytest.mark.parametrize(
    ("lease_id", "labels"),
    [
        pytest.param("x", {EXPIRE_LABEL: TOMORROW}, id="a custom id"),
        pytest.param("35772828-LjHK", {EXPIRE_LABEL: "2026-11-29T20:48:08Z"}, id="an expiry after an hour"),
        pytest.param("35772828-LjHK", {EXPIRE_LABEL: "soon"}, id="an expiry that is not a time"),
        pytest.param("35772828-LjHK", {EXPIRE_LABEL: TOMORROW, "buildkit/lease.temporary": ""}, id="additional labels"),
        pytest.param("q3ruz6ppnmy2y91p8kpj9avkb", {EXPIRE_LABEL: TOMORROW}, id="an id of BuildKit"),
    ],
)
def test_an_image_builder_lease_differs_in_its_id_format_lifetime_or_labels(lease_id, labels):
    lease = lease_of(lease_id, CREATED, labels)
    assert (lease.expires, lease.is_default) == (True, False)


def test_a_sandbox_lease_never_expires():
    lease = lease_of("35772828-LjHK", CREATED, {})
    assert (lease.expires, lease.is_default) == (False, False)
