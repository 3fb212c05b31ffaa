"""Call containerd's gRPC API over its Unix socket, and convert its messages to the agent's own types.

This module keeps one channel open and makes only read-only calls. Every call except the event subscription has a
deadline.
"""

import asyncio
import json
import logging
import os
from collections import deque
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from pulltrace.agent.containerd_api import (
    content_pb2,
    events_pb2,
    image_fs_pb2,
    images_pb2,
    introspection_pb2,
    leases_pb2,
    snapshots_pb2,
    version_pb2,
)
from pulltrace.agent.grpc_client import Channel, Code, RpcError
from pulltrace.agent.identifiers import digest_of, is_digest, lease_of
from pulltrace.agent.model import Blob, ImageRecord, Ingest, Lease, Resources, Write
from pulltrace.agent.records import MAX_WRITES
from pulltrace.agent.short_pulls import Change
from pulltrace.agent.snapshotters import Snapshot, Snapshotters, default_of, delivery_of
from pulltrace.logs import fields

SOCKETS = (
    "/run/containerd/containerd.sock",  # kubeadm, kind, EKS, GKE, AKS
    "/run/k3s/containerd/containerd.sock",  # k3s, RKE2
    "/run/k0s/containerd.sock",  # k0s
    "/var/snap/microk8s/common/run/containerd.sock",  # MicroK8s
)

MAX_DOCUMENT = 4 << 20
"""Maximum size of a document in bytes. The OCI distribution spec recommends supporting manifests of at least 4 MB."""

MAX_CHANGES = 256
"""Maximum number of changed image records, and of new containers, to remember between two polls."""

NAMESPACE = "k8s.io"
"""The namespace that the CRI plugin uses. Docker uses the ``moby`` namespace."""

_SNAPSHOTTER_PLUGINS = "type==io.containerd.snapshotter.v1"
_IMAGE_TOPICS = '"^/images/(create|update)$"'
_CONTAINER_TOPIC = "/containers/create"
_SOURCE_LABEL = "containerd.io/distribution.source."
_CRI_LABEL = "io.cri-containerd.image"
"""The CRI plugin sets this label on the images that it pulls, and adds it to images that other clients have pulled."""

_log = logging.getLogger(__name__)


class ContainerdError(Exception):
    """containerd did not respond, or its response is unusable. The error message states which call failed and why."""


def find_socket() -> str | None:
    """Return the path of the first known socket that exists on this machine, or None if there is none."""
    return next((path for path in SOCKETS if os.path.exists(path)), None)  # noqa: PTH110  # pathlib costs 1 MiB here


