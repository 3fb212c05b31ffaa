"""Tests for the alarm that terminates a hung agent, each in a separate process."""

import asyncio
import signal
import subprocess
import sys
from typing import Any

import pytest

from pulltrace.agent import run
from pulltrace.agent.watchdog import Watchdog
from pulltrace.settings import AgentSettings, load
from tests.patience import PATIENCE

PROGRAM = """
import asyncio, threading, time
from pulltrace.agent.watchdog import Watchdog

async def await_forever():
    await asyncio.Event().wait()

async def compute_forever():
    while True:
        pass

async def hold_a_lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

async def keep_polling():
    for _ in range(8):
        await asyncio.sleep(0.2)
        watchdog.postpone()

with Watchdog(1.0) as watchdog:
    asyncio.run({name}())
time.sleep(1.2)
print("end")
"""


def execute(name: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(name=name)
    return subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", ["await_forever", "compute_forever", "hold_a_lock"])
def test_a_hung_process_prints_where_it_is_stuck_and_exits(name: str) -> None:
    done = execute(name)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no poll for 1 s: the agent is stuck" in done.stderr
    assert name in done.stderr


def test_a_process_that_keeps_polling_is_not_killed_and_cancels_its_alarm_at_exit() -> None:
    done = execute("keep_polling")
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_the_agent_works_without_the_alarm_if_seccomp_blocks_setitimer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise signal.ItimerError(38, "Function not implemented")

    monkeypatch.setattr(signal, "setitimer", refuse)
    with Watchdog(1.0) as watchdog:
        watchdog.postpone()


async def test_each_poll_postpones_the_alarm_even_if_containerd_is_not_running(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    variables = {"PULLTRACE_NODE_NAME": "n", "PULLTRACE_CONTAINERD_SOCKET": str(tmp_path / "none.sock")}
    settings = load(AgentSettings, variables | {"PULLTRACE_REPORT_INTERVAL": "500ms"})
    polls = asyncio.Semaphore(0)
    task = asyncio.create_task(run.watch(settings, alive=polls.release))
    try:
        async with asyncio.timeout(PATIENCE):
            await polls.acquire()
            await polls.acquire()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
