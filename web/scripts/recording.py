"""Record docs/images/demo.webp, a fifteen-second animation of the demo's page.

    .venv/bin/python web/scripts/recording.py

This script needs Chromium and the built page. Chromium encodes each frame as WebP, and the script combines the frames
into one animation as defined in the WebP container specification
(https://developers.google.com/speed/webp/docs/riff_container).
"""

import asyncio
import base64
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from playwright.async_api import CDPSession, async_playwright

TARGET = Path(__file__).parents[2] / "docs/images/demo.webp"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
PORT = 8094
SIZE = (1280, 720)
SECONDS = 15.0
FRAME_SECONDS = 0.4
QUALITY = 45
WARM_UP = 50.0
"""Seconds until the demo has pulls in every state."""
MOST_BYTES = 3_000_000


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a RIFF chunk, padding its content to an even length."""
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def chunks(webp: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks of a WebP file as (name, content)."""
    at = 12
    while at + 8 <= len(webp):
        name, length = webp[at : at + 4], int.from_bytes(webp[at + 4 : at + 8], "little")
        yield name, webp[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def uint24(number: int) -> bytes:
    return number.to_bytes(3, "little")


def animation(frames: list[bytes], size: tuple[int, int], milliseconds: int) -> bytes:
    """Combine WebP images of the same size into a looping animation."""
    width, height = (uint24(length - 1) for length in size)
    parts = [chunk(b"VP8X", b"\x02\0\0\0" + width + height), chunk(b"ANIM", b"\0\0\0\xff\0\0")]
    for frame in frames:
        image = b"".join(chunk(name, content) for name, content in chunks(frame) if name in (b"VP8 ", b"VP8L"))
        # Each frame starts at position 0, 0 and replaces the previous one.
        header = uint24(0) + uint24(0) + width + height + uint24(milliseconds) + b"\x02"
        parts.append(chunk(b"ANMF", header + image))
    content = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(content)) + content


async def frames(devtools: CDPSession) -> list[bytes]:
    """Capture frames on a fixed schedule, so that one late frame does not delay the others."""
    found = []
    start = asyncio.get_running_loop().time()
    for number in range(round(SECONDS / FRAME_SECONDS)):
        await asyncio.sleep(max(0.0, start + number * FRAME_SECONDS - asyncio.get_running_loop().time()))
        shot = await devtools.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
        found.append(base64.b64decode(shot["data"]))
    return found


async def main() -> None:
    command = ["-m", "pulltrace", "demo", "--port", str(PORT)]
    demo = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.DEVNULL)
    try:
        await asyncio.sleep(WARM_UP)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
            viewport = {"width": SIZE[0], "height": SIZE[1]}
            page = await browser.new_page(viewport=viewport, color_scheme="dark", locale="en-GB")
            await page.goto(f"http://127.0.0.1:{PORT}/")
            await page.locator("tbody tr").first.wait_for()
            recorded = await frames(await page.context.new_cdp_session(page))
            await browser.close()
    finally:
        demo.terminate()
        await demo.wait()
    found = animation(recorded, SIZE, round(FRAME_SECONDS * 1000))
    if len(found) > MOST_BYTES:
        sys.exit(f"The recording has {len(found)} bytes, more than {MOST_BYTES}: lower QUALITY.")
    TARGET.write_bytes(found)


if __name__ == "__main__":
    asyncio.run(main())
