"""Image archives in the formats of ``docker save`` and of OCI tools, and the ``ctr`` command, which imports them."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.real.images import INDEX, MANIFEST, Image

CTR = shutil.which("ctr")
_CHUNK = 64 << 10


def _tar(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def docker_archive(images: Mapping[str, Image]) -> bytes:
    """Pack named images as ``docker save`` does, with uncompressed layers first and ``manifest.json`` last."""
    files: dict[str, bytes] = {}
    manifest = []
    for name, image in images.items():
        layers = []
        for layer in image.layers:
            path = f"{layer.diff_id.partition(':')[2]}/layer.tar"
            files[path] = gzip.decompress(layer.blob.data)
            layers.append(path)
        config = f"{image.config.digest.partition(':')[2]}.json"
        files[config] = image.config.data
        manifest.append({"Config": config, "RepoTags": [name], "Layers": layers})
    return _tar(files | {"manifest.json": json.dumps(manifest).encode()})


def oci_archive(images: Mapping[str, Image], *, named: bool = True) -> bytes:
    """Pack named images as an OCI layout, with the blobs first and ``index.json`` last."""
    files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    manifests = []
    for name, image in images.items():
        for blob in (*(layer.blob for layer in image.layers), image.config, image.manifest):
            files[f"blobs/{blob.digest.replace(':', '/')}"] = blob.data
        annotations = {"annotations": {"io.containerd.image.name": name}} if named else {}
        manifests.append(image.manifest.descriptor | {"mediaType": MANIFEST} | annotations)
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
    return _tar(files | {"index.json": json.dumps(index).encode()})


class Ctr:
    """The ``ctr`` client, connected to one containerd and using the CRI's namespace. ``program`` defaults to the
    ``ctr`` that is installed on this machine.
    """

    def __init__(self, socket: Path, program: Path | None = None) -> None:
        assert program or CTR, "ctr is needed"
        self._command = [str(program or CTR), "--address", str(socket), "--namespace", "k8s.io"]

    async def run(self, *arguments: str) -> str:
        """Run a command and return its output. Raises ``AssertionError`` if the command fails."""
        process = await asyncio.create_subprocess_exec(
            *self._command, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode(errors="replace")
        return output.decode(errors="replace")

    async def start_import(self, *options: str) -> asyncio.subprocess.Process:
        """Start importing an archive from standard input."""
        return await asyncio.create_subprocess_exec(
            *self._command,
            *("images", "import", *options, "-"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )


async def feed(process: asyncio.subprocess.Process, data: bytes, *, hold_at: int = 0) -> None:
    """Write the first ``hold_at`` bytes of the archive to ``ctr``. If ``hold_at`` is not given, write the whole archive
    and wait until ``ctr`` exits.
    """
    assert process.stdin
    with suppress(BrokenPipeError, ConnectionResetError):
        for start in range(0, hold_at or len(data), _CHUNK):
            process.stdin.write(data[start : min(start + _CHUNK, hold_at or len(data))])
            await process.stdin.drain()
    if not hold_at:
        process.stdin.close()
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode(errors="replace")
