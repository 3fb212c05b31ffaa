"""Serve a simulated node's containerd API over gRPC on a Unix socket, with the agent's own protobuf modules.

The server counts the calls that it receives. A test can make the server stop responding or send invalid messages.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from enum import Enum
from pathlib import Path
from typing import Any, Self, TypeAlias

import grpc
from google.protobuf.any_pb2 import Any as Any_
from google.protobuf.empty_pb2 import Empty
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
from pulltrace.demo.images import Blob
from pulltrace.demo.store import Content, Store
from pulltrace.demo.virtual_containerd import VirtualContainerd

NAMESPACE = "k8s.io"
CRI_LABEL = "io.cri-containerd.image"
CHUNK = 1 << 20
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_GZIP = b"\x1f\x8b\x08"
_OTHER_NAMESPACE = Store()


class Behaviour(Enum):
    """The ways in which the simulated containerd can respond to calls."""

    NORMAL = "normal"
    SILENT = "silent"
    INVALID = "invalid"


class NotFoundError(Exception):
    """The requested object does not exist. The message names it."""


class InvalidArgumentError(Exception):
    """The request is invalid or is not supported by the simulation."""


class SimulatedContainerd:
    """The gRPC server of a simulated containerd, as an async context manager. After ``kill``, ``start`` opens a new
    socket.
    """

    def __init__(self, node: VirtualContainerd, socket: Path) -> None:
        self.node = node
        self.socket = socket
        self.calls: Counter[str] = Counter()
        """The number of calls to each method, keyed by full method name. The counter includes calls to unknown methods.
        """
        self._behaviour = Behaviour.NORMAL
        self._responding = asyncio.Event()
        self._responding.set()
        self._called = asyncio.Condition()
        self._server: grpc.aio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Start listening on the socket."""
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((_Services(self),))
        self._server.add_insecure_port(f"unix:{self.socket}")
        await self._server.start()

    async def close(self) -> None:
        """Stop serving and close all connections. Do nothing if the server is already closed. The simulated node keeps
        running.
        """
        server, self._server = self._server, None
        if server:
            await server.stop(0)
            self.socket.unlink(missing_ok=True)

    async def kill(self) -> None:
        """Stop as if containerd had been killed, so that running pulls end and connections break."""
        self.node.crash()
        await self.close()

    def behave(self, behaviour: Behaviour) -> None:
        """Change how the server responds. This also lets pending calls get their responses, unless the new behaviour is
        ``SILENT``.
        """
        self._behaviour = behaviour
        if behaviour is Behaviour.SILENT:
            self._responding.clear()
        else:
            self._responding.set()

    async def called(self, method: str) -> None:
        """Wait until a client has called this method."""
        async with self._called:
            await self._called.wait_for(lambda: self.calls[method])

    async def count_call(self, method: str) -> None:
        """Count a call, and wait until the server is allowed to respond."""
        async with self._called:
            self.calls[method] += 1
            self._called.notify_all()
        await self._responding.wait()

    def encode(self, message: Any) -> bytes:
        """Encode a response, or return invalid bytes if the behaviour is ``INVALID``."""
        return b"\xff" * 64 if self._behaviour is Behaviour.INVALID else message.SerializeToString()


