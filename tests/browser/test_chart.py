"""Tests for the throughput chart and its values, legend and totals."""

import re
import time
from datetime import datetime

import pytest
from playwright.async_api import expect

from .conftest import OpenPage
from .scenery import MB, ROWS, Json, failure, pull, scene_is_complete, set_scene
from .scripted import ScriptedServer, rfc3339

pytestmark = pytest.mark.asyncio(loop_scope="session")

UTC = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


async def test_the_chart_immediately_shows_the_history_from_the_server(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    now = time.time()
    server.throughput = {
        "since": rfc3339(now - 590),
        "step": 10,
        "registries": [
            {"registry": "docker.io", "bytesPerSec": [MB * (n % 9) for n in range(59)]},
            {"registry": "ghcr.io", "bytesPerSec": [5.0 * MB] * 59},
        ],
    }
    page = await open_page(server.url)
    area = page.locator('[aria-label^="Throughput by registry"] path').first
    await expect(area).to_be_attached()
    await page.wait_for_function(
        "path => { const {x, width} = path.getBBox(); return x < 25 && width > 950 }", arg=await area.element_handle()
    )
    panel = page.get_by_role("region", name="Total throughput")
    await expect(panel).to_contain_text(re.compile(r"\d\d:\d\dnow$"))


async def test_each_registry_keeps_its_colour(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    await scene_is_complete(page)
    panel = page.get_by_role("region", name="Total throughput")

    async def colour(host: str) -> str:
        swatch = panel.get_by_role("listitem").filter(has_text=host).locator("i")
        return await swatch.evaluate("e => getComputedStyle(e).backgroundColor")

    before = {host: await colour(host) for host in ("docker.io", "ghcr.io", "nvcr.io")}
    assert len(set(before.values())) == 3
    fast = pull("fast", "worker-31", "quay.io/big/one:1", "downloading", now=time.time(), bytesPerSec=900.0 * MB)
    await server.put(fast, {**server.pulls["torch"], "bytesPerSec": 1.0 * MB})
    await expect(panel.get_by_role("listitem").filter(has_text="quay.io")).to_be_visible()
    assert {host: await colour(host) for host in before} == before
    await page.reload()
    await scene_is_complete(page)
    assert {host: await colour(host) for host in before} == before


async def test_the_throughput_is_shown_as_numbers_and_as_a_chart(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    panel = page.get_by_role("region", name="Total throughput")
    speeds: dict[str, float] = {}
    for one in server.pulls.values():
        if one["status"] not in ("completed", "failed"):
            speeds[one["registry"]] = speeds.get(one["registry"], 0.0) + one["bytesPerSec"]
    await expect(panel.locator("p").first).to_have_text(f"{sum(speeds.values()) / MB:.1f} MB/s")
    figures = [f"{host} {speeds[host] / MB:.1f} MB/s" for host in sorted(speeds) if speeds[host] > 0]
    await expect(panel.get_by_role("listitem")).to_have_text(figures)
    fastest_first = sorted(figures, key=lambda text: -speeds[text.split()[0]])
    await expect(panel.get_by_role("img")).to_have_attribute(
        "aria-label", f"Throughput by registry: {', '.join(fastest_first)}"
    )
    await expect(panel.locator("svg path")).to_have_count(len(figures))


def history(at: float, **counts: int) -> Json:
    """Return five minutes of rates: docker.io delivers 4 MB/s and then 1 MB/s, and ghcr.io delivers 2 MB/s during the
    first half.
    """
    rates = {"docker.io": [4.0 * MB] * 30 + [1.0 * MB] * 30, "ghcr.io": [2.0 * MB] * 30 + [0.0] * 30}
    registries = [{"registry": host, "bytesPerSec": speeds} for host, speeds in rates.items()]
    return {"since": rfc3339(at - 300), "step": 5, "registries": registries, **counts}


async def test_the_chart_shows_the_rates_at_a_time_selected_with_the_mouse_or_the_keyboard(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    server.throughput = history(time.time())
    page = await open_page(server.url)
    slider = page.get_by_role("slider", name="Moment in the chart")
    path = page.locator('[aria-label^="Throughput by registry"] path').first
    await page.wait_for_function("path => path.getBBox().width > 950", arg=await path.element_handle())
    reading = page.locator("section div[aria-hidden]").filter(has=page.locator("time"))
    await slider.focus()
    await slider.press("Home")
    clock = r"\d\d:\d\d:\d\d"
    await expect(slider).to_have_attribute(
        "aria-valuetext", re.compile(rf"^{clock}: 6\.0 MB/s\. docker\.io 4\.0 MB/s, ghcr\.io 2\.0 MB/s$")
    )
    for _ in range(9):
        await slider.press("PageUp")
    await expect(slider).to_have_attribute(
        "aria-valuetext", re.compile(rf"^{clock}: 1\.0 MB/s\. docker\.io 1\.0 MB/s$")
    )
    await expect(reading.locator("p")).to_have_text([re.compile(rf"^{clock} ?1\.0 MB/s$"), "docker.io 1.0 MB/s"])
    await slider.press("/")
    await expect(page.get_by_role("combobox", name="Search")).to_be_focused()
    await expect(reading).to_have_count(0)
    box = await slider.bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    await expect(reading.locator("p")).to_have_text(
        [re.compile(rf"^{clock} ?6\.0 MB/s$"), "docker.io 4.0 MB/s", "ghcr.io 2.0 MB/s"]
    )
    await page.mouse.move(2, 2)
    await expect(reading).to_have_count(0)


async def test_the_chart_shows_its_period_and_the_number_of_pulls_that_ended_in_it(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    at = time.time()
    server.throughput = history(at, completed=20, failed=1, canceled=0, downloadedBytes=4_200_000_000)
    page = await open_page(server.url)
    panel = page.get_by_role("region", name="Total throughput")
    words = "20 pulls completed, 1 attempt failed, 4.2 GB downloaded"
    await expect(panel).to_contain_text(re.compile(rf"\d\d:\d\dsince \d\d:\d\d: {words}now$"))
    server.throughput = history(at, completed=13, failed=1, canceled=2, downloadedBytes=5_000_000_000)
    words = "13 pulls completed, 1 attempt failed, 2 attempts cancelled (none listed), 5.0 GB"
    await expect(panel).to_contain_text(words)
    server.throughput = history(at)
    await expect(panel).not_to_contain_text("completed")


async def test_a_click_on_the_chart_or_on_a_total_below_it_lists_the_pulls(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    at = time.time()
    nginx = "docker.io/library/nginx:1"
    ends = {"completedAt": rfc3339(at - 95), "downloadedBytes": 100 * MB}
    gone = {"completedAt": rfc3339(at - 200), "errorReason": "not_found", "error": "not found"}
    await server.put(
        pull("running", "worker-1", nginx, "downloading", now=at, ago=20),
        pull("done", "worker-2", nginx, "completed", now=at, ago=100, **ends),
        pull("gone", "worker-3", nginx, "failed", now=at, ago=202, **gone),
    )
    server.throughput = history(at, completed=1, failed=1, canceled=0, downloadedBytes=100 * MB)
    page = await open_page(server.url)
    panel = page.get_by_role("region", name="Total throughput")
    rows = page.locator(ROWS)
    await expect(rows).to_have_count(3)
    await panel.get_by_role("link", name="1 attempt failed").click()
    await expect(page).to_have_url(re.compile(rf"q=status:failed%20since:{UTC}$"))
    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text("worker-3")
    await panel.get_by_role("link", name="1 pull completed").click()
    await expect(rows).to_contain_text(["worker-2"])
    slider = panel.get_by_role("slider")
    box = await slider.bounding_box()
    assert box is not None
    await slider.click(position={"x": box["width"] - 1, "y": box["height"] / 2})
    await expect(page).to_have_url(re.compile(rf"q=at:{UTC}$"))
    await expect(rows).to_contain_text(["worker-1"])
    # The values at the pointer would cover the caption about the selected time.
    await expect(panel.locator("p time")).to_have_count(0)
    await page.get_by_role("button", name="Clear the search").click()
    await slider.focus()
    await slider.press("Enter")
    await expect(rows).to_contain_text(["worker-1"])
    moment = time.strftime("%H:%M:%S", time.localtime(at - 201))
    await page.goto(f"{server.url}?q=at:{moment}")
    await expect(rows).to_contain_text(["worker-3"])


async def test_a_caption_shows_what_was_in_progress_at_the_selected_time_and_the_chart_marks_that_time(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    at = time.time()
    nginx = "docker.io/library/nginx:1"
    ends = {"completedAt": rfc3339(at - 95), "downloadedBytes": 100 * MB}
    gone = {"completedAt": rfc3339(at - 90), "errorReason": "not_found", "error": "not found"}
    await server.put(
        pull("running", "worker-1", nginx, "downloading", now=at, ago=150),
        pull("done", "worker-2", nginx, "completed", now=at, ago=130, **ends),
        pull("gone", "worker-3", nginx, "failed", now=at, ago=140, **gone),
        pull("queued", "worker-4", nginx, "completed", now=at, ago=110, queuedAt=rfc3339(at - 125), **ends),
    )
    server.throughput = history(at)
    page = await open_page(server.url)
    chart = page.get_by_role("region", name="Total throughput").get_by_role("slider").locator("..")
    line = page.get_by_text(re.compile(r"^At \d\d:\d\d:\d\d: "))
    await expect(page.locator(ROWS)).to_have_count(4)
    await expect(line).to_have_count(0)
    lines = await chart.locator("> i").count()
    moment = time.strftime("%H:%M:%S", time.localtime(at - 120))
    await page.goto(f"{server.url}?q=at:{moment}")
    await expect(line).to_contain_text(f"At {moment}: 3 pulls were in progress and at least 1 was queued, 1.0 MB/s.")
    for state in ("2 done", "1 failed", "1 still downloading"):
        await expect(line).to_contain_text(state)
    await expect(chart.locator("> i")).to_have_count(lines + 1)
    await page.goto(f"{server.url}?q=at:20m&view=images")
    await expect(line).to_contain_text(
        re.compile(r"0 pulls were in progress; the throughput is known only since \d\d:\d\d\.")
    )
    await expect(line).to_contain_text(re.compile(r"The list contains no pull that ended before \d\d:\d\d\."))
    await expect(chart.locator("> i")).to_have_count(lines)


async def test_the_pulls_listed_for_a_selected_time_show_their_attempts_at_that_time(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    at = time.time()
    nginx = "docker.io/library/nginx:1"
    times = {"startedAt": rfc3339(at - 200), "completedAt": rfc3339(at - 150)}
    first = {"attempt": 1, "errorReason": "network", "error": "connection reset", "percent": 38.0, **times}
    second = {"attempt": 2, "errorReason": "canceled", "completedAt": rfc3339(at - 60), "earlierAttempts": [first]}
    none = {"layerCount": 0, "totalBytes": 0, "totalKnown": False, "percent": 0.0, "layers": []}
    await server.put(
        pull("retried", "worker-1", nginx, "failed", now=at, ago=70, **second, **none),
        pull("live", "worker-2", nginx, "downloading", now=at, ago=180, bytesPerSec=9.0 * MB, etaSeconds=30.0),
        pull("later", "worker-3", nginx, "downloading", now=at, ago=100),
        pull("before", "worker-4", nginx, "completed", now=at, ago=190, completedAt=rfc3339(at - 165)),
    )
    page = await open_page(f"{server.url}?q=at:{rfc3339(at - 155)}")
    rows = page.locator(ROWS)
    await expect(rows).to_have_count(2)
    retried = rows.filter(has_text="worker-1")
    await expect(retried.locator("[data-column=state]")).to_contain_text("Failed")
    await expect(retried.locator("[data-column=left]")).to_have_text("after 50 s")
    live = rows.filter(has_text="worker-2")
    for column in ("speed", "left"):
        await expect(live.locator(f"[data-column={column}]")).to_have_text("\u2013")
    await retried.get_by_role("button").first.click()
    detail = page.locator("[data-detail]")
    await expect(detail).to_contain_text("connection reset")
    await expect(detail).not_to_contain_text("stopped")
    await page.goto(f"{server.url}?q=at:{rfc3339(at - 65)}")
    await expect(rows.filter(has_text="worker-1").locator("[data-column=state]")).to_contain_text("Cancelled")
    await expect(rows.filter(has_text="worker-2").locator("[data-column=speed]")).to_have_text("\u2013")
    await page.get_by_role("button", name="Clear the search").click()
    await expect(rows.filter(has_text="worker-2").locator("[data-column=speed]")).to_have_text("9.0 MB/s")


async def test_the_total_below_the_chart_counts_failed_attempts_and_failed_pulls_and_links_to_the_pulls(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    at = time.time()
    earlier = [
        {"attempt": n, "completedAt": rfc3339(at - 150 + n), "errorReason": "not_found", "percent": 0.0}
        for n in range(1, 5)
    ]
    gone = {"completedAt": rfc3339(at - 100), "errorReason": "not_found", "error": "not found", "attempt": 5}
    await server.put(
        *(
            pull(f"gone-{n}", f"worker-{n}", "docker.io/a:1", "failed", now=at, **gone, earlierAttempts=earlier)
            for n in (1, 2)
        ),
        pull("done", "worker-3", "docker.io/a:1", "completed", now=at, ago=60, completedAt=rfc3339(at - 50)),
    )
    server.throughput = history(at, completed=1, failed=10, canceled=0, downloadedBytes=100 * MB)
    page = await open_page(server.url)
    await page.get_by_role("link", name="10 attempts failed (2 pulls listed)").click()
    await expect(page.locator(ROWS)).to_contain_text(["worker-1", "worker-2"])


@pytest.mark.parametrize("width", [720, 1000, 1181, 1280, 1440])
async def test_the_totals_below_the_chart_are_not_cut_off(
    server: ScriptedServer, open_page: OpenPage, width: int
) -> None:
    await set_scene(server)
    server.throughput = history(time.time(), completed=1234, failed=56, canceled=12, downloadedBytes=10_800_000_000)
    page = await open_page(server.url, width=width)
    await expect(page.get_by_role("button", name="1 stalled")).to_be_visible()
    panel = page.get_by_role("region", name="Total throughput")
    words = panel.get_by_text("1234 pulls completed").locator("..")
    failed, cancelled = "56 attempts failed (1 pull listed)", "12 attempts cancelled (none listed)"
    await expect(words).to_contain_text(f"1234 pulls completed, {failed}, {cancelled}, 10.8 GB")
    assert await words.evaluate("words => words.scrollWidth <= words.clientWidth")
    bottom = "element => element.getBoundingClientRect().bottom"
    assert await words.evaluate(bottom) <= await panel.evaluate(bottom)
    chart = await panel.get_by_role("slider").bounding_box()
    assert chart is not None
    assert chart["height"] >= 24


async def test_the_legend_shows_how_many_registries_do_not_fit(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    at = time.time()
    hosts = [f"registry-{n}.example.com" for n in range(8)]
    await server.put(
        *(pull(host, "worker-1", f"{host}/a:1", "downloading", now=at, registry=host, bytesPerSec=MB) for host in hosts)
    )
    page = await open_page(server.url)
    panel = page.get_by_role("region", name="Total throughput")
    more = panel.get_by_text(re.compile(r"^and \d+ more$"))
    await expect(more).to_be_visible()
    entries = panel.get_by_role("listitem")
    await expect(entries.filter(has_text=hosts[-1])).to_be_attached()
    tops = await entries.evaluate_all("all => all.map(e => e.offsetTop)")
    hidden = sum(top > tops[0] for top in tops)
    await expect(more).to_have_text(f"and {hidden} more")
    assert len((await more.get_attribute("title") or "").split("; ")) == hidden
    await page.set_viewport_size({"width": 1280, "height": 400})
    await more.click()
    await expect(page.get_by_role("region", name="Registries")).to_be_in_viewport()


async def test_the_legend_shows_how_many_bytes_each_registry_delivered_in_the_period(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    at = time.time()
    await server.put(pull("fast", "worker-1", "quay.io/big/one:1", "downloading", now=at, bytesPerSec=9.0 * MB))
    sums = {"docker.io": 12_300_000_000, "ghcr.io": 900_000, "quay.io": 250_000_000}
    registries = [
        {"registry": host, "bytesPerSec": [1.0 * MB] * 119, "downloadedBytes": count} for host, count in sums.items()
    ]
    server.throughput = {"since": rfc3339(at - 597), "step": 5, "registries": registries}
    page = await open_page(server.url)
    panel = page.get_by_role("region", name="Total throughput")
    await expect(panel.get_by_role("listitem")).to_have_text(
        ["docker.io 12.3 GB", "quay.io 250 MB, now 9.0 MB/s", "ghcr.io 900 kB"]
    )
    await expect(panel.get_by_text(re.compile("^last 10 min:$"))).to_be_visible()


async def test_each_count_of_completed_pulls_shows_the_period_that_it_covers(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    at = time.time()
    server.throughput = history(at, completed=20, failed=1, canceled=0, downloadedBytes=4_200_000_000)
    page = await open_page(server.url)
    panel = page.get_by_role("region", name="Total throughput")
    await expect(panel).to_contain_text(re.compile(r"since \d\d:\d\d: 20 pulls completed"))
    first = min(
        datetime.fromisoformat(one["completedAt"]) for one in server.pulls.values() if one["status"] == "completed"
    )
    tile = page.get_by_role("list", name="Pulls by state").get_by_role("button", name="Done")
    await expect(tile).to_have_text(f"13Done since {first.astimezone():%H:%M}")


async def test_the_chart_marks_failures_and_cancellations(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    at = time.time()
    await server.put(failure("gone", "gpu-01", "nvcr.io/nvidia/cuda:12.4", "canceled", now=at - 140))
    server.throughput = history(at)
    page = await open_page(server.url)
    slider = page.get_by_role("slider", name="Moment in the chart")
    marks = slider.locator("xpath=..").locator(":scope > i")
    await expect(marks).to_have_count(2)
    colours = await marks.evaluate_all("all => all.map(e => getComputedStyle(e).backgroundColor)")
    assert len(set(colours)) == 2
    box, cancelled = await slider.bounding_box(), await marks.nth(1).bounding_box()
    assert box
    assert cancelled
    assert 0.4 < (cancelled["x"] - box["x"]) / box["width"] < 0.6
    await page.mouse.move(cancelled["x"] + 4, box["y"] + box["height"] / 2)
    reading = page.locator("section div[aria-hidden]").filter(has=page.locator("time"))
    await expect(reading).to_contain_text("nvidia/cuda:12.4 on gpu-01: cancelled")
    await expect(slider).to_have_attribute(
        "aria-valuetext", re.compile(r"MB/s\. nvidia/cuda:12\.4 on gpu-01: cancelled$")
    )