class Containerd:
    """One namespace of one containerd instance. Every call may raise ``ContainerdError``. Methods that look up a single
    object return None if the object does not exist.
    """

    def __init__(self, socket: str, namespace: str = NAMESPACE) -> None:
        self.socket = socket
        self.namespace = namespace
        self._channel = Channel(socket, {"containerd-namespace": namespace})
        self._changed: dict[str, list[Write]] = {}
        self._containers: deque[float] = deque(maxlen=MAX_CHANGES)
        self._listening: asyncio.Task[None] | None = None
        self._may_listen = True
        self._may_warn = True
        self._leases: tuple[bytes, list[Lease]] = b"", []
        self._ingests: dict[bytes, Ingest | None] = {}  # the ingests by encoded message; None if the ref has no digest

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listening:
            self._listening.cancel()
        await self._channel.__aexit__()

    @property
    def connected(self) -> bool:
        """Return whether the connection is open. If the connection is closed, the next call opens a new one."""
        return self._channel.connected

    @property
    def since(self) -> float:
        """Return the time when containerd last started, in Unix seconds; 0.0 if there is no socket. containerd creates
        a new socket each time it starts.
        """
        try:
            return os.stat(self.socket).st_mtime  # noqa: PTH116  # pathlib costs 1 MiB here
        except OSError:
            return 0.0

    async def version(self) -> str:
        """Return containerd's version, for example ``1.7.24`` or ``v2.2.1``."""
        response = await self._one("Version.Version", Empty(), version_pb2.VersionResponse)
        return str(response.version)

    async def snapshotters(self) -> Snapshotters:
        """Return the snapshotters that containerd has loaded, and the CRI plugin's default snapshotter."""
        request = introspection_pb2.PluginsRequest(filters=[_SNAPSHOTTER_PLUGINS])
        response = await self._one("Introspection.Plugins", request, introspection_pb2.PluginsResponse)
        roots = {item.id: item.exports.get("root", "") for item in response.plugins if not item.HasField("init_err")}
        return Snapshotters(roots, default_of(roots, await self._image_folder()))

    async def _image_folder(self) -> str:
        """Return the CRI plugin's image directory, or an empty string if the plugin is not running."""
        name, request = "ImageService.ImageFsInfo", image_fs_pb2.ImageFsInfoRequest()
        with suppress(_UnimplementedError), _errors(name):
            messages = await self._channel.call(f"/runtime.v1.{name.replace('.', '/')}", request.SerializeToString())
            response = image_fs_pb2.ImageFsInfoResponse.FromString(_only(name, messages))
            return str(response.image_filesystems[0].fs_id.mountpoint) if response.image_filesystems else ""
        return ""

    async def ingests(self) -> list[Ingest]:
        """Return every blob that is being downloaded in this namespace."""
        (ingests,) = await self._list(_INGESTS)
        return self._ingests_of(ingests)

    async def leases(self) -> list[Lease]:
        """Return every lease in this namespace."""
        (leases,) = await self._list(_LEASES)
        return self._leases_of(leases)

    async def ingests_and_leases(self) -> tuple[list[Ingest], list[Lease]]:
        """Return all ingests and all leases. The two lists are requested concurrently, so either may be older than the
        other.
        """
        ingests, leases = await self._list(_INGESTS, _LEASES)
        return self._ingests_of(ingests), self._leases_of(leases)

    async def _list(self, *names: str) -> list[bytes]:
        """Make these calls concurrently. The calls list all objects, so their requests are empty."""
        with _errors(names[0]):
            responses = await self._channel.calls([(_path(name), b"") for name in names])
        messages = []
        for name, response in zip(names, responses, strict=True):
            with _errors(name):
                messages.append(_only(name, response.messages()))
        return messages

    def _ingests_of(self, message: bytes) -> list[Ingest]:
        """Decode the list of ingests, reusing the previous objects for ingests that have not changed."""
        before, self._ingests = self._ingests, {}
        with _errors(_INGESTS):
            for item in content_pb2.EncodedStatuses.FromString(message).statuses:
                self._ingests[item] = before[item] if item in before else _ingest_of(item)
        return [ingest for ingest in self._ingests.values() if ingest]

    def _leases_of(self, message: bytes) -> list[Lease]:
        """Decode the list of leases. If the message has not changed since the last call, return the previous list."""
        if message != self._leases[0]:
            with _errors(_LEASES):
                found = leases_pb2.ListResponse.FromString(message).leases
            self._leases = message, [lease_of(item.id, _seconds(item.created_at), item.labels) for item in found]
        return self._leases[1]

    async def resources(self, lease_ids: Sequence[str]) -> dict[str, Resources]:
        """Return the resources of each lease, omitting leases that no longer exist."""
        name, held = "Leases.ListResources", {}
        path = _path(name)
        requests = [(path, leases_pb2.ListResourcesRequest(id=lease_id).SerializeToString()) for lease_id in lease_ids]
        with _errors(name):
            responses = await self._channel.calls(requests)
        for lease_id, response in zip(lease_ids, responses, strict=True):
            with suppress(_NotFoundError), _errors(name):
                found = leases_pb2.ListResourcesResponse.FromString(_only(name, response.messages()))
                held[lease_id] = resources_of((item.type, item.id) for item in found.resources)
        return held

    async def blob(self, digest: str) -> Blob | None:
        """Return the metadata of a committed blob; None if there is no such blob."""
        request = content_pb2.InfoRequest(digest=digest)
        response = await _found(self._one("Content.Info", request, content_pb2.InfoResponse))
        if response is None:
            return None
        info = response.info
        return Blob(info.size, _seconds(info.created_at), _sources(info.labels), _seconds(info.updated_at))

    async def document(self, digest: str) -> bytes | None:
        """Return the content of a committed blob; None if the blob does not exist. If the blob is too large or is not
        JSON, return an empty bytes object.
        """
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
        responses = await _found(self._all("Content.Read", request, content_pb2.ReadContentResponse))
        return None if responses is None else b"".join(response.data for response in responses)

    async def snapshot(self, snapshotter: str, chain_id: str) -> Snapshot | None:
        """Return the committed snapshot with this chain id, or None if no such snapshot exists."""
        request = snapshots_pb2.StatSnapshotRequest(snapshotter=snapshotter, key=chain_id)
        response = await _found(self._one("Snapshots.Stat", request, snapshots_pb2.StatSnapshotResponse))
        if response is None or response.info.kind != snapshots_pb2.COMMITTED:
            return None
        return Snapshot(_seconds(response.info.created_at), delivery_of(snapshotter, response.info.labels))

    async def images(self, target: str) -> list[ImageRecord]:
        """Return the records that point to this index or manifest, or all image records if ``target`` is empty."""
        return await self._images([f"target.digest=={target}"] if target else [])

    async def _images(self, filters: Sequence[str]) -> list[ImageRecord]:
        request = images_pb2.ListImagesRequest(filters=filters)
        response = await self._one("Images.List", request, images_pb2.ListImagesResponse)
        return [
            ImageRecord(item.name, item.target.digest, _seconds(item.updated_at), _seconds(item.created_at))
            for item in response.images
        ]

    def changed_images(self) -> dict[str, list[Write]]:
        """Return the most recent writes to each image record that was written since the last call, keyed by record
        name. Start the event subscription if it is not running.

        Return an empty dictionary if no event has arrived.
        """
        changed, self._changed = self._changed, {}
        if self._listening is None or (self._listening.done() and self._may_listen):
            self._listening = asyncio.create_task(self._listen())
        return changed

    def created_containers(self) -> list[float]:
        """Return the creation times of the containers created since the last call. The times come from the event
        subscription that ``changed_images`` starts.
        """
        times = list(self._containers)
        self._containers.clear()
        return times

    async def change(self, name: str) -> Change | None:
        """Return the image record with this name and its index or manifest; None if either does not exist."""
        for record in await self._images([f"name=={json.dumps(name)}"]):
            if blob := await self.blob(record.target):
                return Change(record, blob)
        return None

    async def _listen(self) -> None:
        filters = [f"topic~={_IMAGE_TOPICS}", f'topic=="{_CONTAINER_TOPIC}"']
        request = events_pb2.SubscribeRequest(filters=filters)
        try:
            with _errors("Events.Subscribe"):
                await self._channel.listen(_path("Events.Subscribe"), request.SerializeToString(), self._take_event)
        except ContainerdError as error:
            self._may_listen = self.connected is False
            _log.debug("image events ended", extra=fields(error=error))

    def _take_event(self, message: bytes) -> None:
        with suppress(DecodeError):
            envelope = events_pb2.Envelope.FromString(message)
            if envelope.namespace != self.namespace:
                if envelope.topic != _CONTAINER_TOPIC:
                    self._warn_of(envelope.namespace)
                return
            if envelope.topic == _CONTAINER_TOPIC:
                self._containers.append(_seconds(envelope.timestamp))
                return
            self._may_warn = False
            change = events_pb2.ImageChange.FromString(envelope.event.value)
            name = change.name
            # A record named by image id is skipped, because the records named by tag and by digest contain the same
            # information.
            if name and not is_digest(name) and (name in self._changed or len(self._changed) < MAX_CHANGES):
                writes = self._changed.setdefault(name, [])
                foreign = self.namespace == NAMESPACE and _CRI_LABEL not in change.labels
                writes.append(Write(_seconds(envelope.timestamp), foreign))
                del writes[:-MAX_WRITES]

    def _warn_of(self, namespace: str) -> None:
        """Warn once if images change in Kubernetes' or Docker's namespace, but not in the namespace that the agent
        reads.
        """
        if self._may_warn and namespace in (NAMESPACE, "moby"):
            self._may_warn = False
            why = "images change in another containerd namespace; set PULLTRACE_CONTAINERD_NAMESPACE to see them"
            _log.warning(why, extra=fields(namespace=namespace, reading=self.namespace))

    async def _one(self, name: str, request: Message, shape: Any) -> Any:
        with _errors(name):
            response = _only(name, await self._channel.call(_path(name), request.SerializeToString()))
            return shape.FromString(response)

    async def _all(self, name: str, request: Message, shape: Any) -> list[Any]:
        with _errors(name):
            responses = await self._channel.call(_path(name), request.SerializeToString())
            return [shape.FromString(response) for response in responses]