class _Services(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs only
    """Handlers for the methods that the agent calls. For all other methods, gRPC itself returns UNIMPLEMENTED."""

    def __init__(self, containerd: SimulatedContainerd) -> None:
        self._containerd = containerd
        self._node = containerd.node

    def service(self, details: Any) -> Any:
        method = details.method
        if method == "/containerd.services.content.v1.Content/Read":
            return grpc.unary_stream_rpc_method_handler(
                self._read, content_pb2.ReadContentRequest.FromString, self._containerd.encode
            )
        if method == _SUBSCRIBE:
            return grpc.unary_stream_rpc_method_handler(
                self._subscribe, events_pb2.SubscribeRequest.FromString, self._containerd.encode
            )
        if method not in _UNARY:
            self._containerd.calls[method] += 1
            return None
        message, respond = _UNARY[method]

        async def handle(request: Any, context: _Context) -> Any:
            store = await self._enter(method, context)
            try:
                return respond(self._node if method == _VERSION else store, request)
            except NotFoundError as error:
                await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
            except InvalidArgumentError as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

        return grpc.unary_unary_rpc_method_handler(handle, message.FromString, self._containerd.encode)

    async def _enter(self, method: str, context: _Context) -> Store:
        await self._containerd.count_call(method)
        namespace = dict(context.invocation_metadata() or ()).get("containerd-namespace")
        if namespace is None and method != _VERSION:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "namespace is required: failed precondition")
        return self._node.store if namespace == NAMESPACE else _OTHER_NAMESPACE

    async def _subscribe(self, request: Any, context: _Context) -> AsyncIterator[Any]:
        """Send an event for each image record that is created or updated, until the client disconnects."""
        store = await self._enter(_SUBSCRIBE, context)
        if list(request.filters) != ['topic~="^/images/(create|update)$"', 'topic=="/containers/create"']:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the simulated containerd sends only image events")
        envelopes: asyncio.Queue[Any] = asyncio.Queue()

        def publish(name: str, by_cri: bool) -> None:
            change = events_pb2.ImageChange(name=name, labels={CRI_LABEL: "managed"} if by_cri else {})
            event = Any_(type_url="containerd.events.ImageUpdate", value=change.SerializeToString())
            envelope = events_pb2.Envelope(namespace=NAMESPACE, topic="/images/update", event=event)
            envelope.timestamp.FromNanoseconds(int(self._node.now * 1e9))
            envelopes.put_nowait(envelope)

        store.listeners.append(publish)
        try:
            while True:
                yield await envelopes.get()
        finally:
            store.listeners.remove(publish)

    async def _read(self, request: Any, context: _Context) -> AsyncIterator[Any]:
        store = await self._enter("/containerd.services.content.v1.Content/Read", context)
        content = store.content.get(request.digest)
        if content is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"content {request.digest}: not found")
            return
        end = min(content.blob.size, request.offset + request.size if request.size else content.blob.size)
        for offset in range(request.offset, end, CHUNK):
            data = _bytes(content.blob, offset, min(end, offset + CHUNK))
            yield content_pb2.ReadContentResponse(offset=offset, data=data)


def _bytes(blob: Blob, start: int, end: int) -> bytes:
    """Return the bytes of a blob from ``start`` to ``end``. A layer consists of the start of a gzip header, followed by
    zeros.
    """
    if blob.data is not None:
        return blob.data[start:end]
    return (_GZIP[start:end] + bytes(end - start))[: end - start]


def _version(node: VirtualContainerd, _: Empty) -> Any:
    return version_pb2.VersionResponse(version=node.version, revision="simulated")


def _statuses(store: Store, request: Any) -> Any:
    if request.filters:
        raise InvalidArgumentError("the simulated containerd lists ingests only without filters")
    return content_pb2.ListStatusesResponse(
        statuses=[
            content_pb2.Status(
                ref=ref,
                offset=ingest.offset,
                total=ingest.blob.size,
                started_at=_time(ingest.started_at),
                updated_at=_time(ingest.updated_at),
            )
            for ref, ingest in store.ingests.items()
        ]
    )


def _info(store: Store, request: Any) -> Any:
    content = store.content.get(request.digest)
    if content is None:
        raise NotFoundError(f"content {request.digest}: not found")
    return content_pb2.InfoResponse(info=_content_info(content))


def _content_info(content: Content) -> Any:
    return content_pb2.Info(
        digest=content.blob.digest,
        size=content.blob.size,
        created_at=_time(content.created_at),
        updated_at=_time(max(content.created_at, content.updated_at)),
        labels=content.labels,
    )


def _leases(store: Store, _: Any) -> Any:
    return leases_pb2.ListResponse(
        leases=[
            leases_pb2.Lease(id=lease.id, created_at=_time(lease.created_at), labels=lease.labels)
            for lease in store.leases.values()
        ]
    )


def _resources(store: Store, request: Any) -> Any:
    lease = store.leases.get(request.id)
    if lease is None:
        raise NotFoundError(f'lease "{request.id}": not found')
    return leases_pb2.ListResourcesResponse(
        resources=[leases_pb2.Resource(type=kind, id=name) for kind, name in lease.resources]
    )


