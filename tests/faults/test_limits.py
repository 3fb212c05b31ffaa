"""Tests that excess clients and nodes and oversized bodies are rejected and counted, and that memory use is bounded."""

import asyncio
import gzip
import io
from contextlib import AsyncExitStack

import aiohttp

from tests.faults.lab import MIB
from tests.faults.test_clients import Subscription

HEARTBEAT = '{{"nodeName":"node-{number}","bootId":"b","sequence":1,"pulls":null}}'


async def test_the_257th_stream_client_is_rejected_with_status_503(lab, fault):
    url = f"{lab.api.url}/api/v1/events"
    async with fault(
        "300 clients, 44 above the limit", "the excess clients receive 503 with Retry-After; the first 256 continue"
    ) as seen:
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(Subscription(lab.port))
            readers = []
            for number in range(13):  # the server accepts 32 streams from each address
                connector = aiohttp.TCPConnector(limit=0, local_addr=(f"127.0.0.{2 + number}", 0))
                session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
                readers += [await session.get(url) for _ in range(23)]
            refused = [reader for reader in readers if reader.status == 503]
            assert len(refused) == 44
            assert all(reader.headers["Retry-After"] for reader in refused)
            pull = await lab.pulled("app", 4)
            await lab.until(lambda: first.received(pull, "completed"))
        seen.over()


async def test_the_10001st_node_is_rejected_and_the_other_nodes_keep_reporting(lab, fault):
    url = f"{lab.api.url}/api/v1/report"
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession() as session:

        async def heartbeats(first, last):
            statuses = []
            for number in range(first, last):
                body = HEARTBEAT.format(number=number)
                async with session.post(url, data=body, headers=headers) as answer:
                    statuses.append((answer.status, answer.headers.get("Retry-After")))
            return statuses

        async def many(first, last, at_once=8):
            step = (last - first) // at_once
            parts = [heartbeats(start, min(start + step, last)) for start in range(first, last, step)]
            return [status for part in await asyncio.gather(*parts) for status in part]

        assert {status for status, _ in await many(1, 10_000)} == {200}
        async with fault(
            "1,000 nodes above the limit", "the excess nodes receive 503 with Retry-After; the others continue"
        ) as seen:
            assert set(await many(10_000, 11_000)) == {(503, "60")}
            assert await lab.measured('pulltrace_reports_rejected_total{reason="too_many_nodes"}', 1000)
            await lab.pulled("app", 4)
            seen.over()


async def test_the_server_does_not_keep_oversized_bodies_in_memory(lab, fault):
    """Send 2,000 bodies, 32 at a time. Some bodies declare a length that is too large, some decompress to 64 MiB, and
    others are sent in chunks without a length.
    """
    url, bomb = f"{lab.api.url}/api/v1/report", gzip.compress(bytes(64 * MIB), 9)
    statuses = []

    async def chunks():
        for _ in range(64):
            yield bytes(MIB)

    async with fault("2,000 oversized bodies", "each request receives 413, and memory use does not grow") as seen:
        running = await lab.running("app", 24)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=32)) as session:

            async def post(number):
                data = [io.BytesIO(bytes(2 * MIB)), bomb, None][number % 3]
                headers = {"Content-Encoding": "gzip"} if data is bomb else {}
                try:
                    async with session.post(url, data=data or chunks(), headers=headers) as answer:
                        statuses.append(answer.status)
                except aiohttp.ClientError:
                    statuses.append(0)  # the server closed the connection while the body was being sent

            await asyncio.gather(*(post(number) for number in range(2000)))
        assert set(statuses) <= {413, 0}
        assert await lab.row_of(running)
        seen.over()
