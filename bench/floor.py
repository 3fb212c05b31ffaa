"""A minimal poller, which makes only one ``ListStatuses`` call and one POST per second. Its CPU use is a lower bound
for any poller.

``python -m bench.floor`` reads the agent's environment variables and runs until it is stopped. ``bench.agent`` compares
the agent with the minimal poller.
"""

import asyncio
import os
import time

from pulltrace.agent.containerd_api import content_pb2
from pulltrace.agent.grpc_client import Channel
from pulltrace.agent.http_client import Poster

METHOD = "/containerd.services.content.v1.Content/ListStatuses"
REPORT = b'{"nodeName":"bench","bootId":"floor","sequence":%d,"heartbeatSeconds":10.0}'


async def poll() -> None:
    channel = Channel(os.environ["PULLTRACE_CONTAINERD_SOCKET"], {"containerd-namespace": "k8s.io"})
    url = f"{os.environ['PULLTRACE_SERVER_URL']}/api/v1/report"
    async with channel, Poster(url, {"Content-Type": "application/json"}) as poster:
        sequence = 0
        while True:
            began = time.monotonic()
            (message,) = await channel.call(METHOD, b"")
            content_pb2.ListStatusesResponse.FromString(message)
            sequence += 1
            await poster.post(REPORT % sequence, {})
            await asyncio.sleep(max(0.0, began + 1.0 - time.monotonic()))


if __name__ == "__main__":
    asyncio.run(poll())
