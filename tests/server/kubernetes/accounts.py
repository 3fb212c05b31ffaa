"""The objects that agents need on an API server: a service account, a pod on each node, and the tokens that kubelets
request.
"""

from typing import Any

from tests.real.apiserver import APIServer

NAMESPACE = "pulltrace"
AGENT = "pulltrace-agent"
LIFE = 3600
"""How many seconds a token is valid."""
ACCOUNT = f"{NAMESPACE}/{AGENT}"


class Accounts:
    """The service accounts of a running API server, in a separate namespace."""

    def __init__(self, cluster: APIServer) -> None:
        self.cluster = cluster
        self._pods: dict[str, dict[str, Any]] = {}

    async def prepare(self, *accounts: str) -> None:
        """Create the namespace and its service accounts."""
        await self.cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        for name in accounts:
            path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
            await self.cluster.request("POST", path, {"metadata": {"name": name}})

    async def agent_on(self, node: str) -> None:
        """Create a node and the agent's pod on it."""
        await self.cluster.request("POST", "/api/v1/nodes", {"metadata": {"name": node}})
        spec = {"nodeName": node, "serviceAccountName": AGENT, "containers": [{"name": "agent", "image": "agent"}]}
        pod = {"metadata": {"name": f"agent-{node}"}, "spec": spec}
        path = f"/api/v1/namespaces/{NAMESPACE}/pods"
        self._pods[node] = (await self.cluster.request("POST", path, pod))["metadata"]

    async def token(self, node: str, account: str = AGENT, audience: str = "pulltrace") -> str:
        """Return the token that the kubelet of that node mounts for the agent."""
        pod = self._pods[node]
        bound = {"apiVersion": "v1", "kind": "Pod", "name": pod["name"], "uid": pod["uid"]}
        return await self.cluster.service_account_token(
            NAMESPACE, account, audiences=[audience], expirationSeconds=LIFE, boundObjectRef=bound
        )

    async def evict(self, node: str) -> None:
        """Delete the agent's pod, which makes its tokens invalid."""
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{self._pods[node]['name']}"
        await self.cluster.request("DELETE", path, {"gracePeriodSeconds": 0})
