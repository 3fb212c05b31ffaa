"""Tests for the live stream of a real server: which events a client receives, how it resumes, and what happens if it
never reads the stream.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from urllib.parse import quote

import aiohttp
import msgspec
import pytest

from pulltrace.server.api.query import Query
from pulltrace.server.api.subscription import Subscription
from pulltrace.server.limits import Limits
from pulltrace.server.pulls.batch import PIECE
from pulltrace.wire import PullPhase
from tests.patience import PATIENCE
from tests.server.build import MIB, SimulatedHub, layer, pull, report

FAST = Limits(report_interval=0.0, tick=0.02)


@dataclass
class Event:
    """An event in the stream, with decoded ``data``."""

    name: str = ""
    id: str = ""
    data: dict = field(default_factory=dict)

    @property
    def pull(self) -> dict:
        return self.data["pull"]


async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[Event | str]:
    """Parse the stream as a browser would. Yield events, and yield comments as strings."""
    event, seen = Event(), False
    async for raw in answer.content:
        line = raw.decode().removesuffix("\n")
        name, _, value = line.partition(": ")
        if not line:
            if seen:
                yield event
            event, seen = Event(), False
        elif line.startswith(":"):
            yield line
        elif name == "data":
            event.data, seen = json.loads(value), True
        elif name == "event":
            event.name = value
        elif name == "id":
            event.id = value


@asynccontextmanager
async def stream(served, query: str = "", **headers: str):
    async with served.client.get(f"{served.url}/api/v1/events{query}", headers=headers) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        yield aiter(events(answer))


class Node:
    """One node's agent, which reports to the server."""

    def __init__(self, served, name: str = "node-1") -> None:
        self.served, self.name, self.sequence = served, name, 0

    async def report(self, *pulls) -> None:
        self.sequence += 1
        body = report(*pulls, node=self.name, sequence=self.sequence)
        assert (await self.served.post(msgspec.json.encode(body))).status == 200


async def until(stream, done: int | PullPhase) -> list[Event]:
    """Read events until a pull has the given number of downloaded bytes or the given status. Return the events."""
    seen = []
    async for event in stream:
        if isinstance(event, Event):
            seen.append(event)
            shown = event.data.get("pull", {})
            if done in (shown.get("downloadedBytes"), shown.get("status")):
                return seen
    raise AssertionError(f"the stream ended before {done}")


async def test_a_client_receives_a_hello_event_then_the_state_and_then_the_changes(server) -> None:
    served = await server(limits=FAST)
    node = Node(served)
    await node.report(pull("l", layer("a", 1)))
    await served.until_published("node-1")
    async with stream(served) as sent:
        assert await anext(sent) == ": connected"
        hello = await anext(sent)
        assert (hello.name, hello.id) == ("hello", "")
        assert hello.data["revision"] >= 1
        assert hello.data["pulls"] == 1
        first = await anext(sent)
        assert (first.name, first.pull["downloadedBytes"]) == ("", 1)
        assert first.id == f"{hello.data['bootId']}-{hello.data['revision']}"
        await node.report(pull("l", layer("a", 2)))
        second = await anext(sent)
        assert (second.data["type"], second.pull["downloadedBytes"]) == ("pull.progress", 2)


async def test_the_list_and_the_stream_contain_the_same_pulls(server) -> None:
    served = await server(limits=FAST)
    await Node(served).report(pull("l", layer("a", MIB), layer("b", 0)))
    await served.until_published("node-1")
    for query in ("", "?layers=false"):
        async with stream(served, query) as sent:
            shown = (await until(sent, MIB))[-1].pull
        assert (await (await served.get(f"/api/v1/pulls{query}")).json())["pulls"] == [shown]


