"""Retake the screenshots in docs/images/*.png, and render the social preview from its SVG.

    .venv/bin/python web/scripts/screenshots.py

This script needs Chromium and the built page. A run takes about two minutes, most of it spent waiting for the demo.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from playwright.async_api import Browser, async_playwright

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs/images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
PORT = 8093
URL = f"http://127.0.0.1:{PORT}/"
WARM_UP = 55.0
"""Seconds until the demo has pulls in every state and the chart has some history."""


def largest_pull() -> str:
    """Return the id of the pull with the most downloaded bytes, or an empty string. Consider only pulls that have more
    than four layers and should still be running when the screenshots are taken.
    """
    with urlopen(f"{URL}api/v1/pulls", timeout=5) as response:  # noqa: S310 - our own loopback
        pulls: list[dict[str, Any]] = json.load(response)["pulls"]
    lasting = [pull for pull in pulls if pull["status"] == "downloading" and (pull.get("etaSeconds") or 0) > 60]
    moving = [pull for pull in lasting if len(pull.get("layers") or []) > 4]
    return max(moving, key=lambda pull: pull["downloadedBytes"])["id"] if moving else ""


async def shot(browser: Browser, name: str, address: str, size: tuple[int, int], theme: str = "dark") -> None:
    viewport = {"width": size[0], "height": size[1]}
    page = await browser.new_page(viewport=viewport, color_scheme=theme, locale="en-GB")
    await page.goto(address)
    await page.locator("tbody tr").first.wait_for()
    # The chart needs a few samples first.
    await asyncio.sleep(25)
    await page.screenshot(path=IMAGES / f"{name}.png")
    await page.close()


async def social(browser: Browser) -> None:
    page = await browser.new_page(viewport={"width": 1280, "height": 640})
    await page.goto((IMAGES / "social.svg").as_uri())
    await page.screenshot(path=IMAGES / "social.png")
    await page.close()


async def main() -> None:
    command = ["-m", "pulltrace", "demo", "--port", str(PORT)]
    demo = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.DEVNULL)
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
            await social(browser)
            await asyncio.sleep(WARM_UP)
            # With the largest images listed first, the open row is on the first screen.
            search = "?q=status:downloading,extracting,queued&sort=-size"
            opened = f"{URL}{search}&open={await asyncio.to_thread(largest_pull)}"
            await asyncio.gather(
                shot(browser, "dashboard", opened, (1280, 960)),
                shot(browser, "dashboard-light", opened, (1280, 960), "light"),
                shot(browser, "pods", f"{URL}?view=pods", (1280, 640)),
                shot(browser, "images", f"{URL}?view=images", (1280, 640)),
                shot(browser, "phone", URL, (390, 844)),
            )
            await browser.close()
    finally:
        demo.terminate()
        await demo.wait()


if __name__ == "__main__":
    asyncio.run(main())
