"""Tests for invariants that must hold for any reports in any order: numbers add up, nothing is lost, and no pull ends
twice.
"""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.api.app import create_app, create_metrics_app
from pulltrace.server.api.auth import AnonymousAuthenticator
from pulltrace.server.kubernetes.cluster import Cluster
from pulltrace.server.models import EventType, PullStatus
from pulltrace.server.pulls.hub import TooSoonError
from pulltrace.wire import LayerPhase, LayerState, PullPhase, PullState
from tests.server.build import MIB, NOW, SimulatedHub, layer, pull, report
from tests.server.kubernetes.changes import event, seen

sizes = st.integers(0, 100 * MIB) | st.integers(0, 2**63 - 1)
times = st.none() | st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
hostile_layer = st.builds(
    LayerState,
    digest=st.sampled_from("abcdef"),
    total_bytes=sizes,
    downloaded_bytes=sizes,
    cached_bytes=sizes,
    total_known=st.booleans(),
    state=st.none() | st.sampled_from(LayerPhase),
    fetched_by=st.none() | st.sampled_from(["l0", "l1", "nobody"]),
    started_at=times,
    extract_started_at=times,
    extracted_at=times,
)
hostile_pull = st.builds(
    PullState,
    id=st.sampled_from(["l0", "l1", "l2", ""]),
    image_ref=st.sampled_from(["__pulling__", "docker.io/library/nginx:1", "r/a", "layer-sha256:" + "a" * 64, "\x00"]),
    layers=st.none() | st.lists(hostile_layer, max_size=4),
    registry=st.sampled_from([None, "r", "docker.io"]),
    repository=st.sampled_from([None, "a", "library/nginx"]),
    total_known=st.booleans(),
    status=st.none() | st.sampled_from(PullPhase),
    started_at=times,
    completed_at=times,
)


def check(status: PullStatus) -> None:
    assert 0 <= status.percent <= 100
    assert status.total_bytes >= 0
    assert status.bytes_per_sec >= 0
    assert status.eta_seconds is None or status.eta_seconds >= 0
    assert status.layers_done <= status.layer_count
    assert status.started_at.timestamp() <= NOW + 1e5
    assert (status.completed_at is not None) == status.status.ended
    assert status.completed_at is None or status.completed_at >= status.started_at
    assert (status.error_reason is not None) == (status.status is PullPhase.FAILED)
    if status.total_known:
        assert status.downloaded_bytes <= status.total_bytes
    for one in status.layers or ():
        assert 0 <= one.percent <= 100
        assert one.bytes_per_sec >= 0
        assert one.pull_id == status.id


@examples(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["n1", "n2"]),
            st.lists(hostile_pull, max_size=4),
            st.floats(0.0, 100.0),
            times,
            st.sampled_from(["", "b1", "b2"]),
            st.integers(0, 20),
        ),
        max_size=12,
    )
)
def test_the_state_stays_consistent_whatever_an_agent_reports(reports) -> None:
    sim = SimulatedHub(HISTORY_TTL="120s")
    for node, pulls, later, stamp, boot, sequence in reports:
        sim.now += later
        try:
            sim.hub.report(report(*pulls, node=node, boot=boot, sequence=sequence, timestamp=stamp))
        except TooSoonError:
            continue
        sim.hub.tick(sim.now)
        for status in sim.shown:
            check(status)
        for entry in sim.hub.feed.current():
            assert entry.data(layers=True)
    for _ in range(400):  # by then, the nodes are forgotten and the history has expired
        sim.now += 10.0
        sim.hub.tick(sim.now)
    assert sim.shown == [], "nothing is kept forever"
    assert list(sim.hub.nodes()) == []


progress = st.lists(st.lists(st.integers(0, 12), min_size=3, max_size=3), min_size=1, max_size=30)