@pytest.mark.parametrize("by", ["header", "query"])
async def test_a_client_that_reconnects_receives_only_the_missed_changes_including_every_failure(server, by) -> None:
    served = await server(limits=FAST)
    node, other = Node(served), Node(served, "node-2")
    await other.report(pull("still", layer("a", 7)))
    await served.until_published("node-2")
    await node.report(pull("one", layer("a", 1), manifest_digest="sha256:m"))
    async with stream(served) as sent:
        last = (await until(sent, 1))[-1].id
    failed = {"status": PullPhase.FAILED, "ended_at": 1e9, "manifest_digest": "sha256:m"}
    await node.report(pull("one", layer("a", 1), at=1e9, **failed))
    for bytes_ in (3, 4, 5):
        await node.report(pull("two", layer("a", bytes_), at=2e9, manifest_digest="sha256:m"))
    headers = {"Last-Event-ID": last} if by == "header" else {}
    async with stream(served, "" if by == "header" else f"?lastEventId={last}", **headers) as sent:
        missed = [event for event in await until(sent, 5) if not event.name]
    assert {event.data["nodeName"] for event in missed} == {"node-1"}
    assert [event.data["type"] for event in missed if event.data["type"] == "pull.failed"] == ["pull.failed"]
    assert missed[-1].pull["attempt"] == 2
    assert len({event.pull["id"] for event in missed}) == 1


async def test_a_client_that_disconnects_while_receiving_the_initial_state_receives_the_rest_later(
    server,
) -> None:
    served = await server(limits=FAST)
    await Node(served).report(*(pull(f"l{size}", layer("a", size)) for size in (1, 2, 3)))
    await served.until_published("node-1")
    async with stream(served) as sent:
        first = await _states(sent, 1)
    async with stream(served, f"?lastEventId={first[0].id}") as sent:
        rest = await _states(sent, 2)
    assert {event.pull["downloadedBytes"] for event in first + rest} == {1, 2, 3}


@pytest.mark.parametrize(("query", "pulls"), [("", 2), ("?node=node-1", None), ("?lastEventId=b-0", None)])
async def test_the_hello_event_contains_the_number_of_pulls_unless_the_client_resumes_or_filters(
    server, query, pulls
) -> None:
    served = await server(limits=FAST)
    await Node(served).report(pull("l1", layer("a", 1)), pull("l2", layer("a", 2)))
    await served.until_published("node-1")
    async with stream(served, query) as sent:
        assert await anext(sent) == ": connected"
        assert (await anext(sent)).data.get("pulls") == pulls


@pytest.mark.parametrize("last", ["nonsense", "otherboot-1", "-1", "{boot}-999999", "{boot}-x", "{boot}-²"])
async def test_a_client_with_an_unusable_last_event_id_gets_a_reset_and_the_full_state(server, last) -> None:
    served = await server(limits=FAST)
    await Node(served).report(pull("l", layer("a", 7)))
    await served.until_published("node-1")
    async with stream(served) as sent:
        boot = (await until(sent, 7))[0].data["bootId"]
    async with stream(served, f"?lastEventId={quote(last.format(boot=boot))}") as sent:
        names = [event.name for event in await until(sent, 7)]
    assert names == ["hello", "reset", ""]


async def test_a_client_receives_an_event_when_a_pull_is_removed(server) -> None:
    served = await server(limits=FAST, HISTORY_TTL="1s")
    node = Node(served)
    await node.report(pull("l", layer("a", 7)))
    async with stream(served) as sent:
        first = (await until(sent, 7))[-1]
        await node.report()
        last = [event async for event in _first(sent, "pull.removed")][-1]
    assert last.data["pull"] == {"id": first.pull["id"]}
    assert last.data["nodeName"] == "node-1"


async def _states(sent, count: int) -> list[Event]:
    """Return the next ``count`` pull states from the stream."""
    states = []
    while len(states) < count:
        event = await anext(sent)
        if isinstance(event, Event) and not event.name:
            states.append(event)
    return states


async def _first(sent, type_: str) -> AsyncIterator[Event]:
    async for event in sent:
        if isinstance(event, Event):
            yield event
            if event.data.get("type") == type_:
                return


