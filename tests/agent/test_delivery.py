"""Even over an unreliable connection to the server, no live pull is closed and no finished pull is lost."""

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulltrace.agent import reporter
from pulltrace.agent.http_client import HttpError, Response
from pulltrace.agent.reporter import Reporter
from pulltrace.server.limits import Limits
from pulltrace.server.pulls.inventory import Inventory
from pulltrace.settings import AgentSettings, load
from pulltrace.wire import MAX_REPORT, AgentReport, LayerState, PullPhase, PullState, to_time

NOW = 1_800_000_000.0
OUTCOMES = ["taken", "taken", "taken", "lost", "answer lost", "refused", "another server"]
LIMITS = Limits(live_bytes=1 << 30, history_bytes=1 << 30, all_bytes=1 << 30, history_per_node=10_000)
SETTINGS = {"PULLTRACE_NODE_NAME": "n", "PULLTRACE_SERVER_URL": "http://127.0.0.1:1", "PULLTRACE_LOG_LEVEL": "error"}
_reports = msgspec.json.Decoder(AgentReport)


class Node:
    """A node, its reporter and a server. ``send`` passes the reporter's requests to the server."""

    def __init__(self) -> None:
        self.reporter = Reporter(load(AgentSettings, SETTINGS))
        self.reporter._send = self.send
        self.now, self.begun, self.servers = NOW, 0, 0
        self.live: dict[str, PullState] = {}
        self.ends: set[str] = set()
        self.meanwhile: tuple[int, int, int] | None = None
        self.outcome = ""
        self.start_server()

    def start_server(self) -> None:
        self.servers += 1
        self.server = Inventory(ttl=1e6, born=self.now, limits=LIMITS)

    def happen(self, begin: int, end: int, layers: int) -> None:
        """End the ``end`` oldest pulls and start up to ``begin`` new pulls with ``layers`` layers each."""
        self.now += 0.5
        over = [self.live.pop(name) for name in list(self.live)[:end]]
        self.ends |= {pull.id for pull in over}
        for _ in range(min(begin, 250 - len(self.live))):
            self.begun += 1
            name = f"lease-{self.begun:06}"
            states = [LayerState(digest=f"sha256:{number:064x}") for number in range(layers)]
            self.live[name] = PullState(id=name, layers=states, started_at=to_time(self.now))
        done = [
            msgspec.structs.replace(pull, status=PullPhase.COMPLETED, completed_at=to_time(self.now)) for pull in over
        ]
        self.reporter.offer(list(self.live.values()), done)

    async def send(self, body: bytes, _: object) -> Response:
        assert len(body) <= MAX_REPORT
        if self.meanwhile:
            self.happen(*self.meanwhile)
        if self.outcome == "lost":
            raise HttpError("lost", "on the way")
        if self.outcome == "refused":
            return Response(503, {}, b"")
        if self.outcome == "another server":
            self.start_server()
        self.now += 0.5
        merged = self.server.merge(_reports.decode(body), self.now)
        assert not [pull.key for pull in merged.ended if pull.presumed], "closed before its end was reported"
        if self.outcome == "answer lost":
            raise HttpError("lost", "on the way back")
        return Response(200, {}, b'{"bootId":"%d"}' % self.servers)

    async def post(self, outcome: str, meanwhile: tuple[int, int, int] | None) -> None:
        self.outcome, self.meanwhile = outcome, meanwhile
        await self.reporter._post(10.0)


@pytest.fixture(scope="module", autouse=True)
def narrow_reports() -> Iterator[None]:
    """Limit reports to about twenty pulls with twelve layers each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporter, "_ROOM", 24_000)
        yield


batches = st.tuples(st.integers(0, 70), st.integers(0, 70), st.sampled_from([0, 3, 12]))
steps = st.lists(st.tuples(batches, st.sampled_from(OUTCOMES), st.none() | batches), max_size=12)


@settings(max_examples=60)
@given(steps)
async def test_an_unreliable_connection_does_not_close_live_pulls_or_lose_finished_pulls(happenings) -> None:
    node = Node()
    for batch, outcome, meanwhile in happenings:
        node.happen(*batch)
        await node.post(outcome, meanwhile)
    node.happen(0, len(node.live), 0)
    await node.post("taken", None)
    for _ in range(500):
        if node.reporter._busy:
            await node.post("taken", None)
    assert not node.reporter._busy
    states = node.server.nodes["n"]
    assert not states.active
    if node.servers == 1:
        assert set(states.ended) == node.ends
