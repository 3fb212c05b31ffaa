"""EDGE: containerd's gRPC API on its unix socket. Read calls only; what leaves this module are our own types.

One long-lived channel, and a deadline on every call.
"""

import os
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from pulltrace.agent.containerd_api import content_pb2, images_pb2, leases_pb2, snapshots_pb2, version_pb2
from pulltrace.agent.grpc_client import Channel, Code, RpcError
from pulltrace.agent.model import Blob, ImageRecord, Ingest, Lease, Resources

SOCKETS = (
    "/run/containerd/containerd.sock",  # kubeadm, kind, EKS, GKE, AKS
    "/run/k3s/containerd/containerd.sock",  # k3s, RKE2
    "/run/k0s/containerd.sock",  # k0s
    "/var/snap/microk8s/common/run/containerd.sock",  # MicroK8s
)

MAX_DOCUMENT = 4 << 20
"""Bytes; the largest manifest a registry must accept (OCI distribution spec), so no larger blob is one."""

_METADATA = {"containerd-namespace": "k8s.io"}  # where the CRI plugin keeps everything
_SOURCE_LABEL = "containerd.io/distribution.source."
_EXPIRE_LABEL = "containerd.io/gc.expire"


class ContainerdError(Exception):
    """containerd did not answer, or not with an answer; the message says which call and why."""


def find_socket() -> str | None:
    """The first of the known sockets that exists here."""
    return next((path for path in SOCKETS if os.path.exists(path)), None)  # noqa: PTH110  # pathlib costs 1 MiB here


class Containerd:
    """One containerd. Every method raises ``ContainerdError``; a missing thing is None."""

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self._channel = Channel(socket, _METADATA)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.__aexit__()

    @property
    def connected(self) -> bool:
        """False from the moment the connection broke until the next call has made a new one."""
        return self._channel.connected

    @property
    def since(self) -> float:
        """When this containerd began, unix seconds: it makes its socket anew at each start. 0.0 when there is none."""
        try:
            return os.stat(self.socket).st_mtime  # noqa: PTH116  # pathlib costs 1 MiB here
        except OSError:
            return 0.0

    async def version(self) -> str:
        """containerd's version, like ``1.7.24`` or ``v2.2.1``."""
        answer = await self._one("Version.Version", Empty(), version_pb2.VersionResponse)
        return str(answer.version)

    async def ingests(self) -> list[Ingest]:
        """Every blob being downloaded in the namespace."""
        request = content_pb2.ListStatusesRequest()
        answer = await self._one("Content.ListStatuses", request, content_pb2.ListStatusesResponse)
        return [
            Ingest(
                status.ref,
                digest,
                status.offset,
                status.total,
                _seconds(status.started_at),
                _seconds(status.updated_at),
            )
            for status in answer.statuses
            if (digest := _digest_of(status.ref))
        ]

    async def leases(self) -> list[Lease]:
        """Every lease in the namespace."""
        answer = await self._one("Leases.List", leases_pb2.ListRequest(), leases_pb2.ListResponse)
        return [Lease(item.id, _seconds(item.created_at), _EXPIRE_LABEL in item.labels) for item in answer.leases]

    async def resources(self, lease_ids: Sequence[str]) -> dict[str, Resources]:
        """What each of these leases holds; those that are gone are left out."""
        requests = [leases_pb2.ListResourcesRequest(id=lease_id).SerializeToString() for lease_id in lease_ids]
        name, held = "Leases.ListResources", {}
        with _errors(name):
            answers = await self._channel.calls(_path(name), requests)
        for lease_id, answer in zip(lease_ids, answers, strict=True):
            with suppress(_NotFoundError), _errors(name):
                found = leases_pb2.ListResourcesResponse.FromString(_only(name, answer.messages()))
                held[lease_id] = resources_of((item.type, item.id) for item in found.resources)
        return held

    async def blob(self, digest: str) -> Blob | None:
        """A committed blob; None while it is not committed."""
        request = content_pb2.InfoRequest(digest=digest)
        answer = await _found(self._one("Content.Info", request, content_pb2.InfoResponse))
        if answer is None:
            return None
        return Blob(answer.info.size, _seconds(answer.info.created_at), _sources(answer.info.labels))

    async def document(self, digest: str) -> bytes | None:
        """The bytes of a committed blob; empty when it is too large for JSON or is none, None when it is gone."""
        blob = await self.blob(digest)
        if blob is None:
            return None
        if blob.size > MAX_DOCUMENT:
            return b""
        first = await self._read(digest, 1)
        if first != b"{":
            return None if first is None else b""
        return await self._read(digest, blob.size)

    async def _read(self, digest: str, size: int) -> bytes | None:
        request = content_pb2.ReadContentRequest(digest=digest, size=size)
        answers = await _found(self._all("Content.Read", request, content_pb2.ReadContentResponse))
        return None if answers is None else b"".join(answer.data for answer in answers)

    async def unpacked_at(self, snapshotter: str, chain_id: str) -> float | None:
        """When the layer with this chain id was unpacked; None when it is not."""
        request = snapshots_pb2.StatSnapshotRequest(snapshotter=snapshotter, key=chain_id)
        answer = await _found(self._one("Snapshots.Stat", request, snapshots_pb2.StatSnapshotResponse))
        if answer is None or answer.info.kind != snapshots_pb2.COMMITTED:
            return None
        return _seconds(answer.info.created_at)

    async def images(self, target: str) -> list[ImageRecord]:
        """Every name of the image whose index or manifest has this digest; of every image when it is empty."""
        request = images_pb2.ListImagesRequest(filters=[f"target.digest=={target}"] if target else [])
        answer = await self._one("Images.List", request, images_pb2.ListImagesResponse)
        return [
            ImageRecord(item.name, item.target.digest, _seconds(item.updated_at), _seconds(item.created_at))
            for item in answer.images
        ]

    async def _one(self, name: str, request: Message, shape: Any) -> Any:
        with _errors(name):
            answer = _only(name, await self._channel.call(_path(name), request.SerializeToString()))
            return shape.FromString(answer)

    async def _all(self, name: str, request: Message, shape: Any) -> list[Any]:
        with _errors(name):
            answers = await self._channel.call(_path(name), request.SerializeToString())
            return [shape.FromString(answer) for answer in answers]


