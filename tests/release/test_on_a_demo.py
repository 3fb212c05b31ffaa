"""Tests for the scripts that check a server in a cluster. The tests run these scripts against the demo's server."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.patience import PATIENCE
from tests.real.process import Process, free_port
from tests.release.scripts import ROOT

RELEASE_TEST = ROOT / "charts" / "pulltrace" / "files" / "release_test.py"
SEES_A_PULL = ROOT / ".github" / "scripts" / "sees_a_pull.py"


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a demo, without a trailing slash."""
    command = [sys.executable, "-m", "pulltrace", "demo", "--port=0", "--speed=10", "--nodes=6"]
    process = Process(command, tmp_path / "demo.log")
    try:
        async with asyncio.timeout(PATIENCE):
            while not (found := re.search(r"dashboard is at (http://\S+?)/? ", process.last_words())):
                process.check()
                await asyncio.sleep(0.1)
        yield found[1]
    finally:
        await process.end(signal.SIGTERM)


async def run(*command: object) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


async def test_helm_test_passes_if_the_nodes_report(demo: str) -> None:
    code, output = await run(RELEASE_TEST, demo, "agents")
    assert code == 0, output
    assert re.search(r"ready; nodes reporting: \d+", output)


async def test_helm_test_fails_and_prints_the_reason_if_no_server_responds(tmp_path: Path) -> None:
    impatient = tmp_path / "release_test.py"
    impatient.write_text(RELEASE_TEST.read_text().replace("+ 60", "+ 1"))
    code, output = await run(impatient, f"http://127.0.0.1:{free_port()}", "agents")
    assert code == 1
    assert "Connection refused" in output


@pytest.fixture
async def ended(demo: str) -> list[dict[str, Any]]:
    """Two of the demo's pulls: a completed pull that downloaded bytes, and a failed pull."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE):
        while True:
            async with session.get(f"{demo}/api/v1/pulls?status=completed&status=failed") as response:
                pulls = (await response.json())["pulls"]
            found = [next((one for one in pulls if fits(one)), None) for fits in (fetched, failed)]
            if all(found):
                return found
            await asyncio.sleep(0.2)


def fetched(pull: dict[str, Any]) -> bool:
    return pull["status"] == "completed" and pull["totalBytes"] > 0


def failed(pull: dict[str, Any]) -> bool:
    return pull["status"] == "failed"


@pytest.fixture
async def recorded(ended: list[dict[str, Any]]) -> AsyncIterator[str]:
    """The URL of a server that always returns the same two pulls. A demo is unsuitable, because its list keeps
    changing.
    """

    async def pulls(_: web.Request) -> web.Response:
        return web.json_response({"pulls": ended})

    app = web.Application()
    app.router.add_get("/api/v1/pulls", pulls)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_the_script_finds_a_completed_pull(recorded: str, ended: list[dict[str, Any]]) -> None:
    code, output = await run(SEES_A_PULL, recorded, ended[0]["imageRef"])
    assert code == 0, output
    assert '"percent": 100' in output


async def test_the_script_that_looks_for_a_completed_pull_rejects_a_failed_pull(recorded: str, ended: list) -> None:
    ended[0]["imageRef"] = "docker.io/library/another:1"
    code, output = await run(SEES_A_PULL, recorded, ended[1]["imageRef"])
    assert code == 1, output
    assert '"status": "failed"' in output
