"""Tests with valid, invalid and malicious manifests, indexes and configs."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulltrace.agent.manifests import MAX_LAYERS, Config, Index, Manifest, chain_ids, parse

DIGEST = "sha256:" + "a" * 64


def descriptor(digest=DIGEST, size=10, **more):
    return {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": size, **more}


def manifest(**changes):
    return {"schemaVersion": 2, "config": descriptor(), "layers": [descriptor(size=7)], **changes}


def test_a_manifest_lists_its_layers_in_order():
    layers = [descriptor(f"sha256:{number:064x}", number) for number in (3, 1, 2)]
    parsed = parse(json.dumps(manifest(layers=layers)).encode())
    assert isinstance(parsed, Manifest)
    assert [layer.size for layer in parsed.layers] == [3, 1, 2]
    assert parsed.media_type == "application/vnd.oci.image.manifest.v1+json", "mediaType is optional in OCI"


def test_a_docker_schema_2_manifest_is_read_like_an_oci_manifest():
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    assert parse(json.dumps(manifest(mediaType=kind)).encode()).media_type == kind


def test_an_index_lists_its_manifests():
    parsed = parse(json.dumps({"manifests": [descriptor(platform={"os": "linux"})]}).encode())
    assert isinstance(parsed, Index)
    assert parsed.manifests[0].digest == DIGEST


def test_chain_ids_are_computed_as_the_oci_image_spec_requires():
    # According to the spec's config.md, the first chain id is the first diff id. Each later chain id is the sha256 of
    # the previous chain id, a space and the layer's diff id. For example, `printf 'a b' | sha256sum` prints the second
    # chain id.
    a_b = "sha256:c8687a08aa5d6ed2044328fa6a697ab8e96dc34291e8c2034ae8c38e6fcc6d65"
    assert chain_ids(["a"]) == ["a"]
    assert chain_ids(["a", "b"]) == ["a", a_b]
    assert len(chain_ids(["a", "b", "c"])) == 3
    assert chain_ids([]) == []


def test_chain_ids_are_computed_from_a_config():
    diffs = [f"sha256:{number:064x}" for number in range(3)]
    parsed = parse(json.dumps({"rootfs": {"type": "layers", "diff_ids": diffs}, "os": "linux"}).encode())
    assert isinstance(parsed, Config)
    assert parsed.chain_ids == chain_ids(diffs)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{}", id="an artifact's empty config"),
        pytest.param(b"\x1f\x8b\x08\x00 a layer", id="a layer"),
        pytest.param(b"\xff{", id="not UTF-8"),
        pytest.param(b"[" * 200_000, id="unclosed brackets"),
        pytest.param(b'{"a":' * 200_000, id="unclosed objects"),
        pytest.param(json.dumps(manifest(layers=[descriptor(size=-1)])).encode(), id="a negative size"),
        pytest.param(json.dumps(manifest(layers=[descriptor(size=2**60)])).encode(), id="an absurd size"),
        pytest.param(json.dumps(manifest(layers=[descriptor("../../etc/passwd")])).encode(), id="a path as digest"),
        pytest.param(json.dumps(manifest(layers=[descriptor()] * (MAX_LAYERS + 1))).encode(), id="too many layers"),
        pytest.param(json.dumps({"manifests": [descriptor()] * (MAX_LAYERS + 1)}).encode(), id="too many platforms"),
        pytest.param(json.dumps(manifest(mediaType="a" * 5000)).encode(), id="a long media type"),
        pytest.param(
            json.dumps(manifest(config=descriptor(mediaType="a" * 5000))).encode(), id="a long media type of a config"
        ),
        pytest.param(json.dumps(manifest(config=descriptor("a" * 5000 + DIGEST))).encode(), id="a long digest"),
        pytest.param(b'{"rootfs":{"diff_ids":"many"}}', id="a string instead of a list"),
    ],
)
def test_invalid_bytes_are_not_parsed_as_a_document(data):
    assert parse(data) is None


@given(st.binary(max_size=400) | st.recursive(st.none() | st.text(), st.lists).map(lambda x: json.dumps(x).encode()))
def test_parsing_arbitrary_bytes_never_raises_an_exception(data):
    parse(data)
