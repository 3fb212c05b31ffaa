"""The server's connection to Kubernetes: the state of the cluster and the watches that update it. If there are no
watches, the reason is kept instead.

Logs. Everything else works without a cluster: pulls are shown as agents report them.
"""

import logging
from collections.abc import Callable, Iterable, Mapping

from pulltrace.logs import fields
from pulltrace.server.kubernetes.api import Api, KubeError
from pulltrace.server.kubernetes.cluster import Cluster
from pulltrace.server.kubernetes.objects import Change
from pulltrace.server.kubernetes.watch import Watches

_log = logging.getLogger(__name__)


class ClusterSource:
    """The state of the cluster and its watches.

    Create an object with ``begin``. If there are no watches, the object contains the reason.
    """

    def __init__(self) -> None:
        self.cluster = Cluster()
        self._take: Callable[[Change], None] = lambda change: None
        self.api: Api | None = None
        """The API server, for requests other than watches; None without a cluster."""
        self._watches: Watches | None = None
        self._absent = "not running in a cluster, and KUBECONFIG names none"

    @classmethod
    async def begin(cls, environ: Mapping[str, str], namespaces: Iterable[str] | None) -> "ClusterSource":
        """Look for a cluster. If there is no cluster, or if the cluster cannot be accessed, log this once. Do not raise
        an error.
        """
        source = cls()
        try:
            api = await connect(environ)
        except KubeError as error:
            source._absent = str(error)
            _log.warning("kube.off", extra=fields(reason=source._absent))
        else:
            if api:
                source.api = api
                source._watches = Watches(api, namespaces, source._receive)
            else:
                _log.info("kube.off", extra=fields(reason=source._absent))
        return source

    @property
    def on(self) -> bool:
        """Whether there is a cluster."""
        return self._watches is not None

    @property
    def sees_pods(self) -> bool:
        """Whether pods are watched."""
        return self._watches is not None and self._watches.sees_pods

    @property
    def problem(self) -> str | None:
        """The reason why pods or events cannot be seen at the moment; None if they can."""
        return self._watches.problem if self._watches else self._absent

    def not_ready(self) -> str | None:
        """Return the reason why the first lists are incomplete; None if the server is ready."""
        return self._watches.not_ready if self._watches else None

    def up(self) -> list[tuple[str, bool]]:
        """Return whether each resource is watched. Without a cluster, return an empty list."""
        return list(self._watches.up()) if self._watches else []

    def _receive(self, change: Change) -> None:
        self._take(change)

    async def run(self, take: Callable[[Change], None]) -> None:
        """Watch the cluster until cancelled, and pass each change to ``take``.

        Return immediately if there is no cluster.
        """
        self._take = take
        if self._watches:
            await self._watches.run()


async def connect(environ: Mapping[str, str]) -> Api | None:
    """Return a client for the cluster that this process runs in, or otherwise for the one in ``KUBECONFIG``; None if
    there is neither.

    The kubeconfig in the home directory is ignored: nobody expects a server to watch the cluster that a laptop last
    used. Raises ``KubeError``.
    """
    if not environ.get("KUBERNETES_SERVICE_HOST") and not environ.get("KUBECONFIG"):
        return None
    from pulltrace.server.kubernetes import client  # noqa: PLC0415  # needs 40 MiB, which only a cluster justifies

    return await client.connect(environ)
