"""Tests for the text tables that are sent to terminals, and for requests that wait until images are ready."""

import asyncio

import msgspec
import pytest

from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.api import text
from pulltrace.server.responses import NodeState, NodeStatus
from pulltrace.wire import LayerPhase, PullPhase, to_time
from tests.server.build import MIB, NOW, layer, pull, report
from tests.server.kubernetes.changes import event, seen
from tests.server.pulls.test_startup import Starting

LONG = "registry.example.com/a-very-long-organisation/a-very-long-team/" + "service-" * 8 + "end:2026.11.29-build.4711"


def widths(table):
    return {len(line) for line in table.splitlines()}


def test_a_table_is_aligned_and_fits_in_100_columns():
    rows = [(LONG, "worker-1", "downloading"), ("nginx:1", "a-node-with-a-rather-long-name.example.internal", "x")]
    lines = text.table(("IMAGE", "NODE", "STATUS"), rows).splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= text.WIDTH
    column = lines[0].index("STATUS")
    assert lines[1][column:] == "downloading"
    assert lines[2][column:] == "x"
    assert "...service-" in lines[1] or lines[1].startswith("...")
    assert "build.4711" in lines[1], "the end of a name is kept"


def test_control_characters_do_not_reach_a_terminal():
    assert "\x1b" not in text.table(("IMAGE",), [("nginx\x1b[2J:1\r\n",)])


@pytest.mark.parametrize(
    ("value", "shown"), [(None, ""), (0.4, "0s"), (42, "42s"), (185, "3m05s"), (7800, "2h10m"), (-3, "0s")]
)
def test_durations_are_formatted_for_tables(value, shown):
    assert text.seconds(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0B"), (999, "999B"), (1500, "1.5kB"), (52e6, "52MB"), (9.04e9, "9.0GB")]
)
def test_sizes_are_formatted_for_tables(value, shown):
    assert text.size(value) == shown


def test_pulls_are_shown_as_a_table():
    sim = Starting()
    for second in range(1, 12):
        sim.report(
            pull("lease-1", layer("a", second * 5 * MIB), at=NOW, image_ref="docker.io/library/nginx:1"), at=second
        )
    table = text.pulls(sim.shown, to_time(sim.now))
    header, line = table.splitlines()
    assert header.split() == ["IMAGE", "NODE", "STATUS", "DONE", "SIZE", "SPEED", "LEFT/TOOK", "LIMITED", "BY"]
    assert line.split()[:6] == ["docker.io/library/nginx:1", "node-1", "downloading", "55%", "105MB", "5.2MB/s"]
    assert max(widths(table)) <= text.WIDTH


def test_pods_are_shown_as_a_table():
    sim = Starting()
    web = PodEvents(pod("web-1", "node-1", {"app": "nginx:1.27"}, at=NOW))
    sim.apply(seen(web), event(web.pulling("app", NOW + 1)), at=2)
    line = text.pods(sim.waiting, [], to_time(NOW + 65)).splitlines()[1]
    assert line.split() == ["default/web-1", "node-1", "queued", "nginx:1.27", "0%", "1m05s"]
    sim.apply(event(web.pulled("app", NOW + 9, seconds=4)), at=9)
    web.started("app", NOW + 10)
    sim.apply(seen(web), at=10)
    line = text.pods([], sim.started, to_time(NOW + 65)).splitlines()[1]
    assert line.split() == ["default/web-1", "node-1", "started", "10s"]


def test_nodes_are_shown_as_a_table():
    node = NodeStatus(name="n", state=NodeState.LATE, last_seen=to_time(NOW), active_pulls=2, bytes_per_sec=3e6)
    assert text.nodes([node], to_time(NOW + 40)).splitlines()[1].split() == ["n", "late", "2", "3.0MB/s", "40s"]


async def filled(server, *, done=False):
    served = await server()
    state = {"status": PullPhase.COMPLETED, "ended_at": 1e9 + 9} if done else {}
    one = layer("a", 100 * MIB, state=LayerPhase.EXTRACTED) if done else layer("a", MIB)
    facts = {"image_ref": "docker.io/acme/app:1", "repository": "acme/app"} | state
    assert (await served.post(msgspec.json.encode(report(pull("l", one, at=1e9, **facts))))).status == 200
    await served.until_published("acme/app")
    return served


@pytest.mark.parametrize("path", ["pulls", "pods", "images", "nodes"])
async def test_each_list_is_sent_as_a_table_if_a_header_or_a_parameter_requests_it(server, path):
    served = await filled(server)
    for query, headers in (("?format=text", {}), ("", {"Accept": "text/plain"})):
        response = await served.get(f"/api/v1/{path}{query}", **headers)
        assert (response.status, response.content_type) == (200, "text/plain")
        assert (await response.text()).splitlines()[0].isupper()
    for query, headers in (("?format=json", {"Accept": "text/plain"}), ("", {"Accept": "*/*"}), ("", {})):
        response = await served.get(f"/api/v1/{path}{query}", **headers)
        assert (response.status, response.content_type) == (200, "application/json")


async def test_filters_also_apply_to_text_tables(server):
    served = await filled(server)
    assert "acme/app" in await (await served.get("/api/v1/pulls?format=text&node=node-1")).text()
    assert "acme/app" not in await (await served.get("/api/v1/pulls?format=text&node=node-2")).text()


@pytest.mark.parametrize(
    "query",
    ["pulls?format=xml", "pulls?wait=5s", "nodes?wait=5s", "images?wait=soon", "pods?wait=2h", "pulls?format=text&x=1"],
)
async def test_an_invalid_parameter_gets_400(server, query):
    served = await server()
    response = await served.get(f"/api/v1/{query}")
    assert response.status == 400
    assert (await response.json())["error"]


async def test_a_request_that_waits_for_an_image_gets_its_response_when_the_image_is_ready(server):
    served = await filled(server)
    waiting = asyncio.create_task(served.get("/api/v1/images?image=docker.io/acme/app:1&wait=60s&format=text"))
    done = layer("a", 100 * MIB, state=LayerPhase.EXTRACTED)
    facts = {"image_ref": "docker.io/acme/app:1", "repository": "acme/app", "status": PullPhase.COMPLETED}
    while not waiting.done():
        body = report(pull("l", done, at=1e9, ended_at=1e9 + 9, **facts), sequence=1)
        await served.post(msgspec.json.encode(body))
        await asyncio.wait([waiting], timeout=0.2)
    assert waiting.result().status == 200


async def test_a_waiting_request_that_times_out_gets_504(server):
    served = await filled(server)
    response = await served.get("/api/v1/images?image=docker.io/acme/app:1&wait=100ms")
    assert (response.status, (await response.json())["error"]) == (504, "not ready within this time")


async def test_a_request_that_waits_for_an_unknown_image_gets_404(server):
    served = await filled(server)
    response = await served.get("/api/v1/images?image=docker.io/acme/other:1&wait=100ms")
    assert response.status == 404


async def test_a_request_for_a_ready_image_does_not_wait(server):
    served = await filled(server, done=True)
    response = await served.get("/api/v1/images?wait=60s")
    assert (response.status, len((await response.json())["images"])) == (200, 1)