def _path(name: str) -> str:
    """``Service.Method`` as gRPC calls it."""
    service, _, method = name.partition(".")
    return f"/containerd.services.{service.lower()}.v1.{service}/{method}"


def _only(name: str, answers: list[bytes]) -> bytes:
    if len(answers) != 1:
        raise ContainerdError(f"{name}: {len(answers)} answers instead of one")
    return answers[0]


@contextmanager
def _errors(name: str) -> Iterator[None]:
    """In our own words, with the call's name in front."""
    try:
        yield
    except RpcError as error:
        # Stat of an unknown snapshotter is INVALID_ARGUMENT: nothing is unpacked there either.
        kind = _NotFoundError if error.code in (Code.NOT_FOUND, Code.INVALID_ARGUMENT) else ContainerdError
        raise kind(f"{name}: {error}") from error
    except DecodeError as error:
        raise ContainerdError(f"{name}: the answer makes no sense") from error


class _NotFoundError(ContainerdError):
    """What was asked for does not exist."""


async def _found(call: Awaitable[Any]) -> Any | None:
    try:
        return await call
    except _NotFoundError:
        return None


def _seconds(time: Timestamp) -> float:
    return float(time.seconds + time.nanos * 1e-9)


def _digest_of(ref: str) -> str | None:
    """``layer-sha256:…`` or ``layer-<name>@sha256:…`` → ``sha256:…``; None for a ref that names no digest."""
    start = ref.rfind("sha256:")
    return ref[start:] if start >= 0 else None


def resources_of(items: Iterable[tuple[str, str]]) -> Resources:
    content, ingests, unpacking, unpacked = set(), set(), set(), set()
    snapshotter, foreign = None, False
    for kind, name in items:
        if kind == "content":
            content.add(name)
        elif kind == "ingests":
            ingests.add(name)
        elif kind.startswith("snapshots/"):
            snapshotter = kind.partition("/")[2]
            if name.startswith("sha256:"):
                unpacked.add(name)
            elif name.startswith("extract-"):
                unpacking.add(name.rpartition(" ")[2])
            else:
                foreign = True
    return Resources(
        frozenset(content), frozenset(ingests), frozenset(unpacking), frozenset(unpacked), snapshotter, foreign
    )


def _sources(labels: Any) -> frozenset[tuple[str, str]]:
    return frozenset(
        (name.removeprefix(_SOURCE_LABEL), repository)
        for name, repositories in labels.items()
        if name.startswith(_SOURCE_LABEL)
        for repository in repositories.split(",")
        if repository
    )
