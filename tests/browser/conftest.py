"""A headless Chromium. Any error in a page fails the test."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from .scripted import STATIC, ScriptedServer

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
EXPECTED = r"Failed to load resource|net::ERR|EventSource's response has a MIME type"
AXE = Path(__file__).parents[2] / "web/node_modules/axe-core/axe.min.js"

# The timeout is long enough for a busy machine. Only an assertion that fails waits for the full timeout.
expect.set_options(timeout=180_000)

OpenPage = Callable[..., Awaitable[Page]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here not in item.path.parents:
            continue
        item.add_marker(pytest.mark.browser)
        if not CHROMIUM.exists():
            item.add_marker(pytest.mark.skip(reason="no chromium here; `make parts` installs it"))
        elif not (STATIC / "index.html").exists():
            item.add_marker(pytest.mark.skip(reason="the page is not built: make install"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        found = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        await found.close()


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(browser: Browser) -> AsyncIterator[OpenPage]:
    """Return a function that opens a URL in a new browser context. An error in the page fails the test."""
    complaints: list[str] = []
    async with AsyncExitStack() as stack:

        async def opened(
            url: str, *, width: int = 1480, height: int = 1000, theme: str = "dark", **context: Any
        ) -> Page:
            made = await browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=theme, locale="en-GB", **context
            )
            stack.push_async_callback(made.close)
            page = await made.new_page()
            page.set_default_timeout(180_000)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on(
                "console",
                # Tests stop the server, so failed requests do not count as errors in the page.
                lambda message: (
                    complaints.append(message.text)
                    if message.type == "error" and not re.search(EXPECTED, message.text)
                    else None
                ),
            )
            await page.goto(url)
            return page

        yield opened
    assert complaints == []


@pytest_asyncio.fixture(loop_scope="session")
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def axe() -> Callable[[Page], Awaitable[list[str]]]:
    """Return a function that runs axe in a page and lists each violation with its element."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm ci in web/")
    source = await asyncio.to_thread(AXE.read_text)

    async def findings(page: Page) -> list[str]:
        # The page's content security policy forbids script elements, so axe's source is evaluated instead.
        await page.evaluate(source)
        # The full axe result lists every element on the page, so fetching it takes longer than loading the page.
        violations = await page.evaluate(
            """async () => {
              const rules = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
              return (await axe.run({runOnly: rules, resultTypes: ['violations']})).violations
            }"""
        )
        return [
            f"{violation['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
            for violation in violations
            for node in violation["nodes"][:5]
        ]

    return findings
