"""A containerd that can be told to pull, and the registry it pulls from."""

from __future__ import annotations

from typing import Any, Protocol

import grpc.aio

from tests.real import images
from tests.real.containerd import Containerd
from tests.real.registry import Registry


class Blob(Protocol):
    """What a registry serves under a digest."""

    @property
    def digest(self) -> str: ...
    @property
    def size(self) -> int: ...


class Layer(Protocol):
    """One layer; the same one can be in many images."""

    @property
    def blob(self) -> Any: ...


class Image(Protocol):
    """What an image is made of; `layers` and `chain_ids` go in step."""

    @property
    def manifest(self) -> Any: ...
    @property
    def config(self) -> Any: ...
    @property
    def layers(self) -> Any: ...
    @property
    def chain_ids(self) -> Any: ...


class Lab(Protocol):
    """What a scenario may do. `host` is the registry's name as containerd labels it: without its port."""

    channel: grpc.aio.Channel
    host: str

    def layer(self, size: int, *, unpacked: int = 0) -> Any:
        """A new layer of about `size` compressed bytes, and that many more to unpack."""
        ...

    def image(self, *layers: Any) -> Any:
        """A new image of these layers, for this machine's architecture."""
        ...

    def push(self, name: str, image: Any) -> str:
        """Serve it as `repository:tag`; answers the full reference."""
        ...

    def push_index(self, name: str, image: Any) -> tuple[str, Blob]:
        """Serve it beside another architecture's image; answers the reference and the index."""
        ...

    def hold(self, layer: Any, at: int) -> None:
        """From this offset on nothing of the layer is sent."""
        ...

    def release(self, layer: Any) -> None:
        """Send on."""
        ...

    def hold_manifests(self, repository: str) -> None:
        """Keep who asks for a manifest waiting."""
        ...

    def release_manifests(self, repository: str) -> None:
        """Answer them."""
        ...

    async def pull(self, ref: str) -> None:
        """Returns when it is unpacked; raises when it failed; cancelling it is what the kubelet does."""
        ...

    async def remove(self, ref: str) -> None:
        """The CRI's RemoveImage, garbage collected when it returns."""
        ...

    async def crash(self) -> None:
        """Kill containerd and start it again; `channel` is a new one then."""
        ...


class RealLab:
    """A Lab made of a real containerd and a real registry."""

    def __init__(self, node: Containerd, registry: Registry) -> None:
        self.node = node
        self.registry = registry
        self.host = "127.0.0.1"

    @property
    def channel(self) -> grpc.aio.Channel:
        return self.node.channel

    def layer(self, size: int, *, unpacked: int = 0) -> images.Layer:
        return images.make_layer(size, zeros=unpacked)

    def image(self, *layers: images.Layer) -> images.Image:
        return images.make_image(*layers)

    def push(self, name: str, image: images.Image) -> str:
        return self.registry.push(name, image)

    def push_index(self, name: str, image: images.Image) -> tuple[str, images.Blob]:
        other = images.make_image(images.make_layer(1000), architecture="s390x")
        return self.registry.push(name, image, other), images.make_index(image, other)

    def hold(self, layer: images.Layer, at: int) -> None:
        self.registry.blob(layer.digest).hold(at)

    def release(self, layer: images.Layer) -> None:
        self.registry.blob(layer.digest).release()

    def hold_manifests(self, repository: str) -> None:
        self.registry.repository(repository).hold()

    def release_manifests(self, repository: str) -> None:
        self.registry.repository(repository).release()

    async def pull(self, ref: str) -> None:
        await self.node.cri.pull(ref)

    async def remove(self, ref: str) -> None:
        await self.node.cri.remove(ref)

    async def crash(self) -> None:
        await self.node.kill()
        await self.node.start()
