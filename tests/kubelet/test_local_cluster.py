"""Tests for the cluster that ``make cluster`` starts for experiments."""

import asyncio
import os
import re
import signal
import sys
import tempfile
from pathlib import Path

import aiohttp
import pytest

from tests.kubelet.lab import Lab
from tests.patience import PATIENCE

pytestmark = [pytest.mark.kubelet, pytest.mark.asyncio(loop_scope="session")]


def files(folder: str) -> list[str]:
    """Return the names of the files in a folder."""
    return [path.name for path in Path(folder).iterdir()]


async def test_the_cluster_has_a_dashboard_and_leaves_no_files_when_it_is_terminated(serial: Lab) -> None:
    """The name of the temporary folder is short, because the folder contains sockets and socket paths must be short."""
    with tempfile.TemporaryDirectory(prefix="pt-") as folder:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.real.local_cluster", "0"),
            env=os.environ | {"TMPDIR": folder},
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout
        async for line in process.stdout:
            if found := re.search(r"(http://\S+) is the dashboard", line.decode()):
                break
        assert found
        async with aiohttp.ClientSession() as session, session.get(f"{found[1]}/api/v1/nodes") as answer:
            assert [node["name"] for node in (await answer.json())["nodes"]] == ["node-1"]
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            await process.wait()
        assert files(folder) == []
