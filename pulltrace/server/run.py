"""The server process: two listeners in one event loop, the hub's tick, and a clean shutdown."""

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import resource
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import uvicorn
from starlette.types import ASGIApp

from pulltrace import __version__
from pulltrace.logs import fields
from pulltrace.server.api.app import SECURITY_HEADERS, create_app, create_metrics_app
from pulltrace.server.api.auth import AnonymousAuthenticator, Authenticator, SharedTokenAuthenticator
from pulltrace.server.api.fair_share import FairShare
from pulltrace.server.api.guard import UNSENT, Counting, Guard, Listener
from pulltrace.server.api.tls_acceptor import TlsAcceptor
from pulltrace.server.api.token_review import TokenReviewAuthenticator
from pulltrace.server.kubernetes.api import KubeError
from pulltrace.server.kubernetes.source import ClusterSource
from pulltrace.server.limits import Limits
from pulltrace.server.metrics import Metrics
from pulltrace.server.pulls.hub import Hub
from pulltrace.server.tls import Certificate
from pulltrace.settings import Address, ServerSettings

if TYPE_CHECKING:
    from pulltrace.server.traces import Traces

TRACES_GO_TO = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Standard OpenTelemetry variables. If one of the variables is set, the server exports traces."""
TRACES_OFF = {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "none"}
"""Standard OpenTelemetry variables, and the values that disable exporting even if a collector is configured."""

END_WITHIN = 1.5
"""Maximum time, in seconds, that clients have to receive the last comment on their stream during shutdown."""

RESERVED_FILES = 128
"""How many file descriptors are reserved for everything except client connections."""

GIVE_BACK_EVERY = 30.0
"""The interval, in seconds, at which freed memory is returned to the operating system. Without this, glibc would keep
unused memory after many clients have disconnected.
"""

_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)  # Linux's value; Python has had this constant since 3.12
_log = logging.getLogger(__name__)


class ListenError(Exception):
    """The server cannot listen on an address."""


async def serve(
    settings: ServerSettings, *, on_ready: Callable[[int, int], None] | None = None, limits: Limits | None = None
) -> None:
    """Serve until cancelled. ``on_ready`` is called with the ports of the API and the metrics once both accept
    connections.

    ``ListenError``, ``CertificateError`` or ``KubeError`` is raised before any request is served.
    """
    limits = limits or Limits()
    with _listen(settings.http_addr, limits) as http, _listen(settings.metrics_addr, limits) as metrics:
        source = await ClusterSource.begin(os.environ, settings.watch_namespaces)
        traces = export_traces(os.environ)
        hub = Hub(settings, Metrics(), limits=limits, source=source, export=traces.add if traces else None)
        authenticator = _authenticator(settings, source)
        certificate = Certificate.of(settings)
        ports = http.getsockname()[1], metrics.getsockname()[1]
        refused = hub.metrics.refused
        share = FairShare(min(limits.connections, _raise_file_limit()), limits.connections_per_address)
        app = create_app(hub, authenticator, source.not_ready, settings.cors_origin)
        main = _Server(app, Listener(limits, share, refused), certificate.context if certificate else None)
        share = FairShare(limits.metrics_connections, limits.metrics_connections_per_address)
        side = _Server(create_metrics_app(hub), Listener(limits, share, refused))
        serving = [
            asyncio.create_task(main.serve(sockets=[http])),
            asyncio.create_task(side.serve(sockets=[metrics])),
        ]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(hub.run())
                group.create_task(source.run(hub.take_change))
                group.create_task(_give_back())
                if certificate:
                    group.create_task(certificate.follow())
                for task in serving:
                    group.create_task(_while(task))
                await asyncio.gather(main.ready.wait(), side.ready.wait())
                _tune_collector()
                _log.info("server.started", extra=fields(version=__version__, port=ports[0], metrics_port=ports[1]))
                if on_ready:
                    on_ready(*ports)
        finally:
            hub.close()
            main.should_exit = side.should_exit = True
            await asyncio.wait(serving, timeout=END_WITHIN + 0.4)
            if traces:
                traces.close()
            _log.info("server.stopped")


def export_traces(environ: Mapping[str, str]) -> "Traces | None":
    """Return the trace exporter, or None if the environment variables do not configure a collector.

    The SDK is imported only if a collector is configured.
    """
    off = any(environ.get(name, "").strip().lower() == value for name, value in TRACES_OFF.items())
    if off or not any(environ.get(name, "").strip() for name in TRACES_GO_TO):
        return None
    try:
        from pulltrace.server.traces import Traces  # noqa: PLC0415
    except ModuleNotFoundError as error:
        why = f"the library {error.name} is missing; install pulltrace with its extra otel"
        _log.warning("traces.off", extra=fields(error=why))
        return None
    return Traces()


def _authenticator(settings: ServerSettings, source: ClusterSource) -> Authenticator:
    if settings.agent_service_account:
        if source.api is None:
            name = "PULLTRACE_AGENT_SERVICE_ACCOUNT"
            raise KubeError(f"{name} needs an API server that knows the agents' tokens: {source.problem}")
        return TokenReviewAuthenticator(settings.agent_service_account, source.api)
    return SharedTokenAuthenticator(settings.agent_token) if settings.agent_token else AnonymousAuthenticator()


class _Server(uvicorn.Server):
    """A uvicorn server without signal handlers, because the caller cancels the server.

    If there is a certificate, the server accepts only TLS connections.
    """

    def __init__(self, app: ASGIApp, listener: Listener, certificate: ssl.SSLContext | None = None) -> None:
        self._listener = listener
        self._certificate = certificate
        self._accepting: list[asyncio.Task[None]] = []
        config = uvicorn.Config(
            Counting(app),
            loop="none",
            http=listener.protocol,  # type: ignore[arg-type]  # a protocol factory
            headers=list(SECURITY_HEADERS.items()),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",  # no warnings, because uvicorn would log one for each malformed request
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,  # longer than the heartbeat interval, so each agent keeps one connection
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._certificate is None:
            await super().startup(sockets)
        else:
            await super().startup([])
            for sock in sockets or ():
                acceptor = TlsAcceptor(sock, self._certificate, self._listener, self._protocol)
                self._accepting.append(asyncio.create_task(acceptor.run()))
        self.ready.set()

    def _protocol(self) -> Guard:
        state = self.lifespan.state
        return self._listener.protocol(app_state=state, config=self.config, server_state=self.server_state)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in self._accepting:
            task.cancel()
        self._listener.close_idle()
        await super().shutdown(sockets)


async def _while(task: asyncio.Task[None]) -> None:
    """Raise an error if a listener stops, so that the server stops too. Cancelling this coroutine does not cancel the
    listener.
    """
    await asyncio.shield(task)
    raise RuntimeError("a listener ended")


@contextlib.contextmanager
def _listen(address: Address, limits: Limits) -> Iterator[socket.socket]:
    """Listen on an address; an empty host means every interface, over both IPv6 and IPv4."""
    everywhere = not address.host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if everywhere or ":" in address.host else socket.AF_INET
    try:
        sock = socket.create_server(
            (address.host, address.port), family=family, backlog=2048, dualstack_ipv6=everywhere
        )
    except OSError as error:
        raise ListenError(f"cannot listen on {address.host}:{address.port}: {error.strerror}") from error
    with sock:
        # Accepted connections inherit this option. If a client acknowledges no data within the time limit, the kernel
        # closes the connection and frees the queued data. This limit is longer than the server's own timeouts, but
        # unlike them, it also applies to small responses.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(2000 * limits.client_timeout))
        sock.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, UNSENT)  # also inherited
        yield sock


def _raise_file_limit() -> int:
    """Raise the limit on open files as far as allowed. Return how many connections can be open at the same time."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(hard - RESERVED_FILES, hard // 2) if hard != resource.RLIM_INFINITY else 1 << 30


async def _give_back() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has this function
    while trim:
        await asyncio.sleep(GIVE_BACK_EVERY)
        await asyncio.to_thread(trim, 0)


def _tune_collector() -> None:
    """Exclude all existing objects from garbage collection, and collect new objects less often.

    With lower thresholds (Python's default, or 10,000), the 99th percentile of the response time for reports is two to
    three times as high.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
