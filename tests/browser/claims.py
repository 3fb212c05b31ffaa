"""Check that the dashboard's *Needs attention* strip agrees with the Pods view, and that rows stay in order from one
second to the next.

The exit status is 1 if the strip contradicted the Pods view, or if a row moved without a visible reason.

Usage:

    .venv/bin/python -m tests.browser.claims http://127.0.0.1:8080 --seconds 180
"""

import argparse
import asyncio
import itertools
import re
import sys
import time
from typing import Any, TypeAlias

from playwright.async_api import Browser, Page, async_playwright

from .conftest import CHROMIUM, FLAGS

Json: TypeAlias = dict[str, Any]
STRIP = 'section[aria-label="Needs attention"]'
TALL = {"width": 1480, "height": 6000}
"""A viewport large enough for all of the demo's rows. Rows outside the viewport are not rendered."""

FAILING = ("Failed", "Retry queued")
"""How the state column begins if the pull is failing."""

LIST_SECONDS = 2.5
"""The maximum time, in seconds, between the page's requests for the list of pods, on an idle machine."""

SAMPLE = """() => {
  const text = (row, name) => row.querySelector(`td[data-column=${name}]`)?.textContent ?? ''
  const rows = [...document.querySelectorAll('tbody tr:has(button[data-toggle])')].map(row => ({
    key: row.querySelector('[data-toggle]').dataset.toggle,
    state: text(row, 'state'), image: text(row, 'image'), node: text(row, 'node'), pods: text(row, 'pods'),
    top: row.getBoundingClientRect().top,
  })).sort((a, b) => a.top - b.top)
  const claims = [...document.querySelectorAll('section[aria-label="Needs attention"] li')].map(item => ({
    subject: item.querySelector('bdi').textContent, text: item.querySelector('p').textContent,
  }))
  const tile = [...document.querySelectorAll('[aria-label="Pulls by state"] b')].map(b => b.textContent)
  return {rows, claims, waiting: Number(tile[0])}
}"""


async def sample(page: Page) -> Json:
    """Read the rows, the problems in the strip and the number of waiting pods, all at the same instant."""
    button = page.locator(f"{STRIP} button[aria-expanded=false]")
    if await button.count():
        await button.first.click()
    return await page.evaluate(SAMPLE)


def false_claims(seen: Json) -> list[str]:
    """Return a sentence for each difference between the *Needs attention* strip and the Pods view."""
    waiting = [row for row in seen["rows"] if not row["state"].startswith("Started")]
    found = [] if seen["waiting"] == len(waiting) else [f"{seen['waiting']} wait, {len(waiting)} rows"]
    for claim in seen["claims"]:
        found += false_queue(claim, waiting)
        waiting_pods = re.search(r"(\d+) pods? (?:is|are) waiting", claim["text"])
        if "cannot be pulled" not in claim["text"]:
            continue
        rows = [row for row in waiting if claim["subject"] in row["image"] and row["state"].startswith(FAILING)]
        if not rows or (waiting_pods and len(rows) != int(waiting_pods[1])):
            found.append(f"{claim['text']} But {len(rows)} rows: {rows}")
    failing = [row for row in waiting if row["state"].startswith(FAILING)]
    silent = [row for row in failing if not any(claim["subject"] in row["image"] for claim in seen["claims"])]
    return found + [f"not in the strip: {row['image']}" for row in silent]


def false_queue(claim: Json, waiting: list[Json]) -> list[str]:
    """Return a sentence for each difference between the Pods view and a claim that a pull blocks its node's queue.

    A row shows only one of a pod's images, so the rows may show fewer queued images than the strip counts.
    """
    blocked = re.search(r"blocks the queue of (\S+)\. No pod waits", claim["text"])
    counts = re.search(r"(\d+) pulls? queues? behind it(?:, (\d+) of them)?", claim["text"])
    if blocked is None or counts is None:
        return []
    rows = [row for row in waiting if row["node"] == blocked[1]]
    found = [f"{claim['text']} But a pod waits: {row}" for row in rows if claim["subject"] in row["image"]]
    # The cell also contains the number of the pod's other images and the pulls ahead: `alpine:3.23+1behind nginx:1.29`.
    queued = {re.split(r"\+\d|behind ", row["image"])[0] for row in rows if row["state"].startswith("Queued")}
    listed = int(counts[1]) - int(counts[2] or 0)
    return found + ([f"{claim['text']} But queued: {sorted(queued)}"] if len(queued) > listed else [])


