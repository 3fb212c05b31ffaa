"""The benchmarks keep working. Their figures are nobody's business here."""

import asyncio
import sys

import pytest


@pytest.mark.timeout(110)
@pytest.mark.parametrize("part", ["target", "compared", "curves", "broken"])
async def test_a_short_benchmark_runs_and_prints_its_table(part):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench", "--short", part, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    assert "| load | reports/s |" in printed.decode()
