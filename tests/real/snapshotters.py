"""Run a real containerd with a real snapshotter: soci-snapshotter or stargz-snapshotter.

Example:

node = Containerd(binary, proxy="soci")
async with Soci(node, registry.host, SociMode.PARALLEL), node:
    ...
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
from enum import Enum
from pathlib import Path
from typing import Self

from tests.patience import PATIENCE
from tests.real.archives import oci_archive
from tests.real.containerd import Containerd
from tests.real.images import Blob, Image, Layer, make_image
from tests.real.process import Process
from tests.real.versions import SOCI, SOCI_CONVERT, STARGZ

_SOCI_CONFIG = """\
[content_store]
type = "{store}"
containerd_address = "{socket}"
namespace = "k8s.io"
[[resolver.host."{host}".mirrors]]
host = "http://{host}"
insecure = true
"""
_SOCI_PARALLEL = """\
[pull_modes.parallel_pull_unpack]
enable = true
max_concurrent_downloads = -1
max_concurrent_downloads_per_image = 10
max_concurrent_unpacks_per_image = 1
concurrent_download_chunk_size = "1mb"
discard_unpacked_layers = {discard}
"""


class _Daemon:
    """A snapshotter process in a separate mount namespace, whose mounts disappear when the process exits."""

    def __init__(self, node: Containerd) -> None:
        self._node = node
        self._process: Process | None = None

    def _command(self) -> list[str | Path]:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self._node.proxy_root.mkdir(mode=0o700, exist_ok=True)
        command = ["unshare", "--mount", *self._command()]
        self._process = Process(command, self._node.folder / "snapshotter.log")
        async with asyncio.timeout(PATIENCE):
            while not self._node.proxy_address.exists():
                self._process.check()
                await asyncio.sleep(0.05)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process:
            await self._process.end(signal.SIGKILL)


class SociMode(Enum):
    """The ways in which soci-snapshotter obtains an image's layers."""

    PARALLEL = "fetch all of them at the same time, and keep no blob"
    PARALLEL_KEEP = "the same, and copy every blob into containerd"
    LAZY = "stream those of an image with an index"


class Soci(_Daemon):
    """A soci-snapshotter process for one containerd process."""

    def __init__(self, node: Containerd, host: str, mode: SociMode) -> None:
        super().__init__(node)
        self._config = node.folder / "soci.toml"
        lazy = mode is SociMode.LAZY
        settings = _SOCI_CONFIG.format(socket=node.socket, host=host, store="soci" if lazy else "containerd")
        if not lazy:
            settings += _SOCI_PARALLEL.format(discard=str(mode is SociMode.PARALLEL).lower())
        self._config.write_text(settings)

    def _command(self) -> list[str | Path]:
        node = self._node
        paths = ["--root", node.proxy_root, "--address", node.proxy_address, "--config", self._config]
        return [SOCI.path, *paths]


class Stargz(_Daemon):
    """A stargz-snapshotter process, which streams layers in its own format."""

    def __init__(self, node: Containerd, host: str) -> None:
        super().__init__(node)
        self._host = host

    def _command(self) -> list[str | Path]:
        return [STARGZ.path, "serve", self._node.proxy_address, self._node.proxy_root, self._host]


def make_streamable(image: Image, folder: Path) -> Image:
    """Convert an image's layers to the format that stargz-snapshotter streams."""
    layers, annotations = [], []
    for layer in image.layers:
        source, target = folder / "layer", folder / "streamable"
        source.write_bytes(layer.blob.data)
        command = [STARGZ.path, "convert", source, target]
        toc = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout.split()
        layers.append(Layer(Blob(target.read_bytes(), layer.blob.media_type), toc[1]))
        annotations.append({"containerd.io/snapshot/stargz/toc.digest": toc[0]})
    return make_image(*layers, annotations=annotations)


def make_indexed(image: Image, folder: Path) -> Path:
    """Add a SOCI index to an image. Return the directory with the resulting OCI layout."""
    source, target = folder / "image.tar", folder / "indexed"
    source.write_bytes(oci_archive({"image": image}))
    sizes = ["--min-layer-size", "1000"]
    command = [SOCI_CONVERT.path, "convert", "--standalone", "--format", "oci-dir", *sizes, source, target]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    return target
