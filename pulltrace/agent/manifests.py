"""Parse an image's JSON documents (index, manifest, config) into layers, sizes and chain ids. Sans-I/O.

The documents follow the OCI image spec (https://github.com/opencontainers/image-spec) or Docker's schema 2, which has
the same fields. Each document is recognised by its fields, because ``mediaType`` is optional in the OCI spec.
"""

from hashlib import sha256
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from pulltrace.wire import MAX_LAYERS

# Strings from these documents end up in reports, and the server rejects the whole report if one of them is too long.
_Digest = Annotated[str, Meta(pattern=r"\A[a-z0-9]{1,32}:[0-9a-f]{32,128}\Z")]
# According to RFC 6838 (4.2), a media type consists of two names of up to 127 characters each, joined by a slash.
_MediaType = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9!#$&^_.+/;= -]{0,255}\Z")]
_Size = Annotated[int, Meta(ge=0, le=2**53)]


class Descriptor(Struct, frozen=True, rename="camel"):
    """A reference to a blob: its media type, its digest, and its exact compressed size in bytes."""

    digest: _Digest
    size: _Size
    media_type: _MediaType = ""


class Index(Struct, frozen=True, rename="camel"):
    """An image for several platforms, with one manifest per platform."""

    manifests: Annotated[list[Descriptor], Meta(max_length=MAX_LAYERS)]
    media_type: _MediaType = "application/vnd.oci.image.index.v1+json"


class Manifest(Struct, frozen=True, rename="camel"):
    """An image for one platform: the config and the layers, starting with the base layer."""

    config: Descriptor
    layers: Annotated[list[Descriptor], Meta(max_length=MAX_LAYERS)]
    media_type: _MediaType = "application/vnd.oci.image.manifest.v1+json"


class _RootFS(Struct, frozen=True):
    diff_ids: Annotated[list[_Digest], Meta(max_length=MAX_LAYERS)]


class _Config(Struct, frozen=True):
    rootfs: _RootFS


class Config(Struct, frozen=True):
    """An image's config, reduced to the chain id of each layer. A layer's chain id is also its snapshot's name."""

    chain_ids: list[str]


Document = Index | Manifest | Config

_DECODERS: tuple[msgspec.json.Decoder[Manifest | Index | _Config], ...] = tuple(
    msgspec.json.Decoder(shape) for shape in (Manifest, Index, _Config)
)


def parse(data: bytes) -> Document | None:
    """Return the document that these bytes contain; None if the bytes are invalid or exceed the limits above."""
    for decoder in _DECODERS:
        try:
            document = decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        return Config(chain_ids(document.rootfs.diff_ids)) if isinstance(document, _Config) else document
    return None


def chain_ids(diff_ids: list[str]) -> list[str]:
    """Return the chain ids: ``chain[0] = diff[0]``, ``chain[n] = sha256("chain[n-1] diff[n]")`` (OCI image spec,
    config.md).
    """
    chain = diff_ids[:1]
    for diff_id in diff_ids[1:]:
        chain.append("sha256:" + sha256(f"{chain[-1]} {diff_id}".encode()).hexdigest())
    return chain