def unexplained_moves(before: Json, after: Json) -> list[str]:
    """Return the pairs of rows that swapped places even though both rows kept their states and pods.

    If a row shows a later end time than before, the row is ignored, because one of its other pulls has finished.
    """

    def looks(seen: Json) -> dict[str, tuple[int, str]]:
        words = [re.sub(r"[\d].*", "", row["state"]) + "/" + row["pods"] for row in seen["rows"]]
        return {row["key"]: (at, word) for at, (row, word) in enumerate(zip(seen["rows"], words, strict=True))}

    ages = {row["key"]: seconds_ago(row["state"]) for row in before["rows"]}
    newer = {row["key"] for row in after["rows"] if seconds_ago(row["state"]) < ages.get(row["key"], 0)}

    one, other = looks(before), looks(after)
    same = (key for key in one.keys() & other.keys() - newer if one[key][1] == other[key][1])
    calm = sorted(same, key=lambda key: one[key][0])
    rows = {row["key"]: f"{row['image']} ({row['state']})" for row in after["rows"]}
    pairs = [pair for pair in itertools.pairwise(calm) if other[pair[0]][0] > other[pair[1]][0]]
    return [f"{rows[first]} and {rows[second]}" for first, second in pairs]


def seconds_ago(state: str) -> int:
    """Return how many seconds ago a row's pull ended, according to the text in its state column."""
    found = re.search(r"(?:(\d+) min )?(\d+) s ago", state)
    return int(found[1] or 0) * 60 + int(found[2]) if found else 0


async def persistent(page: Page, wrong: list[str]) -> list[str]:
    """Return the differences that persist after the page has had enough time to receive the next list, even on a busy
    machine.
    """
    for _ in range(20):
        await asyncio.sleep(LIST_SECONDS)
        now = false_claims(await sample(page))
        if not (wrong := [text for text in wrong if text in now]):
            break
    return wrong


async def watch(browser: Browser, url: str, seconds: float) -> tuple[int, list[str]]:
    """Every second, compare the *Needs attention* strip with the Pods view, and the order of the rows with their
    previous order. Return the number of comparisons and all differences.

    The page requests the list of pods every two seconds. The output marks differences that disappear once the page has
    received the next list.
    """
    # Nobody looks at these pages, so they are rendered at a small scale factor to save time.
    pods, pulls = [await browser.new_page(viewport=TALL, device_scale_factor=0.25) for _ in range(2)]
    await pods.goto(f"{url}?view=pods")
    await pulls.goto(url)
    for page in (pods, pulls):
        await page.locator("tbody tr").first.wait_for()
    await asyncio.sleep(LIST_SECONDS)
    found: list[str] = []
    before = await pulls.evaluate(SAMPLE)
    number, begin = 0, time.monotonic()
    while time.monotonic() < begin + seconds:
        number += 1
        await asyncio.sleep(1)
        if wrong := false_claims(await sample(pods)):
            still = await persistent(pods, wrong)
            found += [f"sample {number}: {text}{'' if text in still else ' (waits for the list)'}" for text in wrong]
        after = await pulls.evaluate(SAMPLE)
        found += [f"sample {number}: moved: {text}" for text in unexplained_moves(before, after)]
        before = after
    for page in (pods, pulls):
        await page.close()
    return number, found


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=180)
    options = parser.parse_args()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        samples, found = await watch(browser, options.url.rstrip("/") + "/", options.seconds)
        await browser.close()
    print(*found, f"{samples} samples, {len(found)} deviations", sep="\n")  # noqa: T201
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    asyncio.run(main())
