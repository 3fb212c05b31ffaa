"""Tests of when the reporter sends a pull, and of which pulls it sends. The reporter posts to a real HTTP server, and
each test defines the server's responses.
"""

import json

import msgspec
import pytest
from aiohttp import web
from msgspec import structs

from pulltrace.agent.reporter import MAX_RECENT, MAX_UNACKNOWLEDGED
from pulltrace.wire import MAX_LAYERS, MAX_PULLS, MAX_REPORT, LayerState, PullPhase, PullState
from tests.agent.receiver import INTERVAL, Server, pull, serving


async def test_the_reporter_respects_the_minimum_interval_even_if_the_previous_report_arrived_late(server, make):
    """The server compares arrival times, and returns 429 if two reports arrive less than half a second apart."""
    server.delays = [2 * INTERVAL]
    async with make(heartbeat=INTERVAL) as reporter:
        reporter.offer([], [])
        await server.until(lambda: len(server.reports) == 2)
    assert server.arrived[1] - server.arrived[0] >= 0.9 * INTERVAL


async def test_the_agent_on_an_idle_node_sends_heartbeats_that_contain_no_pulls(server, make):
    async with make(heartbeat=0.05) as reporter:
        reporter.offer([], [])
        await server.until(lambda: len(server.reports) == 3)
    assert all(report.get("pulls") is None for report in server.reports)
    assert [report["sequence"] for report in server.reports] == [1, 2, 3]
    assert len({report["bootId"] for report in server.reports}) == 1
    assert server.reports[0]["heartbeatSeconds"] == 0.05


async def test_a_new_pull_does_not_wait_for_the_heartbeat(server, make):
    async with make() as reporter:
        await server.until(lambda: server.reports)
        reporter.offer([pull("a", PullPhase.DOWNLOADING)], [])
        await server.until(lambda: server.reports[-1].get("pulls"))


async def test_the_reporter_sends_only_the_newest_state_even_if_no_pull_is_live(server, make):
    async with make() as reporter:
        for number in range(5):
            reporter.offer([pull(f"p{number}", PullPhase.DOWNLOADING)], [])
        await server.until(lambda: server.reports and server.reports[-1].get("pulls"))
        assert [item["id"] for item in server.reports[-1]["pulls"]] == ["p4"]
        reporter.offer([], [])
        await server.until(lambda: server.reports[-1].get("pulls") is None)


async def test_finished_pulls_are_kept_until_acknowledged_and_are_not_sent_again_afterwards(server, make):
    server.answers = [web.Response(status=503), web.Response(status=401), web.Response(status=500)]
    async with make() as reporter:
        reporter.offer([], [pull("a")])
        reporter.offer([], [pull("b")])
        await server.until(server.acknowledged)
        reporter.offer([], [pull("c")])
        await server.until(lambda: "c" in server.acknowledged())
    assert server.acknowledged() == ["a", "b", "c"]


async def test_a_server_that_starts_later_receives_every_finished_pull(make, unused_tcp_port):
    server = Server()
    async with make() as reporter:
        reporter.offer([], [pull("a")])
        async with serving(server, unused_tcp_port):
            await server.until(lambda: server.acknowledged() == ["a"])


async def test_a_restarted_server_gets_the_history_again(server, make):
    async with make() as reporter:
        reporter.offer([], [pull("a"), pull("b")])
        await server.until(lambda: server.acknowledged() == ["a", "b"])
        server.boot = "second"
        reporter.offer([], [pull("c")])
        await server.until(lambda: len(server.acknowledged()) == 5)
        assert server.acknowledged() == ["a", "b", "c", "a", "b"]
        server.boot = "third"
        reporter.offer([], [pull("d")])
        await server.until(lambda: len(server.acknowledged()) == 9)
    assert set(server.acknowledged()[6:]) == {"a", "b", "c"}


async def test_acknowledged_pulls_never_displace_unacknowledged_pulls(server, make):
    async with make() as reporter:
        reporter.offer([], [pull("old")])
        await server.until(server.acknowledged)
        server.boot = "second"
        room = MAX_UNACKNOWLEDGED // len(msgspec.json.encode(pull("new10", layers=300)))
        reporter.offer([], [pull(f"new{number}", layers=300) for number in range(10, 10 + room)])
        await server.until(lambda: f"new{9 + room}" in server.acknowledged())
    assert [name for name in server.acknowledged() if name != "old"] == [
        f"new{number}" for number in range(10, 10 + room)
    ]


async def test_the_oldest_finished_pulls_are_dropped_first(server, make):
    async with make(run=False) as reporter:
        for number in range(400):
            reporter.offer([], [pull(f"p{number}", layers=200)])
        assert sum(map(len, reporter._unacknowledged.values())) <= MAX_UNACKNOWLEDGED
        while reporter._unacknowledged:
            assert await reporter._post(1.0) == 0.0
        assert sum(map(len, reporter._recent.values())) <= MAX_RECENT
    assert server.acknowledged() == [f"p{number}" for number in range(400 - len(server.acknowledged()), 400)]


async def test_an_invalid_finished_pull_is_dropped_and_the_next_pull_is_sent(server, make):
    server.malformed = b"bad"
    async with make() as reporter:
        reporter.offer([], [pull("bad")])
        await server.until(lambda: server.requests)
        reporter.offer([], [pull("good")])
        await server.until(server.acknowledged)
    assert server.acknowledged() == ["good"]


