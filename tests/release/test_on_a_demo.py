"""Scripts that are run against a server in a cluster, run here against the demo's."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.real.process import Process, free_port
from tests.release.scripts import ROOT, script

RELEASE_TEST = ROOT / "charts" / "pulltrace" / "files" / "release_test.py"
SEES_A_PULL = ROOT / ".github" / "scripts" / "sees_a_pull.py"


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[str]:
    """A demo's address, without the last slash."""
    command = [sys.executable, "-m", "pulltrace", "demo", "--port=0", "--speed=10", "--nodes=6"]
    process = Process(command, tmp_path / "demo.log")
    try:
        async with asyncio.timeout(30):
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


async def test_helm_test_passes_where_nodes_report(demo: str) -> None:
    code, said = await run(RELEASE_TEST, demo, "agents")
    assert code == 0, said
    assert re.search(r"ready; \d+ nodes report", said)


async def test_helm_test_fails_where_nobody_answers_and_says_so(tmp_path: Path) -> None:
    impatient = tmp_path / "release_test.py"
    impatient.write_text(RELEASE_TEST.read_text().replace("+ 60", "+ 1"))
    code, said = await run(impatient, f"http://127.0.0.1:{free_port()}", "agents")
    assert code == 1
    assert "Connection refused" in said


async def test_a_pull_that_ran_to_its_end_is_seen(demo: str) -> None:
    sees = script("sees_a_pull")
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        image = None
        while image is None:
            async with session.get(f"{demo}/api/v1/pulls?status=completed") as answer:
                ended = [pull["imageRef"] for pull in (await answer.json())["pulls"] if pull["totalBytes"]]
            image = next((ref for ref in ended if sees.finished(demo, ref)["totalBytes"]), None)
    code, said = await run(SEES_A_PULL, demo, image)
    assert code == 0, said
    assert '"percent": 100' in said
