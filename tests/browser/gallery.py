"""Take a screenshot of every view in both themes, for visual inspection.

The screenshots show the three clusters in ``tests/browser/scenery.py``: a quiet cluster, a busy cluster, and a cluster
with problems. With ``--demo``, the screenshots show a running demo instead of the busy cluster.

Usage:

    .venv/bin/python -m tests.browser.gallery DIRECTORY [--demo http://127.0.0.1:8080]
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from .conftest import CHROMIUM, FLAGS
from .scenery import set_quiet, set_scene, set_trouble
from .scripted import ScriptedServer

SIZES = ((390, 844), (1440, 900), (2560, 1440), (3840, 2160))
VIEWS = ("pulls", "pods", "images", "nodes")
SCENES: dict[str, Callable[[ScriptedServer], Awaitable[None]]] = {
    "quiet": set_quiet,
    "busy": set_scene,
    "trouble": set_trouble,
}
SETTLED = 2.0
"""Maximum time, in seconds, that a page takes to receive the complete state."""


async def shoot(browser: Browser, url: str, into: Path, name: str) -> None:
    """Take a screenshot of each view of a server's page at each window size and in each theme. In narrower windows,
    take a second screenshot with the first row open.
    """
    for theme in ("dark", "light"):
        for width, height in SIZES:
            page = await browser.new_page(viewport={"width": width, "height": height}, color_scheme=theme)
            for view in VIEWS:
                await page.goto(f"{url}?view={view}")
                await asyncio.sleep(SETTLED)
                await page.screenshot(path=into / f"{name}-{view}-{width}-{theme}.png")
                if width <= 1440 and await page.locator("[data-toggle]").count():
                    await page.locator("[data-toggle]").first.click()
                    await asyncio.sleep(SETTLED / 2)
                    await page.screenshot(path=into / f"{name}-{view}-{width}-{theme}-open.png")
            await page.close()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("into", type=Path)
    parser.add_argument("--demo", help="the address of a running demo")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name, scene in SCENES.items():
            if name == "busy" and options.demo:
                await shoot(browser, options.demo.rstrip("/") + "/", options.into, name)
                continue
            async with ScriptedServer() as server:
                await scene(server)
                await shoot(browser, server.url, options.into, name)
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
