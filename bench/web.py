"""Measure the dashboard in headless Chromium, with 2,000 pulls that each change four times a second.

A small server imitates the real server: every 250 ms, it sends a burst of events in the same JSON format. The page is
the production build. Frame times are the intervals between animation frames. A main-thread task is long if the browser
reports that it took more than 50 ms. On a busy machine, a task's duration includes the time it spent waiting for a
core, so a trace also records the CPU time of the longest task. The heap is measured after a forced garbage collection,
so it contains only objects that are still in use.

Usage:

    .venv/bin/python bench/web.py                  # ten minutes
    .venv/bin/python bench/web.py --seconds 20     # a short run, as in CI
    .venv/bin/python bench/web.py --check          # exit 1 if a limit below is exceeded
"""

import argparse
import asyncio
import gzip
import json
import mimetypes
import sys
import time
from collections.abc import Iterator
from functools import cache
from operator import itemgetter
from pathlib import Path
from statistics import median
from typing import Any

from aiohttp import web
from playwright.async_api import Browser, CDPSession, Page, async_playwright

HERE = Path(__file__).parent
STATIC = HERE.parent / "pulltrace/server/static"
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PULLS = 2000
TICK = 0.25
WARM_UP = 5.0
HEAP_EVERY = 30.0
TRACE_SECONDS = 10.0

LONGEST_TASK_MS = 50
"""The maximum CPU time that a single main-thread task uses in steady state."""
HEAP_GROWTH = 0.15
"""The maximum growth of the heap, as a fraction of its initial size. Larger growth indicates a leak."""

WATCH = (HERE / "watch.js").read_text()
FIRST_ROWS = HERE / "first_rows.js"
LOADS = 5


