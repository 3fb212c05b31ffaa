"""Tests for the page of ``pulltrace demo``, backed by the real server, real agents and simulated containerds."""

import asyncio
import json
import re
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from typing import Any
from urllib.request import urlopen

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.patience import PATIENCE
from tests.real.process import free_port

from .claims import watch
from .conftest import OpenPage

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROWS = "tbody tr:has(button[data-toggle])"


class Demo:
    """A ``pulltrace demo`` that keeps its port across restarts."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        command = ["-m", "pulltrace", "demo", "--port", str(self.port), "--speed", "2"]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(PATIENCE):
            while not await asyncio.to_thread(self._answers):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with urlopen(self.url + "readyz", timeout=60) as answer:
                return answer.status == 200
        except OSError:
            return False

    async def end(self, *, kill: bool = False) -> None:
        if self._process is None:
            return
        (self._process.kill if kill else self._process.terminate)()
        await self._process.wait()
        self._process = None

    async def pulls(self) -> list[dict[str, Any]]:
        def ask() -> list[dict[str, Any]]:
            with urlopen(self.url + "api/v1/pulls?layers=false", timeout=60) as answer:
                return json.load(answer)["pulls"]

        return await asyncio.to_thread(ask)


@pytest.fixture(scope="module", autouse=True)
def metrics_port_is_taken() -> Iterator[None]:
    """Occupy the metrics port, as another demo would, so that the tested demo uses a different port."""
    with ExitStack() as held:
        with suppress(OSError):
            held.enter_context(socket.create_server(("127.0.0.1", 9090)))
        yield


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def demo() -> AsyncIterator[Demo]:
    running = Demo()
    await running.start()
    yield running
    await running.end()


async def test_progress_increases_and_an_open_row_shows_its_layers(demo: Demo, open_page: OpenPage) -> None:
    async with asyncio.timeout(PATIENCE):
        while not (long := [pull for pull in await demo.pulls() if pull.get("etaSeconds", 0) > 20]):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.2)
    pull = max(long, key=lambda pull: pull["etaSeconds"])
    page = await open_page(f"{demo.url}?q=node:{pull['nodeName']}")
    figure = page.locator(f'tr:has([data-toggle="{pull["id"]}"]) td[data-column=size]')
    before = await figure.inner_text()
    await expect(figure).not_to_have_text(before)
    await page.locator(f'[data-toggle="{pull["id"]}"]').click()
    await expect(page.locator("figure ol li").first).to_be_visible()


@pytest.mark.parametrize("view", ["Pulls", "Pods", "Images", "Nodes"])
async def test_every_view_of_the_demo_has_rows_with_details(demo: Demo, open_page: OpenPage, view: str) -> None:
    page = await open_page(demo.url)
    await page.get_by_role("link", name=view, exact=True).click()
    await expect(page.locator(ROWS).first).to_be_visible()
    await page.locator("button[data-toggle]").first.press("Enter")
    await expect(page.locator("[data-detail]")).to_be_visible()


async def test_the_strip_agrees_with_the_pods_view_and_rows_move_only_when_their_state_changes(
    demo: Demo, browser: Browser
) -> None:
    """``python -m tests.browser.claims`` repeats this comparison for several minutes."""
    samples, found = await watch(browser, demo.url, seconds=8)
    assert samples
    assert [text for text in found if "waits for the list" not in text] == []


async def test_the_page_shows_the_new_state_after_the_demo_is_restarted(open_page: OpenPage) -> None:
    demo = Demo()
    await demo.start()
    try:
        page = await open_page(demo.url)
        await expect(page.locator(ROWS).first).to_be_visible()
        await demo.end(kill=True)
        await expect(page.locator("[data-connection]")).to_have_text(re.compile("econnecting"))
        old = await _shown(page)
        await demo.start()
        await expect(page.locator("[data-connection=live]")).to_be_visible()
        await expect(page.locator(ROWS).first).to_be_visible()
        async with asyncio.timeout(PATIENCE):
            while await _shown(page) - {pull["id"] for pull in await demo.pulls()}:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.2)
        assert old
    finally:
        await demo.end()


async def _shown(page: Page) -> set[str]:
    return set(await page.locator("button[data-toggle]").evaluate_all("all => all.map(one => one.dataset.toggle)"))


async def test_the_browser_receives_compressed_events_as_they_happen(demo: Demo, open_page: OpenPage) -> None:
    page = await open_page(demo.url)
    address = f"{demo.url}api/v1/events?layers=false"
    async with page.expect_response(address) as response:
        # Receive and decode events from three different frames while the response is still in progress.
        count = await page.evaluate(
            """address => new Promise(done => {
              const revisions = new Set()
              const source = new EventSource(address)
              source.addEventListener('message', event => {
                revisions.add(JSON.parse(event.data).timestamp)
                if (revisions.size === 3) {
                  source.close()
                  done(revisions.size)
                }
              })
            })""",
            address,
        )
    assert count == 3
    assert (await (await response.value).all_headers())["content-encoding"] == "gzip"
