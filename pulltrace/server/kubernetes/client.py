"""Access the API server over HTTP, with credentials from kubernetes_asyncio. The JSON is decoded directly into the few
fields that are used. kubernetes_asyncio's models are not used, because they keep every field of every object, which is
slow and takes a lot of memory. kubernetes_asyncio's Watch is not used, because it reconnects instead of ending. This
client sends only GET requests, except for the POST requests that create TokenReviews, which the API server does not
store. The size of every response is limited.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import aiohttp
import kubernetes_asyncio
import msgspec
from kubernetes_asyncio.client import ApiClient, Configuration
from msgspec import Raw, Struct, field

from pulltrace import __version__
from pulltrace.server.kubernetes.api import ForbiddenError, GoneError, KubeError, Page, Resource, Review, Watched
from pulltrace.server.kubernetes.objects import Event, Pod

_log = logging.getLogger(__name__)

PAGE = 200
"""The number of objects per page. A page of pods is about 2 MB in size and takes about ten milliseconds to decode."""
CONNECT_TIMEOUT = 10.0
LIST_TIMEOUT = 60.0
REVIEW_TIMEOUT = 5.0
WATCH_SECONDS = 300
"""Minimum timeout of a watch, in seconds. The maximum timeout is twice as long. client-go uses the same range."""
SILENCE = 150.0
"""How long, in seconds, a watch can go without data before it is considered broken. Bookmarks arrive about once a
minute.
"""
IDLE = 5.0
"""Time, in seconds, for which a watch waits for data before it yields an empty batch."""
LONGEST_LINE = 8 * 2**20
"""Maximum size of one object in a watch, in bytes. etcd stores at most 1.5 MiB per object."""
LONGEST_PAGE = 64 * 2**20
LONGEST_ERROR = 64 * 2**10

_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # for the API server, compressing a long list costs more than sending it
}


class _ListMeta(Struct):
    version: str = field(name="resourceVersion", default="")
    token: str = field(name="continue", default="")


class _List(Struct):
    metadata: _ListMeta
    items: list[Raw] | None = None


class _Line(Struct):
    type: str
    object: Raw


class _Status(Struct):
    code: int = 0
    reason: str = ""
    message: str = ""


class _OnlyVersion(Struct):
    metadata: _ListMeta


class _User(Struct):
    username: str = ""
    extra: dict[str, list[str]] = {}


class _ReviewStatus(Struct):
    authenticated: bool = False
    user: _User = field(default_factory=_User)
    audiences: list[str] = []
    error: str = ""


class _TokenReview(Struct):
    status: _ReviewStatus = field(default_factory=_ReviewStatus)


_review_decoder = msgspec.json.Decoder(_TokenReview)
_list_decoder = msgspec.json.Decoder(_List)
_line_decoder = msgspec.json.Decoder(_Line)
_status_decoder = msgspec.json.Decoder(_Status)
_version_decoder = msgspec.json.Decoder(_OnlyVersion)
_decoders: dict[type, msgspec.json.Decoder[Any]] = {kind: msgspec.json.Decoder(kind) for kind in (Pod, Event)}


async def connect(environ: Mapping[str, str]) -> "HttpApi":
    """Return a client for the cluster in which this process runs, or for the cluster in ``KUBECONFIG``.

    Raises ``KubeError``.
    """
    configuration = Configuration()

    def in_cluster() -> None:
        kubernetes_asyncio.config.load_incluster_config(configuration, environ=environ)  # type: ignore[no-untyped-call]

    mounted = bool(environ.get("KUBERNETES_SERVICE_HOST"))
    try:
        if mounted:
            in_cluster()
        else:
            await kubernetes_asyncio.config.load_kube_config(environ["KUBECONFIG"], client_configuration=configuration)
    except Exception as error:  # kubeconfigs can run programs and read files, so loading them can raise any error
        raise KubeError(f"no access to Kubernetes: {error}") from error
    return HttpApi(configuration, in_cluster if mounted else None)


class HttpApi:
    """A client for one API server. Create the client on the event loop on which it will be used.

    ``renew`` reloads the credentials. On its own, kubernetes_asyncio rereads the credentials only once a minute,
    which is too late after a 401 response.
    """

    def __init__(self, configuration: Configuration, renew: Callable[[], None] | None = None) -> None:
        self._renew = renew
        # Python 3.13 and newer reject certificate authorities that lack certain extensions of RFC 5280, such as those
        # of older EKS clusters.
        configuration.disable_strict_ssl_verification = True
        configuration.connection_pool_maxsize = 0  # no limit, because each watched namespace needs two connections
        self._client = ApiClient(configuration)
        self._client.user_agent = f"pulltrace/{__version__}"
        self._logged: set[str] = set()
        self._closed = False

    @classmethod
    def at(cls, url: str) -> "HttpApi":
        """Return a client for an API server that needs no credentials, such as the one in the demo."""
        return cls(Configuration(host=url))

    async def pages(self, resource: Resource, namespace: str | None) -> AsyncGenerator[Page, None]:
        """Yield all objects, page by page. Raises ``GoneError`` if the list expires before its last page."""
        token = ""
        while True:
            query = [("limit", str(PAGE))] + ([("continue", token)] if token else [])
            page = await self._list(resource, namespace, query)
            found = (self._decode(resource, raw) for raw in page.items or ())
            yield Page([item for item in found if item], page.metadata.version)
            token = page.metadata.token
            if not token:
                return

    async def changes(
        self, resource: Resource, namespace: str | None, version: str
    ) -> AsyncGenerator[list[Watched], None]:
        """Yield the changes after ``version``. The first batch is always empty. Later batches are empty if nothing has
        changed for a while.
        """
        seconds = random.randint(WATCH_SECONDS, 2 * WATCH_SECONDS)  # noqa: S311  # spreads out the reconnections
        query = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", version),
            ("timeoutSeconds", str(seconds)),
        ]
        async with self._get(resource, namespace, query, SILENCE) as response:
            yield []
            lines = _Lines(f"the watch of {resource.name}")
            while (chunk := await _read_some(response)) != b"":
                yield [self._watched(resource, line) for line in lines.split(chunk or b"") if line.strip()]

    async def newest_version(self, resource: Resource, namespace: str | None) -> str:
        """Return a collection's newest resource version, read from etcd rather than from a cache."""
        everything = Resource(resource.name, resource.kind, "")
        return (await self._list(everything, namespace, [("limit", "1")])).metadata.version

    async def _list(self, resource: Resource, namespace: str | None, query: list[tuple[str, str]]) -> _List:
        async with self._get(resource, namespace, query, LIST_TIMEOUT) as response:
            body = await _read(response, LONGEST_PAGE)
        try:
            return _list_decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise KubeError(f"the response to listing {resource.name} is not a list: {error}") from error

    async def review(self, token: str, audience: str) -> Review:
        """Return the account to which this token belongs
        (https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/).
        """
        kind = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
        body = kind | {"spec": {"token": token, "audiences": [audience]}}
        async with self._call(
            "POST", "/apis/authentication.k8s.io/v1/tokenreviews", [], REVIEW_TIMEOUT, body
        ) as response:
            text = await _read(response, LONGEST_ERROR)
        try:
            status = _review_decoder.decode(text).status
        except msgspec.MsgspecError as error:
            raise KubeError(f"the response to a TokenReview is invalid: {error}") from error
        user = status.user if status.authenticated else _User()
        return Review(user.username, status.audiences, user.extra, status.error)

    async def close(self) -> None:
        """Close all connections. Afterwards, all other methods raise ``KubeError``."""
        self._closed = True
        await self._client.close()

    def _get(
        self, resource: Resource, namespace: str | None, query: list[tuple[str, str]], silence: float
    ) -> "_Response":
        path = f"/api/v1/namespaces/{namespace}/{resource.name}" if namespace else f"/api/v1/{resource.name}"
        selector = [("fieldSelector", resource.selector)] if resource.selector else []
        return self._call("GET", path, [*query, *selector], silence)

    def _call(
        self, method: str, path: str, query: list[tuple[str, str]], silence: float, body: object = None
    ) -> "_Response":
        if self._closed:  # otherwise, aiohttp raises RuntimeError
            raise KubeError("the connection to the API server is closed")
        call = self._client.call_api(
            path,
            method,
            query_params=query,
            body=body,
            header_params=_HEADERS | ({"Content-Type": "application/json"} if body else {}),
            auth_settings=["BearerToken"],
            _preload_content=False,
            _request_timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT, sock_read=silence),
        )
        return _Response(call, self._refused)

    def _refused(self) -> None:
        """Reload the credentials, because the token is no longer valid and the kubelet may have mounted a new one."""
        if self._renew:
            with contextlib.suppress(
                OSError, kubernetes_asyncio.config.ConfigException
            ):  # the kubelet may be replacing the files at this moment
                self._renew()

    def _watched(self, resource: Resource, text: bytes) -> Watched:
        try:
            line = _line_decoder.decode(text)
            if line.type == "ERROR":
                raise _error(_status_decoder.decode(line.object))
            version = _version_decoder.decode(line.object).metadata.version
        except msgspec.MsgspecError as error:
            raise KubeError(f"a line of the watch of {resource.name} is not a watch event: {error}") from error
        return Watched(line.type, None if line.type == "BOOKMARK" else self._decode(resource, line.object), version)

    def _decode(self, resource: Resource, raw: Raw) -> Any:
        try:
            return _decoders[resource.kind].decode(raw)
        except msgspec.MsgspecError as error:
            if resource.name not in self._logged:  # logged only once, because a broken controller could fill the log
                self._logged.add(resource.name)
                _log.warning(
                    "kube.object.unreadable", extra={"fields": {"resource": resource.name, "error": str(error)}}
                )
            return None


