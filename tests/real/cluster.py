"""A single-node cluster with a real kubelet. ``make cluster`` starts a cluster that also has a dashboard.

All programs run in separate namespaces: etcd, kube-apiserver, scheduler, controller manager, kube-proxy, containerd,
kubelet, a DNS server and a registry. When the cluster is stopped, all its processes are terminated and all its files
are removed. The kubelet's log (``kubelet_log``) records the actual events, in JSON.

Example:

    async with Cluster() as cluster:
        ref = cluster.push("team/app:1", make_layer(8 * MIB))
        await cluster.create(pod("web", ref))
        await cluster.kubelet.kill(); await cluster.kubelet.start()
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from tests.patience import PATIENCE
from tests.real import cgroups
from tests.real.apiserver import APIError, APIServer
from tests.real.containerd import NODE_SOCKET, Containerd
from tests.real.images import Image, Layer, make_image, make_program
from tests.real.names import Names
from tests.real.namespace import NODE_ADDRESS, Namespace
from tests.real.process import Process
from tests.real.registry import Registry
from tests.real.versions import CONTAINERD_2, CONTROLLER_MANAGER, KUBELET, PAUSE, PROXY, SCHEDULER, SHIM, SYSTEM_PATH

NODE = "node-1"
REGISTRY_PORT = 5000
PODS = "10.88.0.0/24"
PAUSE_IMAGE = f"127.0.0.1:{REGISTRY_PORT}/pause:1"
NETWORK = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "pods0",
            "isGateway": True,
            "hairpinMode": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]},
        }
    ],
}


class Service:
    """One of the cluster's processes, which can be stopped, killed and restarted. A restarted process appends to its
    log.
    """

    def __init__(self, command: list[str | Path], log: Path, inside: Namespace) -> None:
        self.log = log
        self._command = ["env", "TZ=UTC", f"PATH={SYSTEM_PATH}", *command]
        self._inside = inside
        self._process: Process | None = None

    async def start(self) -> None:
        """Start the program, without waiting until it is ready."""
        self._process = Process(self._command, self.log, inside=self._inside)

    async def stop(self) -> None:
        """Terminate the program with SIGTERM."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """Kill the program with SIGKILL."""
        await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.end(how)

    def check(self) -> None:
        """Raise RuntimeError, with the program's last output, if the program has exited unexpectedly."""
        if self._process is not None:
            self._process.check()