def _images(store: Store, request: Any) -> Any:
    records = list(store.records.values())
    if request.filters:
        wanted = set()
        for text in request.filters:
            field, _, value = text.partition("==")
            if field not in ("target.digest", "name"):
                raise InvalidArgumentError(f"the simulated containerd filters images by name or target, not {text}")
            wanted.add(value.strip('"'))
        records = [record for record in records if {record.image.target.digest, record.name} & wanted]
    return images_pb2.ListImagesResponse(
        images=[
            images_pb2.Image(
                name=record.name,
                target=_descriptor(record.image.target),
                created_at=_time(record.created_at),
                updated_at=_time(record.updated_at),
            )
            for record in records
        ]
    )


def _descriptor(blob: Blob) -> dict[str, Any]:
    return {"media_type": blob.media_type, "digest": blob.digest, "size": blob.size}


def _stat(store: Store, request: Any) -> Any:
    snapshotter = store.snapshotters.get(request.snapshotter)
    if snapshotter is None:
        raise InvalidArgumentError(f"snapshotter not loaded: {request.snapshotter}: invalid argument")
    snapshot = snapshotter.snapshots.get(request.key)
    if snapshot is None:
        raise NotFoundError(f"snapshot {request.key} does not exist: not found")
    return snapshots_pb2.StatSnapshotResponse(
        info=snapshots_pb2.Info(
            name=snapshot.key,
            parent=snapshot.parent,
            kind=snapshots_pb2.COMMITTED if snapshot.committed else snapshots_pb2.ACTIVE,
            created_at=_time(snapshot.created_at),
            updated_at=_time(snapshot.created_at),
            labels=snapshot.labels,
        )
    )


def _plugins(store: Store, request: Any) -> Any:
    if list(request.filters) != [_SNAPSHOTTER_PLUGINS]:
        raise InvalidArgumentError("the simulated containerd lists only its snapshotters")
    plugins = [
        introspection_pb2.Plugin(
            type="io.containerd.snapshotter.v1", id=snapshotter.name, exports={"root": snapshotter.root}
        )
        for snapshotter in store.snapshotters.values()
    ]
    return introspection_pb2.PluginsResponse(plugins=plugins)


def _image_fs_info(store: Store, _: Any) -> Any:
    folder = image_fs_pb2.FilesystemIdentifier(mountpoint=store.snapshotter.root)
    usage = image_fs_pb2.FilesystemUsage(fs_id=folder)
    return image_fs_pb2.ImageFsInfoResponse(image_filesystems=[usage])


def _time(seconds: float) -> Timestamp:
    whole = int(seconds)
    return Timestamp(seconds=whole, nanos=int((seconds - whole) * 1e9))


_SNAPSHOTTER_PLUGINS = "type==io.containerd.snapshotter.v1"
_SUBSCRIBE = "/containerd.services.events.v1.Events/Subscribe"
_VERSION = "/containerd.services.version.v1.Version/Version"
_UNARY: dict[str, tuple[Any, Callable[[Any, Any], Any]]] = {
    _VERSION: (Empty, _version),
    "/containerd.services.content.v1.Content/ListStatuses": (content_pb2.ListStatusesRequest, _statuses),
    "/containerd.services.content.v1.Content/Info": (content_pb2.InfoRequest, _info),
    "/containerd.services.leases.v1.Leases/List": (leases_pb2.ListRequest, _leases),
    "/containerd.services.leases.v1.Leases/ListResources": (leases_pb2.ListResourcesRequest, _resources),
    "/containerd.services.images.v1.Images/List": (images_pb2.ListImagesRequest, _images),
    "/containerd.services.snapshots.v1.Snapshots/Stat": (snapshots_pb2.StatSnapshotRequest, _stat),
    "/containerd.services.introspection.v1.Introspection/Plugins": (introspection_pb2.PluginsRequest, _plugins),
    "/runtime.v1.ImageService/ImageFsInfo": (image_fs_pb2.ImageFsInfoRequest, _image_fs_info),
}
