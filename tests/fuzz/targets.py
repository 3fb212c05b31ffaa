"""The fuzz targets, one for each parser of external data. Each target is a function that accepts arbitrary bytes.

A target catches the documented exceptions of the code under test. All other exceptions are findings.
"""

import asyncio
import base64
import contextlib
import gzip
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from google.protobuf.message import DecodeError

from pulltrace import images
from pulltrace.agent import containerd, grpc_client, identifiers, manifests
from pulltrace.agent.attribution import image_of
from pulltrace.agent.containerd_api import content_pb2, leases_pb2
from pulltrace.server.api import query, token_review
from pulltrace.server.api.app import create_app
from pulltrace.server.api.auth import AnonymousAuthenticator, RefusedError, bearer_token
from pulltrace.server.api.subscription import Subscription
from pulltrace.server.api.token_review import TokenReviewAuthenticator
from pulltrace.server.kubernetes import errors
from pulltrace.server.kubernetes.cluster import Cluster
from pulltrace.server.kubernetes.objects import Event, EventSeen, Pod, PodSeen, PodsListed
from pulltrace.server.limits import Limits
from pulltrace.server.metrics import Metrics
from pulltrace.server.models import PullStatus
from pulltrace.server.pulls.hub import Hub
from pulltrace.settings import ServerSettings, load
from tests.server.pulls.test_invariants import check

NOW = 1_700_000_000.0


_GUARD = SimpleNamespace(address="127.0.0.1", is_closed=False, is_pipelined=False, has_whole_request=True)


class _Server:
    """The server's ASGI application, without a socket. The limits are low enough for the fuzzer to reach them."""

    def __init__(self) -> None:
        self.now = NOW
        limits = Limits(nodes=20, active_per_node=8, layers_per_pull=8, history_per_node=8, history=50, tombstones=20)
        self.hub = Hub(load(ServerSettings, {}), Metrics(), limits=limits, clock=lambda: self.now)
        self.app = create_app(self.hub, AnonymousAuthenticator(), lambda: None)
        self._loop = asyncio.new_event_loop()

    def request(self, method: str, path: str, query_string: bytes = b"", body: bytes = b"", **headers: bytes) -> int:
        """Send a request to the application and return the status. Server errors count as findings."""
        return self._loop.run_until_complete(self._ask(method, path, query_string, body, headers))

    async def _ask(self, method: str, path: str, query_string: bytes, body: bytes, headers: dict[str, bytes]) -> int:
        status = 0

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query_string,
            "headers": [(name.replace("_", "-").encode(), value) for name, value in headers.items()],
            "client": None,
            "root_path": "",
            "state": {"guard": _GUARD},
        }
        await self.app(scope, receive, send)
        assert 200 <= status < 500 or status == 503, status
        return status

    def tick(self) -> None:
        self.now += 1
        self.hub.tick(self.now)
        for pull in self.hub.feed.pulls():
            _honest(pull)


def _honest(pull: PullStatus) -> None:
    if pull.started_at.timestamp() < NOW + 1e5:
        check(pull)


_server = _Server()


def report(data: bytes) -> None:
    """Post the bytes to ``/api/v1/report``, and check that the published values are consistent."""
    if _server.request("POST", "/api/v1/report", body=data) == 200:
        _server.tick()


def zipped(data: bytes) -> None:
    """Post the bytes with a ``Content-Encoding: gzip`` header. Only half of the bodies are actually compressed."""
    body = gzip.compress(data[1:], 1) if data[:1] < b"\x80" else data[1:]
    _server.request("POST", "/api/v1/report", body=body, content_encoding=b"gzip")


def reference(data: bytes) -> None:
    """Parse the bytes as an image reference, and check that parsing its normalised text gives the same reference."""
    text = data.decode(errors="surrogateescape")
    with contextlib.suppress(images.InvalidReferenceError):
        parsed = images.parse(text)
        assert images.parse(str(parsed)) == parsed
    images.normalise(text)


def manifest(data: bytes) -> None:
    """Parse the bytes as a manifest, index or config, and derive the layers from the result."""
    found = manifests.parse(data)
    if found is not None:
        digests = ["sha256:" + digit * 64 for digit in "abc"]
        documents = dict(zip(digests, (found, manifests.parse(_MANIFEST), manifests.parse(_CONFIG)), strict=True))
        for content in (digests[:1], digests):
            image = image_of(frozenset(content), documents)
            assert image is None or sum(layer.size for layer in image.layers) >= 0


def message(data: bytes) -> None:
    """Treat the bytes as a message from the kubelet."""
    text = data.decode(errors="replace")
    errors.classify(text, text[:20])
    errors.about(text)


