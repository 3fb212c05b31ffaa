"""The objects that agents need on an API server: a service account, a pod on each node, and the tokens that kubelets
request.
"""

from typing import Any

from tests.real.apiserver import APIError, APIServer

NAMESPACE = "pulltrace"
AGENT = "pulltrace-agent"
LIFE = 3600
"""The lifetime of a token, in seconds."""
ACCOUNT = f"{NAMESPACE}/{AGENT}"


class Accounts:
    """Service accounts on a running API server, in their own namespace."""

    def __init__(self, cluster: APIServer) -> None:
        self.cluster = cluster
        self._pods: dict[str, dict[str, Any]] = {}

    async def prepare(self, *accounts: str) -> None:
        """Create the namespace and its service accounts, unless an earlier test has already created them."""
        await self._ensure("/api/v1/namespaces", NAMESPACE)
        for name in accounts:
            await self._ensure(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", name)

    async def agent_on(self, node: str) -> None:
        """Create a node, unless it already exists, and the agent's pod on it."""
        await self._ensure("/api/v1/nodes", node)
        spec = {"nodeName": node, "serviceAccountName": AGENT, "containers": [{"name": "agent", "image": "agent"}]}
        # A token is bound to the pod's uid. The API server may still remember the uid of an earlier pod, so each pod
        # gets a new name.
        pod = {"metadata": {"generateName": f"agent-{node}-"}, "spec": spec}
        path = f"/api/v1/namespaces/{NAMESPACE}/pods"
        self._pods[node] = (await self.cluster.request("POST", path, pod))["metadata"]

    async def _ensure(self, path: str, name: str) -> None:
        try:
            await self.cluster.request("POST", path, {"metadata": {"name": name}})
        except APIError as error:
            if error.code != 409:
                raise

    async def token(self, node: str, account: str = AGENT, audience: str = "pulltrace") -> str:
        """Return the token that the node's kubelet would mount for the agent."""
        pod = self._pods[node]
        bound = {"apiVersion": "v1", "kind": "Pod", "name": pod["name"], "uid": pod["uid"]}
        return await self.cluster.service_account_token(
            NAMESPACE, account, audiences=[audience], expirationSeconds=LIFE, boundObjectRef=bound
        )

    async def evict(self, node: str) -> None:
        """Delete the agent's pod, which invalidates the agent's tokens."""
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{self._pods[node]['name']}"
        await self.cluster.request("DELETE", path, {"gracePeriodSeconds": 0})
