"""Write the pod and the events of a ``PodEvents`` to a real API server, as the scheduler and the kubelet would."""

import asyncio

from pulltrace.demo.pod_events import PodEvents
from tests.real.apiserver import APIError, APIServer


class Writer:
    """Write pods and events to an API server."""

    def __init__(self, server: APIServer) -> None:
        self._server = server
        self._bumped: set[str] = set()

    async def create(self, arrival: PodEvents) -> None:
        """Create the pod and write its status. The uid that the API server assigns is stored in ``arrival``."""
        metadata = arrival.pod["metadata"]
        body = {key: value for key, value in arrival.pod.items() if key != "status"}
        made = await self._server.request("POST", f"/api/v1/namespaces/{metadata['namespace']}/pods", body)
        metadata["uid"] = made["metadata"]["uid"]
        await self.status(arrival)

    async def status(self, arrival: PodEvents) -> None:
        metadata = arrival.pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        body = {"status": arrival.pod["status"]}
        await self._server.request("PATCH", path, body, content_type="application/merge-patch+json")

    async def event(self, event) -> None:
        """Create the event or, if it already exists, update it with a higher count."""
        metadata = event["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/events"
        if metadata["name"] not in self._bumped:
            self._bumped.add(metadata["name"])
            await self._server.request("POST", path, event)
            return
        body = {key: event[key] for key in ("count", "lastTimestamp", "message")}
        path = f"{path}/{metadata['name']}"
        await self._server.request("PATCH", path, body, content_type="application/strategic-merge-patch+json")

    async def delete(self, arrival: PodEvents) -> None:
        metadata = arrival.pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        await self._server.request("DELETE", path, {"gracePeriodSeconds": 0})

    async def namespace(self, name: str) -> None:
        try:
            await self._server.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        except APIError as error:
            if error.code != 409:
                raise


async def all_of(calls, at_once=32) -> None:
    """Await all calls, at most ``at_once`` of them concurrently."""
    slots = asyncio.Semaphore(at_once)

    async def one(call):
        async with slots:
            await call

    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(one(call))