def pulls(tick: int) -> Iterator[bytes]:
    """For one tick, yield an event per pull. A pull that reaches 100 % starts over, so the load is constant."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    for n in range(PULLS):
        percent = (n * 7 + tick * 0.5) % 100
        done = int(percent * 10_000_000)
        pull = f"""{{"id":"p{n}","nodeName":"worker-{n % 200}",\
"imageRef":"registry-{n % 6}.example.com/team-{n % 40}/service-{n}:1.{n % 9}","totalBytes":1000000000,\
"downloadedBytes":{done},"bytesPerSec":{1e6 * (n % 50 + tick % 3)},"percent":{percent},"layerCount":12,\
"layersDone":{int(percent // 9)},"startedAt":"2026-11-23T14:00:00Z","totalKnown":true,"status":"downloading",\
"imageBytes":1000000000,"cachedBytes":0,"extractedBytes":{done // 2},"layersCached":0,"layersExtracted":0,"attempt":1,\
"etaSeconds":{100 - percent},"pods":[{{"namespace":"ns-{n % 40}","podName":"service-{n}-abcde","container":"main",\
"image":"service","uid":"u{n}"}}]}}"""
        event = f"""{{"schemaVersion":"v1","timestamp":"{now}","type":"pull.progress",\
"nodeName":"worker-{n % 200}","pull":{pull}}}"""
        yield f"id: 1-{tick * PULLS + n}\ndata: {event}\n\n".encode()


async def events(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    hello = {"version": "", "bootId": "1", "time": now, "revision": 0, "pulls": PULLS}
    await response.write(f": connected\n\nevent: hello\ndata: {json.dumps(hello)}\n\n".encode())
    tick, due = 0, time.monotonic()
    while request.transport and not request.transport.is_closing():
        await response.write(b"".join(pulls(tick)))
        request.app["sent"][0] += PULLS
        # If the server falls behind, it does not make up for missed bursts, because faster bursts would change the
        # load.
        tick, due = tick + 1, max(due + TICK, time.monotonic())
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    return response


def first_pulls() -> Any:
    """Return the pulls that the page lists first. All pulls started at the same time, so the page sorts them by id."""
    shown = [json.loads(event.split(b"data: ", 1)[1])["pull"] for event in pulls(0)]
    return {"pulls": sorted(shown, key=itemgetter("id"))[:50]}


async def serve() -> web.AppRunner:
    app = web.Application()
    app["sent"] = [0]
    app.router.add_get("/api/v1/events", events)
    first = first_pulls()
    app.router.add_get("/api/v1/pulls", lambda _: _json(first))
    app.router.add_get("/api/v1/nodes", lambda _: _json({"nodes": [], "registries": []}))
    app.router.add_get("/api/v1/pods", lambda _: _json({"pods": [], "watching": True}))
    app.router.add_get("/{file:.*}", _file)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner


async def _json(body: Any) -> web.Response:
    return web.json_response(body)


async def _file(request: web.Request) -> web.Response:
    """Respond as the real server does: with a compressed file that is already in memory."""
    name = request.match_info["file"] or "index.html"
    if not (STATIC / name).is_file():
        return web.Response(status=404)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return web.Response(body=_compressed(name), content_type=kind, headers={"Content-Encoding": "gzip"})


@cache
def _compressed(name: str) -> bytes:
    return gzip.compress((STATIC / name).read_bytes())


async def first_rows(browser: Browser, address: str) -> tuple[float, float]:
    """Return the times at which the first rows and the cluster-wide figures appear, in milliseconds after the page's
    first byte. Both times are medians of five page loads, each with an empty cache.
    """
    shown, complete = [], []
    for _ in range(LOADS):
        context = await browser.new_context(viewport={"width": 1480, "height": 1000})
        page = await context.new_page()
        await page.add_init_script(path=FIRST_ROWS)
        await page.goto(address)
        await page.wait_for_function("() => window.__complete !== undefined")
        begin = "performance.getEntriesByType('navigation')[0].responseStart"
        for times, end in ((shown, "__shown"), (complete, "__complete")):
            times.append(await page.evaluate(f"() => {end} - {begin}"))
        await context.close()
    return median(shown), median(complete)


def url_of(runner: web.AppRunner) -> str:
    return f"http://127.0.0.1:{runner.addresses[0][1]}/"


async def heap(devtools: CDPSession) -> float:
    """Return the total size of the live JavaScript objects, in megabytes."""
    await devtools.send("HeapProfiler.collectGarbage")
    usage = await devtools.send("Runtime.getHeapUsage")
    return usage["usedSize"] / 1e6


def share(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


async def measure(seconds: float) -> dict[str, Any]:
    runner = await serve()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        shown, complete = await first_rows(browser, url_of(runner))
        page = await browser.new_page(viewport={"width": 1480, "height": 1000})
        await page.goto(url_of(runner))
        await page.locator("tbody tr").first.wait_for()
        await asyncio.sleep(WARM_UP)
        devtools = await page.context.new_cdp_session(page)
        await devtools.send("Performance.enable")
        heaps = [await heap(devtools)]
        worked = await busy(devtools)
        await page.evaluate(WATCH)
        before, begin = runner.app["sent"][0], time.monotonic()
        frames: list[float] = []
        tasks: list[float] = []
        while (left := begin + seconds - time.monotonic()) > 0:
            await asyncio.sleep(min(HEAP_EVERY, left))
            seen = await page.evaluate("() => __bench.take()")
            frames += seen["frames"]
            tasks += seen["long"]
            # The page did not cause this garbage collection, so discard the measurements from that time.
            heaps.append(await heap(devtools))
            await asyncio.sleep(0.5)
            await page.evaluate("() => __bench.take()")
        took = time.monotonic() - begin
        sent = runner.app["sent"][0] - before
        worked = await busy(devtools) - worked
        cpu = await longest_task_cpu(browser, page)
        rows = await page.locator("tbody tr").count()
        await browser.close()
    await runner.cleanup()
    return {
        "seconds": round(took),
        "first_rows_ms": round(shown),
        "whole_state_ms": round(complete),
        "changes_per_second": round(sent / took),
        "rows_in_the_document": rows,
        "frames_per_second": round(len(frames) / (sum(frames) / 1000), 1),
        "frame_ms_p50": round(share(frames, 0.5), 1),
        "frame_ms_p95": round(share(frames, 0.95), 1),
        "frame_ms_p99": round(share(frames, 0.99), 1),
        "long_tasks": len([task for task in tasks if task > LONGEST_TASK_MS]),
        "longest_task_ms": round(max(tasks, default=0)),
        "longest_task_cpu_ms": round(cpu, 1),
        "main_thread_busy_percent": round(100 * worked / took),
        "heap_mb_start": round(heaps[0], 1),
        "heap_mb_end": round(heaps[-1], 1),
        "heap_mb_most": round(max(heaps), 1),
    }


async def longest_task_cpu(browser: Browser, page: Page) -> float:
    """Return the CPU time, in milliseconds, of the longest main-thread task within ten seconds. On a shared machine, a
    task's duration also includes the time it spent waiting for a core.
    """
    await browser.start_tracing(page=page, categories=["toplevel"])
    await asyncio.sleep(TRACE_SECONDS)
    events = json.loads(await browser.stop_tracing())["traceEvents"]
    mains = {
        (e["pid"], e["tid"]) for e in events if e["name"] == "thread_name" and e["args"]["name"] == "CrRendererMain"
    }
    return max(e.get("tdur", 0) / 1000 for e in events if e.get("ph") == "X" and (e["pid"], e["tid"]) in mains)


async def busy(devtools: CDPSession) -> float:
    """Return how many seconds the main thread has been busy since the page was opened."""
    metrics = await devtools.send("Performance.getMetrics")
    return next(metric["value"] for metric in metrics["metrics"] if metric["name"] == "TaskDuration")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--check", action="store_true", help="exit 1 when over the limits")
    options = parser.parse_args()
    result = asyncio.run(measure(options.seconds))
    print(json.dumps(result, indent=2))
    grown = result["heap_mb_end"] > result["heap_mb_start"] * (1 + HEAP_GROWTH) + 1
    if options.check and (result["longest_task_cpu_ms"] > LONGEST_TASK_MS or grown):
        sys.exit("a limit was exceeded: either a task took too long, or the heap grew too much")


if __name__ == "__main__":
    main()