class _Response:
    """A context manager that sends the request on entry. Raises ``KubeError`` if the request fails."""

    def __init__(self, call: Any, unauthorized: Callable[[], None]) -> None:
        self._call = call
        self._unauthorized = unauthorized
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> aiohttp.ClientResponse:
        try:
            response: aiohttp.ClientResponse = await self._call
            self._response = response
            if response.ok:
                return response
            body = await _read(response, LONGEST_ERROR)
        except (aiohttp.ClientError, OSError) as error:
            raise KubeError(_unreachable(error)) from error
        # kubernetes_asyncio rereads the token once a minute, which may fail
        except kubernetes_asyncio.config.ConfigException as error:
            raise KubeError(f"no credentials for the API server: {error}") from error
        finally:
            if self._response and not self._response.ok:
                _abort(self._response)
        try:
            status = _status_decoder.decode(body)
        except msgspec.MsgspecError:
            status = _Status(message=body[:200].decode(errors="replace").strip())
        status.code = response.status
        if status.code == 401:
            self._unauthorized()
        raise _error(status)

    async def __aexit__(self, *_: object) -> None:
        if self._response:
            _abort(self._response)


def _abort(response: aiohttp.ClientResponse) -> None:
    """Close a response. If it has not been read to its end, abort its connection, because a TLS shutdown waits for the
    API server and could outlive this client.
    """
    if response.connection and response.connection.transport:
        response.connection.transport.abort()
    response.close()


