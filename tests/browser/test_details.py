"""Tests for the details of an open row, such as layers, the queue, the limiting factor and the start-up phases."""

import re
import time

import pytest
from playwright.async_api import expect

from .conftest import OpenPage
from .scenery import MB, ROWS, layer, pull, row, scene_is_complete, set_scene, waiting_pods
from .scripted import ScriptedServer, rfc3339

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_page_explains_why_a_pull_has_no_layers(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?open=billing,exporter")
    await expect(page.get_by_text("No layer of attempt 4 is known.")).to_be_visible()
    await expect(page.get_by_text("Next in the queue of this node, behind acme/checkout:8f31c2e")).to_be_visible()


async def test_an_open_row_shows_the_progress_of_its_layers(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    await page.locator('[data-toggle="torch"]').click()
    lanes = page.locator("figure ol li:not([aria-hidden])")
    await expect(lanes).to_have_count(9)
    await expect(lanes.nth(3)).to_contain_text("1.9 / 2.6 GB · 41.2 MB/s")
    await expect(lanes.nth(4)).to_contain_text("downloaded · waiting for")
    await expect(page.locator("[data-detail]")).to_contain_text("Bottleneck: layer")
    await page.wait_for_function("() => document.querySelectorAll('[data-detail]').length === 1")
    while not any(query["layers"] == "torch" for query in server.stream_queries):
        await page.wait_for_timeout(20)
    torch = server.pulls["torch"]
    moved = [
        {**layer, "downloadedBytes": 2_500_000_000} if i == 3 else layer for i, layer in enumerate(torch["layers"])
    ]
    await server.put({**torch, "layers": moved, "percent": 80.0})
    await expect(lanes.nth(3)).to_contain_text("2.5 / 2.6 GB")


async def test_a_row_shows_that_its_layers_are_streamed_and_how_many_are_finished(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    at = time.time()
    lazy = pull(
        "lazy",
        "gpu-01",
        "ghcr.io/acme/lazy:1",
        "downloading",
        now=at,
        totalBytes=0,
        totalKnown=False,
        snapshotter="nydus",
        percent=40.0,
        percentBasis="layers",
        remoteBytes=900 * MB,
        layerCount=5,
        layersDone=2,
        layers=[layer("a", 500 * MB, "remote"), layer("b", 400 * MB, "waiting") | {"fetchedBy": "snapshotter"}],
    )
    hidden = pull("hidden", "gpu-02", "ghcr.io/acme/lazy:1", "unobserved", now=at, totalBytes=0, totalKnown=False)
    await server.put(lazy, hidden)
    page = await open_page(server.url + "?open=lazy")
    await expect(row(page, "lazy")).to_contain_text("2/5")
    await expect(row(page, "lazy")).to_contain_text("streamed")
    lanes = page.locator("figure ol li:not([aria-hidden])")
    await expect(lanes.nth(0)).to_contain_text("served by the snapshotter on demand")
    await expect(lanes.nth(1)).to_contain_text("fetched by the snapshotter")
    await expect(row(page, "hidden")).to_contain_text("Unobserved")
    await expect(page.get_by_role("region", name="Needs attention")).to_contain_text("where no agent reports")


async def test_a_queued_pull_shows_its_place_and_the_pulls_ahead_of_it(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    at = time.time()
    await server.put(
        pull("later", "worker-05", "quay.io/later/one:1", "queued", now=at, ago=2, totalBytes=0, totalKnown=False)
    )
    page = await open_page(server.url)
    await scene_is_complete(page)
    await expect(row(page, "exporter")).to_contain_text("next, after 1 running")
    await expect(row(page, "later")).to_contain_text("2nd in queue")
    await row(page, "later").click()
    ahead = page.get_by_role("region", name="Ahead in the queue of this node").get_by_role("listitem")
    await expect(ahead).to_contain_text(["acme/checkout", "prometheus/node-exporter"])
    await expect(page.get_by_text(re.compile("It starts in .* at the earliest"))).to_be_visible()
    await page.get_by_role("link", name="Nodes", exact=True).click()
    await page.locator('[data-toggle="worker-05"]').click()
    names = page.locator("[data-detail] li")
    await expect(names).to_contain_text(["acme/checkout", "node-exporter", "later/one", "nginx"])
    await expect(names.nth(1)).to_contain_text("next, after 1 running, for monitoring/node-exporter-x2\u2013")
    await expect(names.nth(2)).to_contain_text("2nd in queue\u2013")
    await page.goto(server.url + "?view=pods&sort=-ready")
    first = page.locator(ROWS).first
    await expect(first.locator("td[data-column=ready]")).to_have_text(
        re.compile("\N{EN DASH}|in queue|retry in|unknown")
    )


async def test_the_page_compares_a_slow_pull_with_other_nodes_before_it_blames_a_layer(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    at = time.time()
    image = "nvcr.io/nvidia/pytorch:24.05-py3"
    slow = pull(
        "slow",
        "gpu-01",
        image,
        "downloading",
        now=at,
        ago=100,
        totalBytes=5000 * MB,
        downloadedBytes=490 * MB,
        bytesPerSec=4.9 * MB,
        layers=[layer("big", 5000 * MB, "downloading", 490 * MB, start=at - 99, rate=4.9 * MB)],
    )
    done = {"totalBytes": 2800 * MB, "downloadedBytes": 2800 * MB, "percent": 100.0, "completedAt": rfc3339(at - 100)}
    await server.put(slow, pull("fast", "gpu-02", image, "completed", now=at, ago=200, **done))
    page = await open_page(server.url + "?open=slow")
    await expect(
        page.get_by_text(
            re.compile(r"MB/s on this node, 28\.0 MB/s on another node: the node or its network is slow\.")
        )
    ).to_be_visible()
    await expect(page.get_by_text("Bottleneck")).to_have_count(0)


async def test_the_limiting_factor_is_shown_as_a_word_in_the_row_and_as_a_sentence_in_its_details(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    why = "The disk writes 80 MB/s, and 96 MB wait to be unpacked."
    bound = {"bound": {"by": "disk", "why": why, "figures": {"diskBusyPercent": 97.0}}, "usualSeconds": 4.0}
    await server.put(server.pulls["postgres"] | bound | {"etaSeconds": 60.0})
    page = await open_page(server.url)
    postgres = row(page, "postgres")
    await expect(postgres.locator("td[data-column=progress]")).to_contain_text("disk 97 %")
    await expect(postgres.locator("td[data-column=left]")).not_to_contain_text("usual")
    await postgres.click()
    await expect(page.get_by_text(why)).to_be_visible()
    slow = {"slowerThanUsual": 2.9, "usualSeconds": 20.0}
    await server.put(server.pulls["postgres"] | slow, server.pulls["cached"] | slow)
    for name in ("postgres", "cached"):
        await expect(row(page, name).locator("td[data-column=left]")).to_contain_text(re.compile(r"2\.9. usual 20 s"))
    await expect(
        page.get_by_text(re.compile(rf"Slower than usual: 2\.9. the usual 20 s at this node.s speed\. {why}"))
    ).to_be_visible()


async def test_the_start_up_phases_of_a_pod_are_shown(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    at = time.time()
    pods = waiting_pods(at, list(server.pulls.values()))
    pods[0]["phases"] = [
        {"phase": "scheduled", "startedAt": rfc3339(at - 90), "seconds": 2.0},
        {"phase": "queued", "startedAt": rfc3339(at - 88), "seconds": 28.0},
        {"phase": "pulling", "startedAt": rfc3339(at - 60)},
    ]
    started = {
        "namespace": "web",
        "podName": "front-0",
        "uid": "front-0",
        "nodeName": "worker-01",
        "scheduledAt": rfc3339(at - 100),
        "startedAt": rfc3339(at - 40),
        "seconds": 60.0,
        "phases": [
            {"phase": "scheduled", "startedAt": rfc3339(at - 100), "seconds": 5.0},
            {"phase": "pulling", "startedAt": rfc3339(at - 95), "seconds": 55.0},
        ],
    }
    newer = {**started, "podName": "front-1", "uid": "front-1", "startedAt": rfc3339(at - 4)}
    server.pods = {"pods": pods, "started": [started, newer], "watching": True}
    page = await open_page(f"{server.url}?view=pods&open={pods[0]['uid']}")
    steps = page.get_by_role("list", name="Start-up phases").get_by_role("listitem")
    await expect(steps).to_contain_text(["scheduled", "failing (4 attempts)", "pulling"])
    await expect(page.locator(ROWS).last).to_contain_text(re.compile(r"Started \d+ s ago"))
    await expect(page.locator(ROWS).last).to_contain_text("took 1:00, 55 s for the image")
    tiles = page.get_by_role("list", name="Pulls by state")
    await expect(tiles.get_by_role("button", name="Waiting pods").locator("b")).to_have_text(str(len(pods)))
    await expect(page.get_by_text("Started, newest first")).to_be_visible()
    await page.get_by_role("button", name="Waits").click()
    await expect(page.get_by_text("Started, longest wait for images first")).to_be_visible()
    await expect(page.locator(ROWS).last.locator("td[data-column=waiting]")).to_have_text("55 s")
    await page.get_by_role("combobox").fill("started")
    await page.get_by_role("option", name="status:started").click()
    await expect(page.locator(ROWS)).to_contain_text(["front-1", "front-0"])


async def test_a_click_in_the_gap_between_two_columns_opens_the_row(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    await scene_is_complete(page)
    cell = await row(page, "torch").locator("td[data-column=image]").bounding_box()
    assert cell is not None
    await page.mouse.click(cell["x"] + cell["width"] + 6, cell["y"] + cell["height"] / 2)
    await expect(page.locator('[data-toggle="torch"]')).to_have_attribute("aria-expanded", "true")


async def test_the_estimate_counts_down_while_a_layer_is_being_unpacked(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    await server.put({**server.pulls["postgres"], "etaSeconds": 50.0})
    page = await open_page(server.url)
    left = row(page, "postgres").locator("td[data-column=left]")
    await expect(left).to_have_text(re.compile(r"^\d+ s$"))
    first = await left.inner_text()
    await expect(left).not_to_have_text(first)
    assert int((await left.inner_text()).split()[0]) < int(first.split()[0]) <= 50


async def test_the_nodes_view_shows_the_current_and_the_usual_rate_of_a_registry(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    at = time.time()
    image = "docker.io/library/nginx:1.29"
    moving = {"totalBytes": 5000 * MB, "downloadedBytes": 240 * MB, "bytesPerSec": 2.0 * MB}
    await set_scene(server)
    server.registries = [
        {"registry": "docker.io", "activePulls": 2, "bytesPerSec": 4.0 * MB},
        {"registry": "quay.io", "activePulls": 0, "bytesPerSec": 0.0},
    ]
    for key in list(server.pulls):
        await server.remove(key)
    done = {"totalBytes": 160 * MB, "downloadedBytes": 160 * MB, "percent": 100.0, "completedAt": rfc3339(at - 15)}
    done["downloadedAt"] = rfc3339(at - 20)
    await server.put(
        *(pull(f"now-{n}", f"worker-0{n}", image, "downloading", now=at, ago=30, **moving) for n in (1, 2)),
        pull("waits", "worker-06", image, "downloading", now=at, ago=1, totalBytes=80 * MB),
        *(pull(f"old-{n}", f"worker-0{n}", "docker.io/a:1", "completed", now=at, ago=30, **done) for n in (1, 3, 4)),
        pull("quay", "worker-01", "quay.io/a:1", "completed", now=at, ago=30, **done),
    )
    page = await open_page(f"{server.url}?view=nodes")
    rows = page.get_by_role("region", name="Registries").get_by_role("listitem")
    await expect(rows.nth(0)).to_contain_text("4.0 MB/s now")
    await expect(rows.nth(0)).to_contain_text(
        re.compile(r"2\.0 MB/s per download on worker-01, 0\.1. the usual 16\.0 MB/s")
    )
    await expect(rows.nth(1)).to_contain_text("usually 16.0 MB/s per download")
    await server.remove("now-1")
    await expect(rows.nth(0)).to_contain_text("2.0 MB/s per download on worker-02, no usual rate there yet")
