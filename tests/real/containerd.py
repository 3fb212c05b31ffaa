"""A private containerd, which runs as root in a temporary directory, and a CRI client for pulls.

Each containerd runs in a separate mount namespace, so its mounts disappear when it exits. All containerd processes exit
when the tests end.

Example:

    async with Containerd() as node:
        node.trust(registry.host, registry.url)
        await node.cri.pull(ref)
        await node.kill(); await node.start()      # a node whose containerd crashed
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Self

import grpc
import grpc.aio
from google.protobuf.empty_pb2 import Empty

from pulltrace.agent.containerd_api.version_pb2_grpc import VersionStub
from tests.patience import PATIENCE
from tests.real.cri_api import image_service_pb2 as api
from tests.real.cri_api.image_service_pb2_grpc import ImageServiceStub
from tests.real.namespace import Namespace
from tests.real.process import Process
from tests.real.versions import SYSTEM_PATH

NODE_SOCKET = Path("/run/containerd/containerd.sock")

CONFIG = """\
version = {version}
root = "{folder}/root"
state = "{folder}/state"
temp = "{folder}/tmp"
disabled_plugins = ["io.containerd.nri.v1.nri"]
[grpc]
address = "{socket}"
{metrics}
[ttrpc]
address = "{socket}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"
"""
# The configuration of the CRI plugin in containerd 1.6 and 1.7.
CRI_1 = """\
[plugins."io.containerd.grpc.v1.cri"]
{images}
{sandbox}
{runtime}
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"
discard_unpacked_layers = {discard}
disable_snapshot_annotations = {plain}
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{folder}/cni"
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{folder}/certs.d"
"""
# The configuration for containerd 2.x. When containerd 2.x migrates a version 2 file, it loses the settings in the
# ``containerd`` table.
CRI_2 = """\
[plugins."io.containerd.cri.v1.images"]
snapshotter = "{snapshotter}"
discard_unpacked_layers = {discard}
disable_snapshot_annotations = {plain}
use_local_image_pull = {local}
{images}
[plugins."io.containerd.cri.v1.images".registry]
config_path = "{folder}/certs.d"
[plugins."io.containerd.cri.v1.images".pinned_images]
{pinned}
[plugins."io.containerd.cri.v1.runtime"]
{runtime}
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{folder}/cni"
[plugins."io.containerd.transfer.v1.local"]
{transfer}
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
platform = "linux"
snapshotter = "{snapshotter}"
"""
PROXY = """\
[proxy_plugins.{name}]
type = "snapshot"
address = "{address}"
[proxy_plugins.{name}.exports]
root = "{root}"
enable_remote_snapshot_annotations = "true"
"""
HOSTS = """\
server = "{url}"
[host."{url}"]
capabilities = ["pull", "resolve"]
"""


def connect(socket: Path) -> grpc.aio.Channel:
    """Open a channel to containerd. The authority is set because servers written in Go reject gRPC's default authority,
    the socket path.
    """
    return grpc.aio.insecure_channel(f"unix:{socket}", options=[("grpc.default_authority", "localhost")])


@cache
def is_version_1(binary: str | Path) -> bool:
    """Return whether the binary is containerd 1.x."""
    line = subprocess.run([binary, "--version"], check=True, capture_output=True, text=True, timeout=PATIENCE).stdout
    return line.split()[2].lstrip("v").startswith("1.")


def configuration(binary: str | Path, proxy: str, **values: object) -> str:
    """Return the configuration in the format that the given version of containerd reads without a migration."""
    old = is_version_1(binary)
    text = CONFIG + (CRI_1 if old else CRI_2) + (PROXY if proxy else "")
    return text.format(version=2 if old else 3, name=proxy, **values)


def _toml(value: bool) -> str:
    return str(value).lower()


class CRI:
    """A client that pulls, lists and removes images through the CRI, as a kubelet does. Cancelling `pull` cancels the
    call, as happens when a pod is deleted.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = ImageServiceStub(channel)

    async def pull(self, ref: str, *, deadline: float = 2 * PATIENCE) -> str:
        """Pull an image. When the image has been unpacked, return its id. Raises grpc.aio.AioRpcError with containerd's
        message.
        """
        request = api.PullImageRequest(image=api.ImageSpec(image=ref))
        return (await self._stub.PullImage(request, timeout=deadline)).image_ref

    async def remove(self, ref: str) -> None:
        """Remove the image, and all content and snapshots that no other image uses."""
        await self._stub.RemoveImage(api.RemoveImageRequest(image=api.ImageSpec(image=ref)), timeout=PATIENCE)

    async def list(self) -> list[api.Image]:
        return list((await self._stub.ListImages(api.ListImagesRequest(), timeout=PATIENCE)).images)


