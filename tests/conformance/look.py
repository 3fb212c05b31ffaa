"""Read the state of a containerd through the agent's own gRPC stubs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc

from pulltrace.agent.containerd_api import content_pb2, images_pb2, leases_pb2, snapshots_pb2
from pulltrace.agent.containerd_api.content_pb2_grpc import ContentStub
from pulltrace.agent.containerd_api.images_pb2_grpc import ImagesStub
from pulltrace.agent.containerd_api.leases_pb2_grpc import LeasesStub
from pulltrace.agent.containerd_api.snapshots_pb2_grpc import SnapshotsStub
from pulltrace.agent.containerd_api.version_pb2_grpc import VersionStub
from tests.conformance.lab import Lab
from tests.patience import PATIENCE

K8S: Any = {"metadata": (("containerd-namespace", "k8s.io"),), "timeout": PATIENCE}
SNAPSHOTS = "snapshots/overlayfs"
T = TypeVar("T")


async def eventually(look: Callable[[], Awaitable[T]]) -> T:
    """Call ``look`` until its result is truthy, and return the result."""
    async with asyncio.timeout(PATIENCE):
        while not (result := await look()):  # noqa: ASYNC110 (containerd does not send a notification)
            await asyncio.sleep(0.02)
    return result


async def during(pull: asyncio.Task[None], condition: Awaitable[T]) -> T:
    """Wait for a condition that must be met before the pull ends. If the pull fails first, raise the pull's error."""
    waiting = asyncio.ensure_future(condition)
    await asyncio.wait([pull, waiting], return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        waiting.cancel()
        await pull
        raise AssertionError("the pull ended before the condition became true")
    return await waiting


class Look:
    """A client that requests containerd's current state, and returns None for NOT_FOUND."""

    def __init__(self, lab: Lab, snapshotter: str = "overlayfs") -> None:
        self._lab = lab
        self._snapshotter = snapshotter

    async def line(self) -> tuple[int, int]:
        """Return containerd's major and minor version."""
        from google.protobuf.empty_pb2 import Empty  # noqa: PLC0415 (nothing else here needs an empty message)

        version = (await VersionStub(self._lab.channel).Version(Empty(), timeout=PATIENCE)).version
        major, minor = re.findall(r"\d+", version)[:2]
        return int(major), int(minor)

    async def ingests(self) -> dict[str, content_pb2.Status]:
        """Return all ingests, keyed by ref."""
        response = await ContentStub(self._lab.channel).ListStatuses(content_pb2.ListStatusesRequest(), **K8S)
        return {status.ref: status for status in response.statuses}

    async def offset(self, layer: Any) -> int | None:
        """Return the offset of a layer's ingest."""
        status = (await self.ingests()).get(f"layer-{layer.blob.digest}")
        return status.offset if status else None

    async def leases(self) -> dict[str, leases_pb2.Lease]:
        """Return all leases, keyed by id."""
        response = await LeasesStub(self._lab.channel).List(leases_pb2.ListRequest(), **K8S)
        return {lease.id: lease for lease in response.leases}

    async def resources(self, lease: str) -> set[tuple[str, str]] | None:
        """Return a lease's resources as (type, id) pairs."""
        stub = LeasesStub(self._lab.channel)
        try:
            response = await stub.ListResources(leases_pb2.ListResourcesRequest(id=lease), **K8S)
        except grpc.aio.AioRpcError as error:
            return _none_if_not_found(error)
        return {(resource.type, resource.id) for resource in response.resources}

    async def info(self, digest: str) -> content_pb2.Info | None:
        """Return the metadata of a committed blob."""
        try:
            return (await ContentStub(self._lab.channel).Info(content_pb2.InfoRequest(digest=digest), **K8S)).info
        except grpc.aio.AioRpcError as error:
            return _none_if_not_found(error)

    async def read(self, digest: str) -> bytes | None:
        """Return the bytes of a committed blob."""
        request = content_pb2.ReadContentRequest(digest=digest)
        try:
            return b"".join([part.data async for part in ContentStub(self._lab.channel).Read(request, **K8S)])
        except grpc.aio.AioRpcError as error:
            return _none_if_not_found(error)

    async def images(self, *filters: str) -> dict[str, images_pb2.Image]:
        """Return image records, keyed by name."""
        response = await ImagesStub(self._lab.channel).List(images_pb2.ListImagesRequest(filters=filters), **K8S)
        return {image.name: image for image in response.images}

    async def snapshot(self, key: str) -> snapshots_pb2.Info | None:
        """Return the snapshot of a layer that has been or is being unpacked."""
        request = snapshots_pb2.StatSnapshotRequest(snapshotter=self._snapshotter, key=key)
        try:
            return (await SnapshotsStub(self._lab.channel).Stat(request, **K8S)).info
        except grpc.aio.AioRpcError as error:
            return _none_if_not_found(error)

    async def new_lease(self, before: dict[str, leases_pb2.Lease]) -> str:
        """Wait until there is exactly one new lease, and return its id."""

        async def fresh() -> set[str]:
            return set(await self.leases()) - set(before)

        (lease,) = await eventually(fresh)
        return lease

    async def holds(self, lease: str, *wanted: tuple[str, str]) -> set[tuple[str, str]]:
        """Wait until a lease holds at least these resources, and return all its resources."""

        async def enough() -> set[tuple[str, str]]:
            held = await self.resources(lease) or set()
            return held if held >= set(wanted) else set()

        return await eventually(enough)


def _none_if_not_found(error: grpc.aio.AioRpcError) -> None:
    if error.code() is not grpc.StatusCode.NOT_FOUND:
        raise error