class Cluster:
    """A cluster as an async context manager. On entry, it waits until the node is Ready. The keyword arguments are
    kubelet settings.
    """

    def __init__(self, **kubelet: Any) -> None:
        self.program = make_program(PAUSE.path, "pause")
        """The layer that contains the program. This layer is part of every image, and is on the node from the start."""
        self.folder = Path(tempfile.mkdtemp(prefix="pulltrace-"))
        self.static_pods = self.folder / "static"
        self._settings = kubelet
        self._cgroup = self.folder.name
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(2 * PATIENCE):
                await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    async def _start(self) -> None:
        enter = self._stack.enter_async_context
        self._stack.callback(cgroups.remove, self._cgroup)
        cgroups.make(self._cgroup)
        self.inside = inside = await enter(Namespace(self.folder))
        self.registry = await enter(Registry(inside.socket(bind=("127.0.0.1", REGISTRY_PORT))))
        self.api = APIServer(inside=inside)
        self.containerd = Containerd(
            CONTAINERD_2.path, runtime="restrict_oom_score_adj = true", sandbox_image=PAUSE_IMAGE, inside=inside
        )
        self._lay_out()
        await asyncio.gather(enter(self.api), self._start_containerd())
        listener = inside.socket(socket.SOCK_DGRAM, bind=(NODE_ADDRESS, 53))
        self.names = await enter(Names(listener, self._service_address))
        self.kubelet, *others = self._services()
        for service in (self.kubelet, *others):
            await service.start()
            self._stack.push_async_callback(service.kill)
        while not await self._ready():
            for service in (self.kubelet, *others):
                service.check()
            await asyncio.sleep(0.1)

    async def _start_containerd(self) -> None:
        await self._stack.enter_async_context(self.containerd)
        await self.containerd.cri.pull(self.push("pause:1"))

    def _lay_out(self) -> None:
        """Write the files that the cluster's processes read."""
        self.static_pods.mkdir()
        bin_folder, networks = self.containerd.folder / "bin", self.containerd.folder / "cni"
        bin_folder.mkdir()
        (bin_folder / SHIM.name).symlink_to(SHIM.path)
        networks.mkdir()
        (networks / "pods.conflist").write_text(json.dumps(NETWORK))
        self._write_kubelet_settings()

    async def reconfigure(self, **settings: Any) -> None:
        """Restart the kubelet with different settings. The value ``None`` restores a setting's default."""
        self._settings |= settings
        self._write_kubelet_settings()
        await self.kubelet.stop()
        await self.kubelet.start()

    def _write_kubelet_settings(self) -> None:
        (self.folder / "kubelet.json").write_text(json.dumps(self._kubelet_settings()))

    def _kubelet_settings(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._cgroup}",
            "clusterDNS": [NODE_ADDRESS],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": f"unix://{NODE_SOCKET}",
            "enforceNodeAllocatable": ["none"],
            # The tests must not depend on the amount of free disk space or memory on this machine.
            "evictionHard": {"memory.available": "0%", "imagefs.available": "0%", "nodefs.available": "0%"},
            "failCgroupV1": False,
            "failSwapOn": False,
            "logging": {"format": "json", "verbosity": 4},
            "staticPodPath": str(self.static_pods),
            **{name: value for name, value in self._settings.items() if value is not None},
        }

    def _services(self) -> list[Service]:
        """Return all programs except containerd and the API server, with the kubelet first."""
        kubeconfig = f"--kubeconfig={self.api.kubeconfig}"
        alone = (kubeconfig, "--leader-elect=false", "--bind-address=127.0.0.1")
        commands: list[list[str | Path]] = [
            [
                *(KUBELET.path, kubeconfig, f"--config={self.folder / 'kubelet.json'}"),
                *(f"--hostname-override={NODE}", f"--node-ip={NODE_ADDRESS}"),
                *(f"--root-dir={self.folder / 'kubelet'}", f"--cert-dir={self.folder / 'pki'}"),
            ],
            [
                *(CONTROLLER_MANAGER.path, *alone),
                *(f"--root-ca-file={self.api.certificate}", f"--service-account-private-key-file={self.api.key}"),
            ],
            [SCHEDULER.path, *alone],
            [
                *(PROXY.path, kubeconfig, f"--hostname-override={NODE}", "--proxy-mode=nftables", "--masquerade-all"),
                *("--conntrack-max-per-core=0", "--conntrack-min=0"),
            ],
        ]
        return [
            Service(command, self.folder / f"{Path(command[0]).name.rsplit('-', 1)[0]}.log", self.inside)
            for command in commands
        ]

    async def _service_address(self, namespace: str, name: str) -> str | None:
        try:
            service = await self.api.request("GET", f"/api/v1/namespaces/{namespace}/services/{name}")
        except APIError:
            return None
        return str(service["spec"]["clusterIP"])

    async def _ready(self) -> bool:
        """Return whether the node accepts pods and the default namespace has a service account."""
        try:
            node = await self.api.request("GET", f"/api/v1/nodes/{NODE}")
            await self.api.request("GET", "/api/v1/namespaces/default/serviceaccounts/default")
        except APIError:
            return False
        ready = {"type": "Ready", "status": "True"}
        return any(ready.items() <= condition.items() for condition in node["status"].get("conditions", []))

    @property
    def kubelet_log(self) -> Path:
        """Return the kubelet's log at verbosity 4, with one JSON object per line."""
        return self.kubelet.log

    def push(self, name: str, *layers: Layer) -> str:
        """Serve an image with the given layers and a program that runs until it is stopped. Return the image's
        reference.
        """
        return self.registry.push(name, self.image(*layers))

    def image(self, *layers: Layer) -> Image:
        """Return an image with the given layers, plus the layer that contains the program, which is already on the
        node.
        """
        return make_image(*layers, self.program, entrypoint=["/pause"])

    async def create(self, manifest: Mapping[str, Any]) -> None:
        """Create the object that a manifest describes, in the manifest's namespace."""
        await self.api.request("POST", _path(manifest), manifest)

    async def delete(self, manifest: Mapping[str, Any]) -> None:
        """Delete an object and its pods, without waiting for the pods to terminate."""
        options = {"propagationPolicy": "Background"}
        await self.api.request("DELETE", f"{_path(manifest)}/{manifest['metadata']['name']}", options)


def _path(manifest: Mapping[str, Any]) -> str:
    version = manifest.get("apiVersion", "v1")
    base = f"/api/{version}" if version == "v1" else f"/apis/{version}"
    namespace = manifest["metadata"].get("namespace", "default")
    return f"{base}/namespaces/{namespace}/{manifest['kind'].lower()}s"
