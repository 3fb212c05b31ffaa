"""Tests with reports that arrive twice, late or out of order, or that come from a node whose clock is hours off."""

import asyncio

import aiohttp
import pytest
from aiohttp import web

from tests.faults.lab import Fault, seconds
from tests.real.versions import FAKETIME


class Postman:
    """A proxy that forwards reports to a server, some of them twice and others out of order."""

    def __init__(self, port):
        self._url = f"http://127.0.0.1:{port}/api/v1/report"
        self._kept = []
        self.careless = False
        self.responses = []
        """The responses to reports that arrived twice or late."""

    async def __aenter__(self):
        self._session = aiohttp.ClientSession()
        app = web.Application()
        app.router.add_post("/api/v1/report", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()
        await self._session.close()

    async def _take(self, request):
        body = await request.read()  # aiohttp has already decompressed the body
        async with self._session.post(self._url, data=body) as answer:
            passed = web.Response(body=await answer.read(), status=answer.status)
        if self.careless:
            self._kept.append(body)
            late = self._kept.pop(0) if len(self._kept) > 4 else body
            for again in (late, body):
                await asyncio.sleep(0.55)  # the server would reject a report that is sent earlier
                async with self._session.post(self._url, data=again) as answer:
                    self.responses.append(answer.status)
        return passed


async def test_reports_that_arrive_twice_late_or_out_of_order_change_nothing(make_lab):
    lab = await make_lab()
    async with Postman(lab.port) as postman:
        await lab.agent.stop()
        lab.agent._environment["PULLTRACE_SERVER_URL"] = f"http://127.0.0.1:{postman.port}"
        await lab.agent.start()
        await lab.pulled("done", 1)
        running = await lab.running("app", 24)
        async with Fault(
            lab, "reports arrive twice, late, or out of order", "no byte and no end of a pull counts twice"
        ) as seen:
            postman.careless = True
            percents = []
            short = lab.pull("short", 4)
            while not await lab.over(running, short):
                percents.append((await lab.row_of(running))["percent"])
                await asyncio.sleep(0.1)
            postman.careless = False
            seen.over()
    assert percents == sorted(percents)
    assert set(postman.responses) <= {200, 429}
    assert 200 in postman.responses
    assert await lab.ends() == 3


@pytest.mark.skipif(not FAKETIME.exists(), reason="no libfaketime here; `make parts` installs it")
@pytest.mark.parametrize("hours", [-5, 5], ids=["behind", "ahead"])
async def test_times_from_a_node_whose_clock_is_hours_off_are_converted_to_server_time(make_lab, hours):
    offset = 3600 * hours
    environment = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": f"{offset:+d}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    lab = await make_lab(ahead=offset, agent={"environment": environment})
    where = "ahead" if hours > 0 else "behind"
    async with Fault(lab, f"node's clock {abs(hours)} hours {where}", "all times are from the server's clock") as seen:
        await lab.running("app", 8)
        done = await lab.pulled("done", 1)
        seen.over()
    nodes = (await lab.api.get("/api/v1/nodes"))["nodes"]
    row = await lab.row_of(done)
    for shown in (row["startedAt"], row["completedAt"], row["layers"][0]["completedAt"]):
        assert abs(seconds(shown) - seconds(nodes[0]["lastSeen"])) < 1800, row