class Containerd:
    """A containerd process as an async context manager. A restart changes the inode of `socket`, but not its path."""

    def __init__(
        self,
        binary: str | Path = "containerd",
        *,
        snapshotter: str = "overlayfs",
        discard_unpacked_layers: bool = False,
        client: bool = False,
        images: str = "",
        runtime: str = "",
        transfer: str = "",
        sandbox_image: str = "",
        metrics: str = "",
        inside: Namespace | None = None,
        disk: Path | None = None,
        proxy: str = "",
    ) -> None:
        """``metrics`` is a loopback address for containerd's metrics, which count the calls of each method. If
        ``inside`` is given, containerd serves a whole node in that namespace: its socket is at the usual path, and it
        can start pods. ``disk`` is a folder on the file system that containerd should use. ``proxy`` is the name of a
        snapshotter in a separate process, which listens at ``proxy_address`` and stores its files in ``proxy_root``. If
        ``client`` is true, containerd 2.x pulls images as 1.x does, with its own client instead of the transfer
        service. ``images``, ``runtime`` and ``transfer`` contain additional settings for the configuration sections
        with these names.
        """
        self.binary = binary
        client = client or is_version_1(binary)
        self._inside = inside
        # The folder's name is short because socket paths are limited to 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="pulltrace-", dir=disk))
        self.socket = self.folder / "run" / "containerd.sock" if inside is None else NODE_SOCKET
        self.log = self.folder / "containerd.log"
        self.version = ""
        self.proxy_address = self.folder / "proxy.sock"
        self.proxy_root = self.folder / "proxy"
        self._process: Process | None = None
        self._config = self.folder / "config.toml"
        self._config.write_text(
            configuration(
                binary,
                proxy,
                folder=self.folder,
                socket=self.socket,
                snapshotter=proxy or snapshotter,
                discard=_toml(discard_unpacked_layers),
                plain=_toml(not proxy or not client),
                local=_toml(client),
                images=images,
                runtime=runtime,
                transfer=transfer,
                sandbox=sandbox_image and f'sandbox_image = "{sandbox_image}"',
                pinned=sandbox_image and f'sandbox = "{sandbox_image}"',
                metrics=f'[metrics]\naddress = "{metrics}"' if metrics else "",
                address=self.proxy_address,
                root=self.proxy_root,
            )
        )
        if inside is None:
            self.socket.parent.mkdir()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.kill()
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    def trust(self, host: str, url: str) -> None:
        """Fetch images from `host`, for instance docker.io, through the registry at `url`."""
        folder = self.folder / "certs.d" / host
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts.toml").write_text(HOSTS.format(url=url))

    @property
    def _running(self) -> Process:
        assert self._process is not None, "containerd is not running"
        return self._process

    @property
    def pid(self) -> int:
        return self._running.pid

    async def start(self) -> None:
        """Start containerd, and wait until containerd and its CRI service respond."""
        command = [self.binary, "--config", self._config, "--log-level", "info"]
        if self._inside is None:
            self._process = Process(["unshare", "--mount", *command], self.log)
            self.channel = connect(self.socket)
        else:
            # The shim must have the same version, so its directory comes first on the PATH.
            path = f"PATH={self.folder / 'bin'}:{SYSTEM_PATH}"
            self._process = Process(["env", path, *command], self.log, inside=self._inside)
            self.channel = connect(self._inside.path(str(self.socket)))
        self.cri = CRI(self.channel)
        try:
            async with asyncio.timeout(PATIENCE):
                self.version = await self._answered()
        except TimeoutError:
            words = self._running.last_words()
            raise RuntimeError(f"containerd did not respond within {PATIENCE:.0f} s\n{words}") from None

    async def _answered(self) -> str:
        while True:
            self._running.check()
            try:
                answer = await VersionStub(self.channel).Version(Empty(), timeout=10, wait_for_ready=True)
                # At first, the CRI plugin responds "server is not initialized yet".
                await self.cri.list()
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
            else:
                return str(answer.version)

    async def ctr(self, *arguments: object) -> str:
        """Run containerd's own client in the CRI's namespace, and return its output."""
        command = ["ctr", "--address", str(self.socket), "--namespace", "k8s.io", *map(str, arguments)]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)}: {output.decode()}")
        return output.decode()

    async def stop(self) -> None:
        """Stop containerd with SIGTERM, as `systemctl stop` does."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """Kill containerd, if it is running."""
        await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # Close the channel last. If the channel were closed earlier, containerd would cancel the running pulls and
        # clean up after them.
        await process.end(how)
        await self.channel.close(grace=2)
