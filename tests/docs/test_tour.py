"""The tour of the code is the same in the docs and in the package, and a report passes through every module in the
tour.
"""

import asyncio
import logging
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import aiohttp
import pytest

import pulltrace
from pulltrace.demo.run import demo
from tests.real.process import free_port

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"^ *((?:agent|server|web)/[\w/]+) {1,}(\S.*)$", re.MULTILINE)


def tour_of(text: str) -> list[tuple[str, str]]:
    return LINE.findall(text)


def test_the_tour_is_the_same_in_the_docs_and_in_the_package():
    architecture = (ROOT / "docs" / "architecture.md").read_text()
    fenced = architecture.split("## The path of the data")[1].split("```")[1]
    assert tour_of(pulltrace.__doc__ or "") == tour_of(fenced) != []


def test_every_module_in_the_tour_exists():
    for module, _ in tour_of(pulltrace.__doc__ or ""):
        if module.startswith("web/"):
            assert (ROOT / module).exists() or (ROOT / f"{module}.ts").exists(), module
        else:
            assert find_spec(f"pulltrace.{module.replace('/', '.')}"), module


@pytest.fixture
def log_levels():
    """After the test, restore the log levels that the demo changes."""
    loggers = [logging.getLogger(name) for name in ("pulltrace.agent", "pulltrace.server")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.mark.usefixtures("log_levels")
async def test_a_report_passes_through_every_module_in_the_tour():
    expected = {
        f"pulltrace.{module.replace('/', '.')}"
        for module, _ in tour_of(pulltrace.__doc__ or "")
        if not module.startswith("web/")
    }
    entered: set[str] = set()

    def note_calls(frame, event, _):
        if event == "call":
            entered.add(frame.f_globals.get("__name__", ""))

    port = free_port()
    running = asyncio.create_task(demo(nodes=1, speed=10, port=port))
    sys.setprofile(note_calls)
    try:
        async with asyncio.timeout(240), aiohttp.ClientSession() as client:
            events = None
            while events is None:
                try:
                    events = await client.get(f"http://127.0.0.1:{port}/api/v1/events")
                except aiohttp.ClientConnectorError:
                    await asyncio.sleep(0.05)
            async for line in events.content:
                if b"pull.completed" in line and entered >= expected:
                    break
    finally:
        sys.setprofile(None)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert expected - entered == set()
