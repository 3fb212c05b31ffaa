"""Check that the benchmarks still run. The measured values are not checked."""

import asyncio
import sys

import pytest


@pytest.mark.parametrize("part", ["target", "compared", "curves", "broken"])
async def test_a_short_benchmark_runs_and_prints_its_table(part):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench", "--short", part, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    printed, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert "| load | reports/s |" in printed.decode()
    assert "Traceback" not in errors.decode(), "every simulated client understands the server's responses"


async def test_a_short_run_of_the_slopes_benchmark_prints_all_cpu_times():
    command = [sys.executable, "-m", "bench.slopes", "--short", "--seconds", "0.5", "--repeats", "1"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    assert process.returncode == 0
    assert printed.decode().count("ms of CPU per second") == 4