def _error(status: _Status) -> KubeError:
    kind = {410: GoneError, 403: ForbiddenError}.get(status.code, KubeError)
    if status.reason == "Expired" or "too large resource version" in status.message.lower():
        kind = GoneError  # the version is too old, or belongs to a history that was replaced when a backup was restored
    return kind(f"{status.message or status.reason or 'the API server refused'} ({status.code})")


def _unreachable(error: Exception) -> str:
    return f"the API server cannot be reached: {str(error) or type(error).__name__}"


class _Lines:
    """Splits chunks into lines of limited length, in linear time."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._parts: list[bytes] = []
        self._size = 0

    def split(self, chunk: bytes) -> list[bytes]:
        """Return the lines that a chunk completes."""
        first, *others = chunk.split(b"\n")
        self._parts.append(first)
        self._size += len(first)
        if self._size > LONGEST_LINE:
            raise KubeError(f"a line of {self._source} is too long")
        if not others:
            return []
        lines = [b"".join(self._parts), *others]
        self._parts = [lines.pop()]
        self._size = len(self._parts[0])
        return lines


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Read a whole response body. Raises ``KubeError`` if the body is longer than ``limit``."""
    body = bytearray()
    try:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > limit:
                response.close()
                raise KubeError(f"the API server's response is longer than {limit} bytes")
    except (aiohttp.ClientError, OSError) as error:
        raise KubeError(_unreachable(error)) from error
    return bytes(body)


async def _read_some(response: aiohttp.ClientResponse) -> bytes | None:
    """Return the data that has arrived. Return an empty bytes object at the end of the response, and None if no data
    arrives for a while.
    """
    try:
        async with asyncio.timeout(IDLE):
            return await response.content.readany()
    except aiohttp.ClientError as error:  # aiohttp's own timeouts are ClientErrors, too
        raise KubeError(_unreachable(error)) from error
    except TimeoutError:
        return None
    except OSError as error:
        raise KubeError(_unreachable(error)) from error
