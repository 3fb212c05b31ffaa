"""Tests for server faults: the server is killed or frozen, it runs out of file descriptors, or its clock jumps."""

import asyncio
import os
import resource
import signal
import socket
from contextlib import ExitStack

import pytest

from tests.faults.lab import Fault
from tests.real.versions import FAKETIME


async def test_a_server_that_was_killed_during_a_pull_recovers_its_history(lab, fault):
    await lab.pulled("done", 1)
    running = await lab.running("app", 12)
    before = await lab.row_of(running)
    async with fault("server killed mid-pull and started again", "the history and the rows are recovered") as seen:
        await lab.server.kill()
        await lab.server.start()
        seen.over()
    assert (await lab.row_of(running))["id"] == before["id"]


async def test_pulls_that_end_while_the_server_is_down_are_reported_afterwards(lab, fault):
    await lab.pulled("done", 1)
    running = await lab.running("app", 6)
    async with fault(
        "server down while one pull ends and another starts and ends", "the ends of both pulls are published"
    ) as seen:
        await lab.server.kill()
        short = lab.pull("short", 4)
        await lab.until(lambda: lab.over(running, short))
        await lab.server.start()
        seen.over()


async def test_a_frozen_server_resumes_where_it_left_off(lab, fault):
    await lab.running("app", 12)
    async with fault("server frozen (SIGSTOP)", "the server continues where it stopped") as seen:
        lab.server.signal(signal.SIGSTOP)
        await asyncio.sleep(3)
        lab.server.signal(signal.SIGCONT)
        seen.over()


async def test_a_server_that_runs_out_of_file_descriptors_keeps_its_connections_and_recovers(lab, fault):
    await lab.running("app", 12)
    pid = lab.server.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    async with fault(
        "server out of file descriptors", "open connections continue; new connections wait until descriptors are free"
    ) as seen:
        used = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208  # only the number of names is needed
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 4, limits[1]))
        with ExitStack() as sockets:
            for _ in range(200):
                sockets.enter_context(socket.create_connection(("127.0.0.1", lab.port)))
            await asyncio.sleep(2)
            assert lab.server.process.returncode is None, lab.server.output
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        seen.over()


@pytest.mark.skipif(not FAKETIME.exists(), reason="no libfaketime here; `make parts` installs it")
@pytest.mark.parametrize("jump", [-7200, 7200], ids=["back", "forward"])
async def test_no_pulls_are_lost_when_the_clock_of_the_server_jumps(make_lab, tmp_path, jump):
    clock = tmp_path / "clock"
    clock.write_text("+0")
    environment = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    lab = await make_lab(server={"environment": environment})
    await lab.pulled("done", 1)
    await lab.running("app", 16)
    where = "back" if jump < 0 else "forward"
    async with Fault(lab, f"server's clock jumps two hours {where}", "no pull is lost or ended") as seen:
        clock.write_text(f"{jump:+d}")
        seen.over()
        await asyncio.sleep(2)