def kube(data: bytes) -> None:
    """Use the bytes as a pod or an event, and derive the cluster state from it."""
    for kind, seen in ((Pod, PodSeen), (Event, lambda event: EventSeen(event, fresh=True))):
        try:
            item = msgspec.json.decode(data, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        cluster = Cluster()
        cluster.apply(PodSeen(_POD), NOW)
        for now in (NOW, NOW + 1):
            for node in cluster.apply(seen(item), now) | {"n1"}:
                cluster.demands(node)
        cluster.apply(PodsListed(None, frozenset()), NOW + 2)
        cluster.expire(NOW + 1e6)
        assert not list(cluster.waiting())


def query_string(data: bytes) -> None:
    """Use the bytes as the query string in requests to ``/pulls`` and ``/images``."""
    with contextlib.suppress(query.QueryError, ValueError):
        query.parse(parse_qsl(data.decode("latin-1")))
    _server.request("GET", "/api/v1/pulls", data)
    _server.request("GET", "/api/v1/images", data)


def last_event_id(data: bytes) -> None:
    """Use the bytes as a client's ``Last-Event-ID``."""

    for text in (data.decode("latin-1"), f"{_server.hub.boot_id}-{data.decode('latin-1')}"):
        assert next(Subscription(_server.hub, query.Query(), text).follow()).startswith(b": connected")


def token(data: bytes) -> None:
    """Use the bytes as a service account token."""
    claims = base64.urlsafe_b64encode(data).rstrip(b"=")
    authenticator = TokenReviewAuthenticator("pulltrace/agent", None, lambda: NOW)  # type: ignore[arg-type]  # never called
    for text in (data, b"e30." + claims + b".c"):
        with contextlib.suppress(RefusedError):
            bearer = bearer_token(b"Bearer " + text)
            if token_review._JWT.fullmatch(bearer):
                authenticator._plausible(bearer, NOW)


def answer(data: bytes) -> None:
    """Use the bytes as a response from containerd."""
    for kind in (content_pb2.ListStatusesResponse, leases_pb2.ListResourcesResponse, content_pb2.InfoResponse):
        made = kind()
        try:
            made.ParseFromString(data)
        except DecodeError:
            continue
        if kind is leases_pb2.ListResourcesResponse:
            containerd.resources_of((item.type, item.id) for item in made.resources)
        elif kind is content_pb2.InfoResponse:
            containerd._sources(made.info.labels)
            containerd._seconds(made.info.created_at)
        else:
            for status in made.statuses:
                identifiers.digest_of(status.ref)


_MANIFEST = json.dumps(
    {"config": {"digest": "sha256:" + "c" * 64, "size": 1}, "layers": [{"digest": "sha256:" + "d" * 64, "size": 2}]}
).encode()
_CONFIG = json.dumps({"rootfs": {"diff_ids": ["sha256:" + "e" * 64]}}).encode()
_POD_JSON = {
    "metadata": {"name": "web-1", "namespace": "shop", "uid": "u1", "creationTimestamp": "2023-11-14T22:13:20Z"},
    "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": "nginx:1.27"}]},
    "status": {"containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "ContainerCreating"}}}]},
}
_POD = msgspec.json.decode(json.dumps(_POD_JSON), type=Pod)
_REPORT = {
    "nodeName": "n1",
    "bootId": "b",
    "sequence": 1,
    "pulls": [
        {
            "id": "l",
            "status": "downloading",
            "imageRef": "docker.io/library/nginx",
            "startedAt": "2023-11-14T22:13:20Z",
            "totalKnown": True,
            "layers": [{"digest": "sha256:a", "totalBytes": 9, "downloadedBytes": 3, "state": "downloading"}],
        }
    ],
}
_EVENT = {
    "metadata": {"name": "e", "namespace": "shop"},
    "reason": "Failed",
    "message": 'Failed to pull image "nginx:1.27": rpc error: code = NotFound desc = not found',
    "involvedObject": {"kind": "Pod", "name": "web-1", "namespace": "shop", "uid": "u1"},
    "source": {"component": "kubelet", "host": "n1"},
    "lastTimestamp": "2023-11-14T22:13:21Z",
    "count": 2,
}


class _Deaf(asyncio.Transport):
    """A transport that discards everything."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def abort(self) -> None:
        pass


def grpc(data: bytes) -> None:
    """Use the bytes as data that containerd sends during a call."""

    async def call() -> None:
        connection = grpc_client._Connection()
        connection.connection_made(_Deaf())
        asked = asyncio.ensure_future(connection.request([(b"\x83", b"")]))
        await asyncio.sleep(0)
        connection.data_received(_SETTINGS + data)
        connection.close("the input has ended")
        for answer in await asked:
            with contextlib.suppress(grpc_client.RpcError):
                answer.messages()

    _server._loop.run_until_complete(call())


_SETTINGS = bytes(3) + b"\x04" + bytes(5)  # an empty SETTINGS frame, which must be first
_HEADERS = b"\0\0\x0f\x01\x04\0\0\0\x01\x88\0\x0bgrpc-status\x010"

TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "report": (report, [json.dumps(_REPORT).encode(), b'{"nodeName":"n2","pulls":null}']),
    "gzip": (zipped, [b"\x00" + json.dumps(_REPORT).encode(), b"\xff\x1f\x8b\x08"]),
    "reference": (reference, [b"nginx", b"localhost:5000/a/b:1@sha256:" + b"a" * 64, b"index.docker.io/x"]),
    "manifest": (manifest, [_MANIFEST, _CONFIG, b'{"manifests":[{"digest":"sha256:' + b"b" * 64 + b'","size":3}]}']),
    "message": (
        message,
        [json.dumps(_EVENT["message"]).encode(), b"toomanyrequests: 429", b'Back-off pulling image "a"'],
    ),
    "kube": (kube, [json.dumps(_POD_JSON).encode(), json.dumps(_EVENT).encode()]),
    "query": (query_string, [b"node=a,b&status=failed&layers=false", b"image=nginx%3A1&layers=x", b"%ff=1"]),
    "last-event-id": (last_event_id, [b"1", b"99999999999999999999", b"-1"]),
    "token": (token, [b'{"sub":"a","aud":["pulltrace"],"exp":4000000000}', b"a.b.c"]),
    "grpc": (
        grpc,
        [
            _HEADERS + bytes(2) + b"\x05" + bytes(5) + b"\x01" + bytes(5),
            b"\0\0\x04\x03" + bytes(4) + b"\x01" + bytes(4),
        ],
    ),
    "answer": (answer, [b"\n\x10\n\x0elayer-sha256:a", b""]),
}
"""The name, function and seeds of each target."""