async def test_a_client_with_filters_receives_a_removal_when_a_pull_no_longer_matches(server) -> None:
    served = await server(limits=FAST)
    node, other = Node(served), Node(served, "node-2")
    async with stream(served, "?status=downloading&node=node-1") as sent:
        await other.report(pull("x", layer("a", 3)))
        await node.report(pull("l", layer("a", 7)))
        first = (await until(sent, 7))[-1]
        await node.report(pull("l", layer("a", 7), status=PullPhase.EXTRACTING))
        last = [event async for event in _first(sent, "pull.removed")]
    assert [event.data["pull"] for event in last] == [{"id": first.pull["id"]}]


async def test_layers_are_sent_only_for_the_requested_pulls(server) -> None:
    served = await server(limits=FAST)
    nodes = [Node(served, f"node-{number}") for number in range(3)]
    for number, node in enumerate(nodes):
        await node.report(pull("l", layer("a", 10 + number)))
        await served.until_published(node.name)
    async with stream(served) as sent:
        shown = (await until(sent, 12))[1:]
    wanted, last = shown[0].pull["id"], shown[-1].id
    async with stream(served, f"?layers={wanted}") as sent:
        seen = (await until(sent, 12))[1:]
    assert {event.pull["id"] for event in seen if "layers" in event.pull} == {wanted}
    async with stream(served, f"?layers={wanted}", **{"Last-Event-ID": last}) as sent:
        opened = (await until(sent, 10))[-1]
    assert opened.pull["layers"], "the pull did not change, but its row was opened"


async def test_a_stream_without_changes_sends_comments_with_an_id_from_which_clients_can_resume(server) -> None:
    served = await server(limits=Limits(keep_alive=0.2, report_interval=0.0, tick=0.02))
    node = Node(served)
    await node.report(pull("l", layer("a", 7)))
    await served.until_published("node-1")
    async with served.client.get(f"{served.url}/api/v1/events?node=nobody") as answer:
        lines = []
        async for line in answer.content:
            lines.append(line.decode().strip())
            if len(lines) > 1 and lines[-2] == ": keep-alive":
                break
    assert lines[-1].startswith("id: ")
    assert lines[-1].endswith("-1")


@asynccontextmanager
async def client_at(address: str):
    """Open a client session that connects from this loopback address."""
    connector = aiohttp.TCPConnector(limit=0, local_addr=(address, 0))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


async def test_a_single_address_gets_at_most_half_the_streams_and_the_other_addresses_share_the_rest(server) -> None:
    served = await server(limits=Limits(readers=8, readers_per_address=2))
    url = f"{served.url}/api/v1/events"
    streams = [await served.client.get(url) for _ in range(4)]
    assert {stream.status for stream in streams} == {200}
    refused = await served.get("/api/v1/events")
    assert (refused.status, (await refused.json())["error"]) == (
        503,
        "your address has used its share of 2 streams, and over half of all streams are in use",
    )
    async with client_at("127.0.0.2") as other, client_at("127.0.0.3") as third:
        streams += [await client.get(url) for client in (other, other, third, third)]
        assert {stream.status for stream in streams} == {200}
        async with client_at("127.0.0.4") as late, late.get(url) as refused:
            assert (refused.status, (await refused.json())["error"]) == (503, "all 8 streams of this server are in use")
        for stream in streams:
            stream.close()
    await served.until_measured("pulltrace_sse_clients_active 0.0")


