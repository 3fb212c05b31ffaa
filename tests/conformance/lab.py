"""A containerd that pulls on request, and the registry that it pulls from."""

from __future__ import annotations

from typing import Any, Protocol

import grpc.aio

from tests.real import images
from tests.real.containerd import Containerd
from tests.real.registry import Registry


class Blob(Protocol):
    """A blob in a registry: the content with this digest."""

    @property
    def digest(self) -> str: ...
    @property
    def size(self) -> int: ...


class Layer(Protocol):
    """A layer, which several images may share."""

    @property
    def blob(self) -> Any: ...


class Image(Protocol):
    """An image with its manifest, config and layers. `layers` and `chain_ids` are in the same order."""

    @property
    def manifest(self) -> Any: ...
    @property
    def config(self) -> Any: ...
    @property
    def layers(self) -> Any: ...
    @property
    def chain_ids(self) -> Any: ...


class Lab(Protocol):
    """The actions available to a scenario. `host` is the registry's name without its port, as in containerd's
    labels.
    """

    channel: grpc.aio.Channel
    host: str

    def layer(self, size: int, *, unpacked: int = 0) -> Any:
        """Make a layer of about `size` compressed bytes. The unpacked layer is larger by `unpacked` bytes."""
        ...

    def image(self, *layers: Any) -> Any:
        """Make an image from these layers for this machine's architecture."""
        ...

    def push(self, name: str, image: Any) -> str:
        """Serve the image as `repository:tag`, and return its full reference."""
        ...

    def push_index(self, name: str, image: Any) -> tuple[str, Blob]:
        """Serve an index with this image and an image for another architecture. Return the index's ref and blob."""
        ...

    def hold(self, layer: Any, at: int) -> None:
        """Hold back the layer's bytes from this offset on, until the layer is released."""
        ...

    def release(self, layer: Any) -> None:
        """Resume sending the layer."""
        ...

    def hold_manifests(self, repository: str) -> None:
        """Hold back the responses to manifest requests."""
        ...

    def release_manifests(self, repository: str) -> None:
        """Send the manifest responses that were held back."""
        ...

    async def pull(self, ref: str) -> None:
        """Pull and unpack the image, or raise an error. Cancelling this call cancels the pull, as if a kubelet had
        cancelled it.
        """
        ...

    async def remove(self, ref: str) -> None:
        """Remove the image through the CRI, and return once its content has been garbage-collected."""
        ...

    async def crash(self) -> None:
        """Kill containerd, start it again, and replace `channel` with a new channel."""
        ...


class RealLab:
    """A lab with a real containerd and a real registry."""

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
