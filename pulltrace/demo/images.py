"""Images with names, sizes and digests, but without layer content. Sans-I/O.

The index, the manifest and the config are real JSON documents that follow the OCI image spec
(https://github.com/opencontainers/image-spec).
"""

import json
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest_of(data: bytes) -> str:
    """Return the ``sha256:…`` digest of ``data``."""
    return "sha256:" + sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob in a registry. ``kind`` is the prefix of the blob's ingest ref. ``data`` is None for layers."""

    kind: str
    media_type: str
    digest: str
    size: int
    data: bytes | None = None

    @property
    def ref(self) -> str:
        """The ref of the ingest that containerd creates for this blob."""
        return f"{self.kind}-{self.digest}"

    @property
    def descriptor(self) -> dict[str, Any]:
        """The blob's descriptor, for use in a manifest or index."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer. Its compressed size is ``blob.size`` bytes, and its uncompressed size is ``unpacked`` bytes. ``diff_id``
    is the digest of the uncompressed tar archive.
    """

    blob: Blob
    diff_id: str
    unpacked: int


@dataclass(frozen=True)
class Image:
    """An image for a single platform. The ``index``, if there is one, also lists a platform that is never pulled."""

    layers: tuple[Layer, ...]
    manifest: Blob
    config: Blob
    index: Blob | None = None

    @property
    def target(self) -> Blob:
        """The blob that the image's name refers to: the index if there is one, otherwise the manifest."""
        return self.index or self.manifest

    @property
    def documents(self) -> tuple[Blob, ...]:
        """The index (if there is one), the manifest and the config, in the order in which they are fetched."""
        return tuple(blob for blob in (self.index, self.manifest, self.config) if blob)

    @property
    def size(self) -> int:
        """The compressed size of all layers, in bytes."""
        return sum(layer.blob.size for layer in self.layers)

    @cached_property
    def chain_ids(self) -> tuple[str, ...]:
        """The chain id of each layer: ``chain[n] = sha256("chain[n-1] diff[n]")``."""
        chain: list[str] = []
        for layer in self.layers:
            chain.append(digest_of(f"{chain[-1]} {layer.diff_id}".encode()) if chain else layer.diff_id)
        return tuple(chain)


def make_layer(name: str, size: int, *, ratio: float = 2.5) -> Layer:
    """Make a layer with this name and compressed size. ``ratio`` is the uncompressed size divided by ``size``."""
    blob = Blob("layer", LAYER, digest_of(f"layer {name} {size}".encode()), size)
    return Layer(blob, digest_of(f"tar {name} {size}".encode()), int(size * ratio))


def make_image(name: str, *layers: Layer, multi_arch: bool = True) -> Image:
    """Make an image from its name and its layers, starting with the base layer. ``multi_arch`` adds an index."""
    config = _document(
        "config",
        CONFIG,
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"org.opencontainers.image.title": name}},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        },
    )
    manifest = _document(
        "manifest",
        MANIFEST,
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor,
            "layers": [layer.blob.descriptor for layer in layers],
        },
    )
    index = make_index(manifest, name) if multi_arch else None
    return Image(layers, manifest, config, index)


def make_index(manifest: Blob, name: str) -> Blob:
    """Make an index that lists the given manifest for amd64, and a nonexistent manifest for arm64."""
    other = manifest.descriptor | {"digest": digest_of(f"arm64 {name}".encode())}
    children = [
        child | {"platform": {"os": "linux", "architecture": architecture}}
        for child, architecture in ((manifest.descriptor, "amd64"), (other, "arm64"))
    ]
    return _document("index", INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": children})


def _document(kind: str, media_type: str, content: dict[str, Any]) -> Blob:
    data = json.dumps(content, separators=(",", ":")).encode()
    return Blob(kind, media_type, digest_of(data), len(data), data)