async def test_finished_pulls_that_do_not_fit_into_a_single_report_are_spread_over_several_reports(server, make):
    server.largest = 60_000
    async with make() as reporter:
        reporter.offer([], [pull(f"p{number}", layers=100) for number in range(12)])
        await server.until(lambda: len(server.acknowledged()) == 12)
    assert server.acknowledged() == [f"p{number}" for number in range(12)]


async def test_live_pulls_take_turns_and_each_report_lists_the_ids_of_the_other_pulls(server, make):
    largest, ids = 0, {f"p{number}" for number in range(10)}
    live = [
        PullState(id=name, status=PullPhase.DOWNLOADING, layers=[LayerState(digest="d" * 135)] * MAX_LAYERS)
        for name in sorted(ids)
    ]
    async with make() as reporter:
        reporter.offer(live, [pull("end", layers=MAX_LAYERS)])
        await server.until(lambda: len(server.reports) == 5)
    for report in server.reports:
        largest = max(largest, len(json.dumps(report, separators=(",", ":"))))
        names = [item["id"] for item in report["pulls"] if item["status"] == "downloading"]
        assert sorted([*names, *report["others"]]) == sorted(ids), "each pull appears once"
    assert largest <= MAX_REPORT
    seen = [item["id"] for told in server.reports for item in told["pulls"]]
    assert ids < set(seen), "every pull gets its turn"
    assert seen.count("end") == 1


async def test_a_finished_pull_is_listed_by_id_until_a_report_has_room_for_it(server, make):
    """The server closes a pull that is missing from a report. If a report with the final state of a closed pull arrived
    later, the server would count the pull twice.
    """
    names = [f"p{number:03}" for number in range(MAX_PULLS)]
    async with make(run=False) as reporter:
        reporter.offer([pull(name, PullPhase.DOWNLOADING) for name in names], [])
        for _ in range(2):
            await reporter._post(1.0)
        server.answers = [web.Response(status=503)]
        reporter.offer([], [pull(name) for name in names])
        for _ in range(4):
            await reporter._post(1.0)
    half = MAX_PULLS // 2
    first, second, idle = server.reports[-3:]
    assert [item["id"] for item in first["pulls"]] == names[:half]
    assert first["others"] == names[half:]
    assert [item["id"] for item in second["pulls"]] == names[half:]
    assert "others" not in second
    assert idle.get("pulls") is None
    assert not reporter._busy


async def test_pulls_keep_their_turn_when_a_report_is_lost(server, make):
    names = {f"p{number:03}" for number in range(MAX_PULLS)}
    async with make(run=False) as reporter:
        reporter.offer([pull(name, PullPhase.DOWNLOADING) for name in sorted(names)], [])
        for _ in range(2):
            server.answers = [web.Response(status=503)]
            assert await reporter._post(1.0)
            assert not await reporter._post(1.0)
    assert {item["id"] for report in server.reports for item in report["pulls"]} == names


@pytest.mark.parametrize("why", ["too large", "no report"])
async def test_a_live_pull_that_the_server_rejects_does_not_block_other_live_pulls(server, make, why):
    if why == "too large":
        server.largest = 30_000
    else:
        server.malformed = b"not a name"
    ends, names = [f"end-{number}" for number in range(20)], [f"p{number}" for number in range(3)]
    live = [pull(name, PullPhase.DOWNLOADING) for name in names]
    live.append(structs.replace(pull("bad", PullPhase.DOWNLOADING, layers=512), registry="not a name"))
    async with make(run=False) as reporter:
        reporter.offer(live, [pull(name) for name in ends])
        for _ in range(60):
            await reporter._post(1.0)
    assert server.acknowledged() == ends
    assert set(names) <= {item["id"] for report in server.reports for item in report.get("pulls", ())}
    assert all("bad" in report["others"] for report in server.reports)
    assert [item["id"] for report in server.reports[-8:] for item in report.get("pulls", ())].count("p1") > 1


async def test_pulls_that_do_not_fit_into_a_report_are_listed_only_by_id(server, make):
    async with make(run=False) as reporter:
        for count in (1, MAX_PULLS // 2, MAX_PULLS, 3 * MAX_PULLS):
            reporter.offer([pull(f"p{number}", PullPhase.DOWNLOADING) for number in range(count)], [])
            assert await reporter._post(1.0) == 0.0
    told = [(len(report["pulls"]), len(report.get("others", ()))) for report in server.reports]
    half = MAX_PULLS // 2
    assert told == [(1, 0), (half, 0), (half, half), (half, half)]


async def test_oversized_live_pulls_do_not_displace_a_finished_pull(server, make):
    server.largest = 60_000
    async with make() as reporter:
        reporter.offer([pull(f"p{number}", PullPhase.DOWNLOADING, layers=100) for number in range(12)], [pull("end")])
        await server.until(server.acknowledged)
    assert server.acknowledged() == ["end"]


async def test_a_finished_pull_that_is_too_large_for_any_report_is_dropped(server, make):
    server.largest = 60_000
    async with make() as reporter:
        reporter.offer([], [pull("huge", layers=900)])
        await server.until(lambda: server.requests)
        reporter.offer([], [pull("small")])
        await server.until(server.acknowledged)
    assert server.acknowledged() == ["small"]
