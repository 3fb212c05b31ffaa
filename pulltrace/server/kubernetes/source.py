"""The Kubernetes side of the server: the cluster's state, the watches that keep it, or why there are none.

EDGE. Without a cluster everything else works: pulls are shown as agents report them.
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
    """What is known of the cluster. Make it with ``begin``; one without watches knows nothing and says why."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.tell: Callable[[Change], None] = lambda change: None
        """Takes each change; the hub's owner sets it before ``run``."""
        self.api: Api | None = None
        """The API server, for who needs more of it; None without a cluster."""
        self._watches: Watches | None = None
        self._absent = "neither in a cluster, nor does KUBECONFIG name one"

    @classmethod
    async def begin(cls, environ: Mapping[str, str], namespaces: Iterable[str] | None) -> "ClusterSource":
        """Find the cluster. That there is none, or no way to it, is said once and is no error."""
        source = cls()
        try:
            api = await connect(environ)
        except KubeError as error:
            source._absent = str(error)
            _log.warning("kube.off", extra=fields(reason=source._absent))
        else:
            if api:
                source.api = api
                source._watches = Watches(api, namespaces, source._hear)
            else:
                _log.info("kube.off", extra=fields(reason=source._absent))
        return source

    @property
    def on(self) -> bool:
        """There is a cluster to follow."""
        return self._watches is not None

    @property
    def sees_pods(self) -> bool:
        """Pods are followed, as far as is known."""
        return self._watches is not None and self._watches.sees_pods

    @property
    def problem(self) -> str | None:
        """Why pods or events are not seen at the moment; None when all is well."""
        return self._watches.problem if self._watches else self._absent

    def not_ready(self) -> str | None:
        """Why the server should not be asked yet: the first lists are not done."""
        return self._watches.not_ready if self._watches else None

    def up(self) -> list[tuple[str, bool]]:
        """For each resource, whether it is followed; empty without a cluster."""
        return list(self._watches.up()) if self._watches else []

    def _hear(self, change: Change) -> None:
        self.tell(change)

    async def run(self) -> None:
        """Follow the cluster until cancelled; ends at once where there is none."""
        if self._watches:
            await self._watches.run()


async def connect(environ: Mapping[str, str]) -> Api | None:
    """Access to the cluster this process runs in, or else to the one ``KUBECONFIG`` names; None when there is neither.

    A kubeconfig in the home directory is not looked for: nobody expects a server to watch the cluster a laptop
    happened to talk to last. Raises ``KubeError``.
    """
    if not environ.get("KUBERNETES_SERVICE_HOST") and not environ.get("KUBECONFIG"):
        return None
    from pulltrace.server.kubernetes import client  # noqa: PLC0415  # 40 MiB that a server without a cluster need not carry

    return await client.connect(environ)
