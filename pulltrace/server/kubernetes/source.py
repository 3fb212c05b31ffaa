"""The server's connection to Kubernetes: the cluster's state and the watches that update it, or the reason why nothing
is being watched.

The rest of the server works without a cluster, in which case pulls are shown as the agents report them. This module
logs why there is no cluster.
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
    """The cluster's state and its watches.

    Use ``begin`` to create an instance. If nothing is watched, the instance contains the reason instead.
    """

    def __init__(self) -> None:
        self.cluster = Cluster()
        self._take: Callable[[Change], None] = lambda change: None
        self.api: Api | None = None
        """The API server, for requests other than watches; None if there is no cluster."""
        self._watches: Watches | None = None
        self._absent = "not running in a cluster, and KUBECONFIG names none"

    @classmethod
    async def begin(cls, environ: Mapping[str, str], namespaces: Iterable[str] | None) -> "ClusterSource":
        """Look for a cluster. If no accessible cluster is found, log the reason once instead of raising an error."""
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
        """Return whether the server is watching a cluster."""
        return self._watches is not None

    @property
    def sees_pods(self) -> bool:
        """Return whether pods are being watched."""
        return self._watches is not None and self._watches.sees_pods

    @property
    def problem(self) -> str | None:
        """The reason why pods or events cannot be watched at the moment; None if both are being watched."""
        return self._watches.problem if self._watches else self._absent

    def not_ready(self) -> str | None:
        """Return which of the initial lists is still incomplete, or None if the server is ready."""
        return self._watches.not_ready if self._watches else None

    def up(self) -> list[tuple[str, bool]]:
        """Return each resource, and whether it is being watched. The list is empty if the server does not watch a
        cluster.
        """
        return list(self._watches.up()) if self._watches else []

    def _receive(self, change: Change) -> None:
        self._take(change)

    async def run(self, take: Callable[[Change], None]) -> None:
        """Watch the cluster until cancelled, and pass each change to ``take``.

        Return immediately if the server does not watch a cluster.
        """
        self._take = take
        if self._watches:
            await self._watches.run()


async def connect(environ: Mapping[str, str]) -> Api | None:
    """Return a client for the cluster in which this process runs. Outside a cluster, return a client for the cluster
    that ``KUBECONFIG`` selects, or None if the variable is not set.

    The kubeconfig in the home directory is ignored, because users do not expect a server to watch the cluster that they
    last used. Raises ``KubeError``.
    """
    if not environ.get("KUBERNETES_SERVICE_HOST") and not environ.get("KUBECONFIG"):
        return None
    from pulltrace.server.kubernetes import client  # noqa: PLC0415  # needs 40 MiB, useless without a cluster

    return await client.connect(environ)
