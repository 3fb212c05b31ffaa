"""A lab with the simulated containerd, for running the same scenarios as with a real one over the same gRPC API."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Self

import grpc
import grpc.aio

from pulltrace.demo.grpc_server import SimulatedContainerd
from pulltrace.demo.images import Blob, Image, Layer, make_image, make_index, make_layer
from pulltrace.demo.registries import Manner, Registries
from pulltrace.demo.snapshotter import Mode
from pulltrace.demo.store import Store
from pulltrace.demo.virtual_containerd import VirtualContainerd
from pulltrace.wire import PullPhase
from tests.real.containerd import connect

TICK = 0.01


class SimulatedLab:
    """A lab with a simulated node. The node's clock is set to the real time every ten milliseconds."""

    def __init__(self, version: str, *, snapshotter: str = "overlayfs", mode: Mode = Mode.UNPACK) -> None:
        self.host = "registry.test"
        self.registries = Registries(manners={self.host: Manner(speed=100e6, latency=0.02)})
        store = Store(snapshotter, mode=mode)
        self.node = VirtualContainerd(self.registries, now=time.time(), version=version, store=store)
        self._folder = Path(tempfile.mkdtemp(prefix="pulltrace-"))
        self.containerd = SimulatedContainerd(self.node, self._folder / "containerd.sock")
        self._names = itertools.count()
        self._ticked = asyncio.Condition()

    async def __aenter__(self) -> Self:
        await self.containerd.start()
        self.channel = connect(self.containerd.socket)
        self._clock = asyncio.create_task(self._live())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._clock.cancel()
        await asyncio.wait([self._clock])
        await self.channel.close()
        await self.containerd.close()
        shutil.rmtree(self._folder)

    async def _live(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            async with self._ticked:
                self.node.advance(time.time() - self.node.now, step=TICK)
                self._ticked.notify_all()

    def layer(self, size: int, *, unpacked: int = 0) -> Layer:
        return make_layer(f"layer {next(self._names)}", size, ratio=1 + unpacked / size)

    def image(self, *layers: Layer) -> Image:
        return make_image(f"image {next(self._names)}", *layers, multi_arch=False)

    def push(self, name: str, image: Image) -> str:
        return self.registries.push(f"{self.host}/{name}", image)

    def push_index(self, name: str, image: Image) -> tuple[str, Blob]:
        index = make_index(image.manifest, name)
        return self.push(name, replace(image, index=index)), index

    def hold(self, layer: Layer, at: int) -> None:
        self.registries.holds[layer.blob.digest] = at

    def release(self, layer: Layer) -> None:
        del self.registries.holds[layer.blob.digest]

    def hold_manifests(self, repository: str) -> None:
        self.registries.silent.add(f"{self.host}/{repository}")

    def release_manifests(self, repository: str) -> None:
        self.registries.silent.remove(f"{self.host}/{repository}")

    async def pull(self, ref: str) -> None:
        pull = self.node.pull(ref)
        try:
            async with self._ticked:
                await self._ticked.wait_for(lambda: pull.state is not None)
        except asyncio.CancelledError:
            pull.cancel()
            raise
        if pull.state is PullPhase.FAILED:
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNKNOWN, grpc.aio.Metadata(), grpc.aio.Metadata(), pull.error)

    async def remove(self, ref: str) -> None:
        self.node.remove(ref)

    async def crash(self) -> None:
        await self.containerd.kill()
        await self.channel.close()
        await self.containerd.start()
        self.channel = connect(self.containerd.socket)
