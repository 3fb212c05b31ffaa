"""The dashboard under load: 2,000 pulls that change four times a second each, in headless Chromium.

    .venv/bin/python bench/web.py                  ten minutes
    .venv/bin/python bench/web.py --seconds 20     a short run, as in CI
    … --check                                      exit 1 if a limit below is exceeded

A small server sends the same data as the real one would (one burst every 250 ms, the same JSON); the page is the
production build. Frame times are the intervals between animation frames; long tasks are the browser's own count of
main-thread tasks over 50 ms. On a busy machine, they include waiting, so a trace also records the processor time of the
longest task. The heap is measured after a forced collection, so that only objects still in use are counted.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from aiohttp import web
from playwright.async_api import Browser, CDPSession, Page, async_playwright

STATIC = Path(__file__).parents[1] / "pulltrace/server/static"
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
"""The maximum processor time of a single task of the main thread in steady state."""
HEAP_GROWTH = 0.15
"""Maximum growth of the heap, as a fraction of its size at the start. More growth indicates a leak."""

WATCH = """() => {
  const seen = (window.__bench = {frames: [], long: []})
  let last = performance.now()
  const frame = now => { seen.frames.push(now - last); last = now; requestAnimationFrame(frame) }
  requestAnimationFrame(frame)
  new PerformanceObserver(list => { for (const task of list.getEntries()) seen.long.push(task.duration) })
    .observe({type: 'longtask'})
}"""


FIRST_ROWS = """new MutationObserver((_, observer) => {
  if (document.querySelector('tbody tr') === null) return
  observer.disconnect()
  requestAnimationFrame(() => { window.__shown = performance.now() })
}).observe(document, {childList: true, subtree: true})"""
LOADS = 5


def pulls(tick: int) -> Iterator[bytes]:
    """Advance every pull by a quarter of a second; a completed pull starts again, so that the work never changes."""
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
    request.app["began"][0] = time.time()
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    hello = {"version": "", "bootId": "1", "time": now, "revision": 0, "pulls": PULLS}
    await response.write(f": connected\n\nevent: hello\ndata: {json.dumps(hello)}\n\n".encode())
    tick, due = 0, time.monotonic()
    while request.transport and not request.transport.is_closing():
        await response.write(b"".join(pulls(tick)))
        request.app["sent"][0] += PULLS
        # Time lost in a slow moment is not made up for, because that would be a different load.
        tick, due = tick + 1, max(due + TICK, time.monotonic())
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    return response


async def serve() -> web.AppRunner:
    app = web.Application()
    app["sent"] = [0]
    app["began"] = [0.0]
    app.router.add_get("/api/v1/events", events)
    app.router.add_get("/api/v1/nodes", lambda _: _json({"nodes": [], "registries": []}))
    app.router.add_get("/api/v1/pods", lambda _: _json({"pods": [], "watching": True}))
    app.router.add_get("/{file:.*}", _file)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner


async def _json(body: Any) -> web.Response:
    return web.json_response(body)


async def _file(request: web.Request) -> web.StreamResponse:
    path = STATIC / (request.match_info["file"] or "index.html")
    return web.FileResponse(path) if path.is_file() else web.Response(status=404)


async def first_rows(browser: Browser, runner: web.AppRunner) -> tuple[float, float]:
    """Return the milliseconds until the first rows appear. Two times are returned: since the first byte of the page,
    and since the first byte of the stream.

    These are medians of five loads, each with an empty cache. The browser and the server use the same machine's clock.
    """
    of_page, of_stream = [], []
    for _ in range(LOADS):
        context = await browser.new_context(viewport={"width": 1480, "height": 1000})
        page = await context.new_page()
        await page.add_init_script(FIRST_ROWS)
        await page.goto(url_of(runner))
        await page.wait_for_function("() => window.__shown !== undefined")
        response = "performance.getEntriesByType('navigation')[0].responseStart"
        of_page.append(await page.evaluate(f"() => __shown - {response}"))
        shown = await page.evaluate("() => performance.timeOrigin + __shown")
        of_stream.append(shown - runner.app["began"][0] * 1000)
        await context.close()
    return median(of_page), median(of_stream)


def url_of(runner: web.AppRunner) -> str:
    return f"http://127.0.0.1:{runner.addresses[0][1]}/"


async def heap(devtools: CDPSession) -> float:
    """Return the megabytes of live JavaScript objects."""
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
        of_page, of_stream = await first_rows(browser, runner)
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
            seen = await page.evaluate(
                "() => { const s = {...window.__bench}; __bench.frames = []; __bench.long = []; return s }"
            )
            frames += seen["frames"]
            tasks += seen["long"]
            # Collecting the garbage causes a long pause. It is not counted, because the page did not cause it.
            heaps.append(await heap(devtools))
            await asyncio.sleep(0.5)
            await page.evaluate("() => { __bench.frames = []; __bench.long = [] }")
        took = time.monotonic() - begin
        sent = runner.app["sent"][0] - before
        worked = await busy(devtools) - worked
        cpu = await longest_task_cpu(browser, page)
        rows = await page.locator("tbody tr").count()
        await browser.close()
    await runner.cleanup()
    return {
        "seconds": round(took),
        "first_rows_after_page_ms": round(of_page),
        "first_rows_after_stream_ms": round(of_stream),
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
    """Return the processor time, in milliseconds, of the longest task within ten seconds.

    On a shared machine, the length of a task includes the time it waited for the processor.
    """
    await browser.start_tracing(page=page, categories=["toplevel"])
    await asyncio.sleep(TRACE_SECONDS)
    events = json.loads(await browser.stop_tracing())["traceEvents"]
    mains = {
        (e["pid"], e["tid"]) for e in events if e["name"] == "thread_name" and e["args"]["name"] == "CrRendererMain"
    }
    return max(e.get("tdur", 0) / 1000 for e in events if e.get("ph") == "X" and (e["pid"], e["tid"]) in mains)


async def busy(devtools: CDPSession) -> float:
    """Return the seconds of main-thread work since the page was opened."""
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
        sys.exit("over the limits: a long task, or a heap that grows")


if __name__ == "__main__":
    main()