@examples(max_examples=50)
@given(progress, st.sampled_from([PullPhase.COMPLETED, PullPhase.FAILED]), st.lists(st.booleans(), max_size=30))
def test_byte_counts_add_up_and_the_percentage_never_falls_and_the_end_is_published_once(steps, end, lost) -> None:
    """Three layers grow. Some reports are lost, which must not affect the result."""
    sim = SimulatedHub()
    sizes_ = [40 * MIB, 80 * MIB, 160 * MIB]
    done = [0, 0, 0]
    best = 0.0
    sim.report(pull("l", *(layer(str(n), 0, total=size) for n, size in enumerate(sizes_)), at=NOW + 0.5), at=1)
    for second, grown in enumerate(steps, start=2):
        done = [min(have + more * MIB, size) for have, more, size in zip(done, grown, sizes_, strict=True)]
        if second - 2 < len(lost) and lost[second - 2]:
            continue
        sim.report(pull("l", *(layer(str(n), done[n], total=size) for n, size in enumerate(sizes_))), at=second)
        status = sim.one
        assert status.downloaded_bytes == sum(done) == sum(one.downloaded_bytes for one in status.layers or ())
        assert status.total_bytes == sum(sizes_)
        assert status.percent >= best
        assert (status.percent == 100) == (done == sizes_)
        best = status.percent
    last = [layer(str(n), done[n], total=size) for n, size in enumerate(sizes_)]
    sim.report(pull("l", *last, status=end, ended_at=NOW + 40), at=40)
    sim.report(pull("l", *last, status=end, ended_at=NOW + 40), at=41)
    assert sim.one.status is end
    assert sim.one.percent >= best
    assert end is PullPhase.COMPLETED or (sim.one.percent == 100) == (done == sizes_)
    assert sim.metric("pull_bytes_total", registry="docker.io") == sum(done)
    assert sim.metric("pulls_total", registry="docker.io", result=end) == 1


@examples(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=40))
def test_the_end_of_every_pull_is_in_the_feed_exactly_once(ends) -> None:
    """After many short pulls, a client that reconnects receives every pull that an agent has reported."""
    sim = SimulatedHub()
    expected: Counter[EventType] = Counter()
    for number, (node, well) in enumerate(ends):
        phase = PullPhase.COMPLETED if well else PullPhase.FAILED
        expected[EventType.COMPLETED if well else EventType.FAILED] += 1
        more = {"repository": f"r{number}", "image_ref": f"docker.io/r{number}"}
        one = pull(f"l{number}", at=NOW + number, status=phase, ended_at=NOW + number + 0.5, **more)
        sim.report(one, node=f"n{node}", at=number + 1)
    missed = sim.hub.feed.since(0)
    assert missed is not None
    assert Counter(entry.type for entry in missed) == expected


@pytest.mark.parametrize("count", [1, 300])
def test_the_work_for_one_report_does_not_grow_with_the_number_of_stored_pulls(count: int) -> None:
    """The test counts the statuses that one report creates rather than measuring time, which depends on the machine."""
    sim = SimulatedHub()
    for number in range(count):
        sim.report(pull("l", layer("a", MIB)), node=f"n{number}", at=1)
    before = sim.hub.feed.revision
    sim.report(pull("l", layer("a", 2 * MIB)), node="n0", at=2)
    assert sim.hub.feed.revision == before + 1


class Browser:
    """A simulated browser that sends requests to the apps on both ports."""

    def __init__(self, sim: SimulatedHub) -> None:
        self._apps = [
            create_app(sim.hub, AnonymousAuthenticator(), lambda: None),
            create_metrics_app(sim.hub),
        ]

    def read(self, app: int, path: str) -> tuple[int, bytes]:
        return asyncio.run(self._read(self._apps[app], path))

    async def _read(self, app: Any, path: str) -> tuple[int, bytes]:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if not sent or sent[-1].get("more_body", True):
                return {"type": "http.request", "body": b"", "more_body": False}
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
        more = {"headers": [], "http_version": "1.1", "scheme": "http", "server": ("x", 1), "client": ("y", 2)}
        await app(
            scope | more | {"root_path": "", "state": {"guard": SimpleNamespace(address="y", is_closed=False)}},
            receive,
            send,
        )
        body = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
        return sent[0]["status"], body


@examples(max_examples=25)
@given(st.lists(st.tuples(st.lists(hostile_pull, max_size=3), st.floats(0.6, 100.0), times), min_size=1, max_size=5))
def test_responses_are_valid_whatever_numbers_a_report_contains(reports) -> None:
    cluster = Cluster()
    sim = SimulatedHub(cluster=cluster)
    sim.hub.source.cluster = cluster
    one = PodEvents(pod("web-1", "n1", {"app": "nginx:1"}, at=NOW))
    cluster.apply(seen(one), NOW)
    cluster.apply(event(one.pulling("app", NOW)), NOW)
    browser = Browser(sim)
    for sequence, (pulls, later, stamp) in enumerate(reports, 1):
        sim.now += later
        sim.hub.report(report(*pulls, node="n1", boot="b", sequence=sequence, timestamp=stamp))
        sim.hub.tick(sim.now)
        for path in ("pulls", "nodes", "pods", "images"):
            status, body = browser.read(0, f"/api/v1/{path}")
            assert status == 200
            assert json.loads(body)
        assert browser.read(1, "/metrics")[0] == 200
        for row in sim.shown:
            assert browser.read(0, f"/api/v1/pulls/{row.id}")[0] == 200
