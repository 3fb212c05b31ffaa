"""More than there may be of everything: refused politely, counted, and memory stays."""

import asyncio
import gzip
import io

import aiohttp

from tests.faults.lab import MIB
from tests.faults.test_clients import Subscription

HEARTBEAT = '{{"nodeName":"node-{number}","bootId":"b","sequence":1,"pulls":null}}'


async def test_the_257th_reader_is_told_to_come_again(lab, fault):
    url = f"{lab.api.url}/api/v1/events"
    async with fault("300 readers, 44 too many", "503 with Retry-After; those that came first go on") as seen:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session, Subscription(lab.port) as first:
            readers = [await session.get(url) for _ in range(299)]
            refused = [reader for reader in readers if reader.status == 503]
            assert len(refused) == 44
            assert all(reader.headers["Retry-After"] for reader in refused)
            pull = await lab.pulled("app", 4)
            await lab.until(lambda: first.told(pull, "completed"), 5)
        seen.over()


async def test_the_10001st_node_is_refused_and_the_others_are_heard(lab, fault):
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
        async with fault("1,000 nodes too many", "503 with Retry-After, counted; the others are heard") as seen:
            assert set(await many(10_000, 11_000)) == {(503, "60")}
            assert await lab.measured('pulltrace_reports_rejected_total{reason="too_many_nodes"}', 1000)
            await lab.pulled("app", 4)
            seen.over()


async def test_bodies_too_large_are_not_kept(lab, fault):
    """Plain, without a length, and small ones that grow: thirty-two at a time, two gigabytes all in all."""
    url, bomb = f"{lab.api.url}/api/v1/report", gzip.compress(bytes(64 * MIB), 9)
    statuses = []

    async def chunks():
        for _ in range(64):
            yield bytes(MIB)

    async with fault("two thousand bodies too large", "413 each; memory as before") as seen:
        running = await lab.running("app", 24)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=32)) as session:

            async def post(number):
                data = [io.BytesIO(bytes(2 * MIB)), bomb, None][number % 3]
                headers = {"Content-Encoding": "gzip"} if data is bomb else {}
                try:
                    async with session.post(url, data=data or chunks(), headers=headers) as answer:
                        statuses.append(answer.status)
                except aiohttp.ClientError:
                    statuses.append(0)  # it hung up while we were talking

            await asyncio.gather(*(post(number) for number in range(2000)))
        assert set(statuses) <= {413, 0}
        assert await lab.row_of(running)
        seen.over()