@pytest.mark.parametrize("after", ["", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["alone", "pipelined"])
@pytest.mark.parametrize("when", ["at once", "later"])
async def test_a_stream_ends_when_its_connection_closes_even_if_more_requests_follow(server, after, when) -> None:
    served = await server(limits=FAST)
    stream = "GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n"
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write((stream + (after if when == "at once" else "")).encode())
        await reader.readline()
        if when == "later":
            await reader.readuntil(b": connected")
            writer.write(after.encode())
        writer.transport.abort()
    await served.until_measured("pulltrace_sse_clients_active 0.0")


async def test_responses_to_http_1_0_clients_are_not_chunked(server) -> None:
    served = await server(limits=FAST)
    await Node(served).report(pull("l", layer("a", 7)))
    await served.until_published("node-1")
    for path in ("/api/v1/events", "/api/v1/pulls"):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"chunked" not in head.lower()
        assert await reader.readexactly(9) in (b": connect", b'{"pulls":')
        writer.transport.abort()


async def test_streams_beyond_the_limit_get_503_until_another_stream_ends(server) -> None:
    served = await server(limits=Limits(tick=0.02, readers_per_address=256))
    readers = [await served.client.get(f"{served.url}/api/v1/events") for _ in range(256)]
    assert {reader.status for reader in readers} == {200}
    refused = await served.get("/api/v1/events")
    assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
    assert "pulltrace_sse_clients_active 256.0" in await served.metrics()
    node = Node(served)
    await node.report(pull("l", layer("a", 7)))
    for reader in readers:
        await until(aiter(events(reader)), 7)
    readers.pop().close()
    async with asyncio.timeout(PATIENCE):
        while (again := await served.client.get(f"{served.url}/api/v1/events")).status == 503:
            again.close()
    again.close()
    for reader in readers:
        reader.close()


async def test_fast_and_slow_clients_reach_the_same_state(server) -> None:
    """All clients receive the final state of every pull, whenever they connect and whichever stream they request."""
    served = await server(limits=FAST)
    nodes = [Node(served, f"node-{number}") for number in range(5)]

    async def read(delay: int, query: str) -> dict[str, int]:
        for _ in range(delay):
            await asyncio.sleep(0)
        async with stream(served, query) as sent:
            state: dict[str, dict] = {}
            async for event in sent:
                if isinstance(event, Event) and "pull" in event.data:
                    state[event.pull["id"]] = event.pull
                    if len(state) == 5 and all(pull["status"] == "completed" for pull in state.values()):
                        return {pull["nodeName"]: pull["downloadedBytes"] for pull in state.values()}
        raise AssertionError

    readers = [
        asyncio.create_task(read(delay, query))
        for delay in (0, 50, 500)
        for query in ("", "?layers=false", "?image=nginx")
    ]
    for step in range(1, 30):
        await asyncio.gather(*(node.report(pull("l", layer("a", step))) for node in nodes))
    await asyncio.gather(
        *(node.report(pull("l", layer("a", 100), status=PullPhase.COMPLETED, ended_at=1e9, at=1e9)) for node in nodes)
    )
    states = await asyncio.gather(*readers)
    assert all(state == {f"node-{number}": 100 for number in range(5)} for state in states)


async def test_a_client_that_never_reads_its_stream_is_dropped_without_delaying_other_clients(server) -> None:
    limits = Limits(report_interval=0.0, tick=0.02, client_timeout=1.0)
    served = await server(limits=limits)
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.setblocking(False)
    with deaf:
        await asyncio.get_running_loop().sock_connect(deaf, ("127.0.0.1", served.port))
        await asyncio.get_running_loop().sock_sendall(deaf, b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        node = Node(served)
        layers = [layer(f"{number:064}", 0) for number in range(500)]
        async with stream(served) as sent:
            reading = asyncio.create_task(until(sent, 60))
            for number in range(1, 61):  # about 10 MB, more than the socket buffers can hold
                await node.report(pull("l", layer("a", number), *layers))
            await reading
            async with asyncio.timeout(PATIENCE):
                await served.until_measured("pulltrace_sse_clients_dropped_total 1.0")
                await served.until_measured("pulltrace_sse_clients_active 1.0")


def test_the_server_buffers_at_most_one_chunk_for_a_client_that_never_reads_its_stream() -> None:
    sim = SimulatedHub()
    for number in range(500):
        sim.report(pull(f"l{number}", *(layer(f"{number}-{n}", MIB) for n in range(10))), node=f"node-{number}")
    chunks = list(takewhile(bool, Subscription(sim.hub, Query(), None).follow()))
    assert sum(chunk.count(b"\ndata: ") for chunk in chunks) == 500 + 1
    assert len(b"".join(chunks)) > 10 * PIECE
    assert max(map(len, chunks)) < PIECE + 8192