def _path(name: str) -> str:
    """Return the gRPC path of ``Service.Method``."""
    service, _, method = name.partition(".")
    return f"/containerd.services.{service.lower()}.v1.{service}/{method}"


_INGESTS = "Content.ListStatuses"
_LEASES = "Leases.List"


def _only(name: str, responses: list[bytes]) -> bytes:
    if len(responses) != 1:
        raise ContainerdError(f"{name}: {len(responses)} responses instead of one")
    return responses[0]


@contextmanager
def _errors(name: str) -> Iterator[None]:
    """Convert errors to ``ContainerdError``, with the name of the call in the message."""
    try:
        yield
    except RpcError as error:
        raise _KINDS.get(error.code, ContainerdError)(f"{name}: {error}") from error
    except DecodeError as error:
        raise ContainerdError(f"{name}: the response cannot be decoded") from error


class _NotFoundError(ContainerdError):
    """The requested object does not exist."""


class _UnimplementedError(ContainerdError):
    """This version of containerd does not provide the requested method."""


_KINDS: dict[Code, type[ContainerdError]] = {
    Code.NOT_FOUND: _NotFoundError,
    Code.INVALID_ARGUMENT: _NotFoundError,  # containerd's response to Stat if the snapshotter is not loaded
    Code.UNIMPLEMENTED: _UnimplementedError,
}


async def _found(call: Awaitable[Any]) -> Any | None:
    try:
        return await call
    except _NotFoundError:
        return None


def _ingest_of(encoded: bytes) -> Ingest | None:
    status = content_pb2.Status.FromString(encoded)
    digest = digest_of(status.ref)
    if digest is None:
        return None
    times = _seconds(status.started_at), _seconds(status.updated_at)
    return Ingest(status.ref, digest, status.offset, status.total, *times)


def _seconds(time: Timestamp) -> float:
    return float(time.seconds + time.nanos * 1e-9)


def resources_of(items: Iterable[tuple[str, str]]) -> Resources:
    """Group a lease's resources by type. ``items`` contains pairs of type and id."""
    content, ingests, unpacking, unpacked = set(), set(), set(), set()
    snapshotter, foreign = None, False
    for kind, name in items:
        if kind == "content":
            content.add(name)
        elif kind == "ingests":
            ingests.add(name)
        elif kind.startswith("snapshots/"):
            snapshotter = kind.partition("/")[2]
            if is_digest(name):
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
