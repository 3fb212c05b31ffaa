"""Images built in memory. The layers are gzipped tars of random bytes, and several images can share a layer."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MIB = 1 << 20
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


@dataclass(frozen=True, slots=True)
class Blob:
    """A sequence of bytes with a media type and a digest."""

    data: bytes
    media_type: str
    algorithm: str = "sha256"

    @property
    def digest(self) -> str:
        return f"{self.algorithm}:{hashlib.new(self.algorithm, self.data).hexdigest()}"

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def descriptor(self) -> dict[str, object]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class Layer:
    """A compressed layer, and the digest of its uncompressed tar."""

    blob: Blob
    diff_id: str

    @property
    def digest(self) -> str:
        return self.blob.digest

    @property
    def size(self) -> int:
        """The compressed size in bytes."""
        return self.blob.size


@dataclass(frozen=True, slots=True)
class Image:
    """A manifest with its config and layers."""

    manifest: Blob
    config: Blob
    layers: tuple[Layer, ...]

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @property
    def size(self) -> int:
        """The compressed size of all layers in bytes."""
        return sum(layer.size for layer in self.layers)

    @property
    def chain_ids(self) -> tuple[str, ...]:
        """The chain ids of the layers, in manifest order."""
        chain: list[str] = []
        for layer in self.layers:
            joined = f"{chain[-1]} {layer.diff_id}" if chain else layer.diff_id
            chain.append("sha256:" + hashlib.sha256(joined.encode()).hexdigest() if chain else joined)
        return tuple(chain)


def make_layer(size: int, *, zeros: int = 0, files: int = 1, algorithm: str = "sha256") -> Layer:
    """Make a layer with about `size` random bytes, split across the given number of `files`.

    Unless `zeros` is 0, one additional file consists of this many null bytes. Null bytes are quick to download but slow
    to unpack.
    """
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for number in range(files):
            content = os.urandom(size // files)
            info = tarfile.TarInfo(f"{content[:8].hex()}-{number}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    # Random bytes cannot be compressed, and storing the bytes uncompressed is much faster.
    if not zeros:
        return _layer(tar.getvalue(), compresslevel=0, algorithm=algorithm)
    info = tarfile.TarInfo(f"{os.urandom(8).hex()}-zeros")
    info.size = zeros
    # Concatenated gzip files form a valid gzip file, so compress one MiB of zeros and repeat the result.
    block, count = bytes(MIB), zeros // MIB
    header, rest = info.tobuf(), bytes(zeros % MIB + -zeros % tarfile.BLOCKSIZE) + tar.getvalue()
    packed = _gzip(header) + count * _gzip(block) + _gzip(rest)
    plain = hashlib.sha256(header)
    for _ in range(count):
        plain.update(block)
    plain.update(rest)
    return Layer(Blob(packed, LAYER, algorithm), "sha256:" + plain.hexdigest())


def _gzip(plain: bytes, compresslevel: int = 1) -> bytes:
    return gzip.compress(plain, compresslevel=compresslevel, mtime=0)


def make_program(path: Path, name: str) -> Layer:
    """Make a layer that contains a single statically linked binary in its root directory."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.mode, info.size = 0o755, path.stat().st_size
        with path.open("rb") as program:
            archive.addfile(info, program)
    return _layer(tar.getvalue(), compresslevel=6)


def make_tree(root: Path) -> Layer:
    """Make a layer that contains everything below a directory."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.add(root, arcname=".")
    return _layer(tar.getvalue(), compresslevel=1)


def _layer(plain: bytes, *, compresslevel: int, algorithm: str = "sha256") -> Layer:
    return Layer(Blob(_gzip(plain, compresslevel), LAYER, algorithm), "sha256:" + hashlib.sha256(plain).hexdigest())


def make_image(
    *layers: Layer,
    architecture: str = ARCHITECTURE,
    name: str = "",
    entrypoint: Sequence[str] = (),
    environment: Sequence[str] = (),
    annotations: Sequence[dict[str, str]] = (),
) -> Image:
    """Make an OCI image from the given layers. Two images with the same layers but different names have different
    digests.

    `annotations` contains the annotations of each layer, which are added to the manifest.
    """
    config = Blob(
        json.dumps(
            {
                "architecture": architecture,
                "os": "linux",
                "config": {
                    "Labels": {"name": name},
                    "Entrypoint": list(entrypoint),
                    "Env": list(environment),
                },
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            }
        ).encode(),
        CONFIG,
    )
    manifest = Blob(
        json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": config.descriptor,
                "layers": [
                    layer.blob.descriptor | ({"annotations": annotations[number]} if annotations else {})
                    for number, layer in enumerate(layers)
                ],
            }
        ).encode(),
        MANIFEST,
    )
    return Image(manifest, config, layers)


def make_index(*images: Image) -> Blob:
    """Make an index of images for different architectures."""
    children = [
        image.manifest.descriptor
        | {"platform": {"os": "linux", "architecture": json.loads(image.config.data)["architecture"]}}
        for image in images
    ]
    return Blob(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).encode(), INDEX)
