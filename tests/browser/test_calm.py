"""The first screen shows live pulls first, in a quiet cluster and in one with problems."""

import json
import re
import time
from typing import Any
from urllib.parse import quote

import pytest
from playwright.async_api import Page, expect

from .conftest import OpenPage
from .scenery import MB, failure, layer, pod, pull, scene_is_complete, set_quiet, set_scene, set_trouble, waiting_pods
from .scripted import ScriptedServer, rfc3339

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROWS = "tbody tr:has(button[data-toggle])"

ON_SCREEN = """selector => [...document.querySelectorAll(selector)].filter(e => {
  const {top, bottom} = e.getBoundingClientRect()
  return top >= 0 && bottom <= window.innerHeight
}).length"""


def row(page: Page, key: str) -> Any:
    return page.locator(f'tr:has([data-toggle="{key}"])')


async def states(page: Page) -> list[str]:
    return [text.split("\n")[0] for text in await page.locator(f"{ROWS} td[data-column=state]").all_inner_texts()]


@pytest.mark.parametrize("theme", ["dark", "light"])
async def test_a_laptop_shows_twelve_rows_without_scrolling(
    server: ScriptedServer, open_page: OpenPage, theme: str
) -> None:
    await set_scene(server)
    page = await open_page(server.url, width=1440, height=900, theme=theme)
    await scene_is_complete(page)
    assert await page.evaluate(ON_SCREEN, ROWS) >= 12
    band = await page.locator("main > div").first.bounding_box()
    assert band is not None
    assert band["height"] <= 96


async def test_a_phone_shows_the_first_pull_without_scrolling(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url, width=390, height=844)
    await scene_is_complete(page)
    torch = row(page, "torch")
    await expect(torch.locator("td[data-column=progress] span span").first).to_be_in_viewport(ratio=1)
    await expect(torch.locator("td[data-column=left]")).to_be_in_viewport(ratio=1)
    await expect(torch.locator("td[data-column=left]")).to_have_text(re.compile(r"^(\d:\d\d|\d+ s)$"))


@pytest.mark.parametrize("width", [2560, 3840])
async def test_a_wide_screen_shows_more_rows_in_larger_text(
    server: ScriptedServer, open_page: OpenPage, width: int
) -> None:
    await set_scene(server)
    page = await open_page(server.url, width=width, height=width * 9 // 16)
    await scene_is_complete(page)
    assert await page.evaluate(ON_SCREEN, ROWS) >= 18
    size = await page.evaluate("() => parseFloat(getComputedStyle(document.querySelector('tbody td')).fontSize)")
    assert size >= 17


async def test_failures_with_the_same_cause_share_one_row_that_opens(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_trouble(server)
    page = await open_page(server.url, width=1440, height=900)
    typo = row(page, "failed/ghcr.io/acme/cart:lates/not_found")
    await expect(typo).to_contain_text("7 nodes")
    await expect(typo).to_contain_text("7 pods")
    await expect(typo).to_contain_text("not found")
    await typo.click()
    detail = page.locator("[data-detail]")
    await expect(detail.get_by_role("listitem")).to_have_count(7)
    await detail.get_by_role("button", name="worker-03").click()
    await expect(page.locator(ROWS)).to_have_count(1)
    await expect(page).to_have_url(re.compile("open=typo-3"))


async def test_failures_of_a_registry_that_is_down_share_one_row_and_live_pulls_remain_visible(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_trouble(server)
    page = await open_page(server.url, width=1440, height=900)
    down = row(page, "failed/registry.corp.local/timeout")
    await expect(down).to_contain_text("40 images")
    await expect(down).to_contain_text("60 nodes")
    await expect(down).to_contain_text("200 pods")
    await expect(page.locator(f"{ROWS} td[data-column=state]").nth(14)).to_contain_text("Failed")
    assert (await states(page))[:15] == ["Downloading"] * 12 + ["Failed"] * 3
    assert await page.evaluate(ON_SCREEN, f"{ROWS}:has(td[data-column=progress] span span)") >= 8
    await down.click()
    await expect(page.locator("[data-detail]").get_by_role("listitem")).to_have_count(40)
    await page.locator("[data-detail] button").filter(has_text="team-03/service:3.1").click()
    await expect(page.get_by_role("combobox", name="Search")).to_be_visible()
    await expect(page.locator(ROWS)).to_have_count(1)


async def test_the_strip_counts_the_pods_that_the_pods_view_lists(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_trouble(server)
    page = await open_page(server.url, width=1440, height=900)
    await expect(row(page, "failed/ghcr.io/acme/cart:lates/not_found")).to_be_visible()
    strip = page.get_by_role("region", name="Needs attention")
    await strip.get_by_role("button").first.click()
    problems = strip.get_by_role("listitem")
    await expect(problems).to_contain_text(["registry.corp.local", "cart:lates", "local/tool:dev", "worker-11"])
    await expect(problems.filter(has_text="registry.corp.local")).to_contain_text("200 pods are waiting")
    await expect(problems.filter(has_text="local/tool")).to_contain_text("Policy is Never in StatefulSet/local")
    await expect(problems.filter(has_text="quay.io/old/job")).to_have_count(0)
    await expect(page).to_have_title(re.compile(r"^208 failed, 12 active"))


async def test_a_problem_disappears_when_its_pod_is_deleted(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    tile = page.get_by_role("list", name="Pulls by state").get_by_role("button", name="Failing").locator("b")
    await expect(tile).to_have_text("1")
    remaining = [one for one in server.pods["pods"] if not one["podName"].startswith("billing")]
    server.pods = {"pods": remaining, "watching": True}
    await expect(tile).to_have_text("0")
    await expect(page.get_by_role("region", name="Needs attention")).not_to_contain_text("billing")
    billing = row(page, "billing")
    await expect(billing.locator("td[data-column=pods]")).to_have_text("\N{EN DASH}")
    live = page.locator(ROWS).filter(has_text=re.compile("Downloading|Queued|Extracting|Resolving|Stalled"))
    above = await live.last.bounding_box()
    below = await billing.bounding_box()
    assert above is not None
    assert below is not None
    assert above["y"] < below["y"]


async def test_a_cancelled_pull_is_muted_and_found_by_its_status(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_trouble(server)
    page = await open_page(server.url + "?q=status:cancelled")
    await expect(page.locator(ROWS)).to_have_count(1)
    cancelled = row(page, "cancelled")
    await expect(cancelled).to_contain_text("Cancelled")
    await expect(cancelled).to_contain_text("stopped at 38 %")
    await cancelled.click()
    await expect(page.get_by_text("Attempt 5 stopped at 38 %; no pod is waiting for it any more.")).to_be_visible()
    await page.goto(server.url)
    strip = page.get_by_role("region", name="Needs attention")
    await strip.get_by_role("button").first.click()
    await expect(strip).not_to_contain_text("nvidia/cuda")


async def test_a_quiet_cluster_shows_the_last_pull(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_quiet(server)
    page = await open_page(server.url)
    await expect(
        page.get_by_text(
            re.compile(
                r"^No image is being pulled\. The last pull ended 12 min ago: library/nginx:1\.29 on worker-3, 4 s\.$"
            )
        )
    ).to_be_visible()
    await expect(page.locator(ROWS).first).to_contain_text("Done")
    await expect(page.locator(ROWS).first.locator("time")).to_have_text(re.compile(r"^\s*12 min ago$"))
    await expect(page.locator(ROWS).first.locator("td[data-column=left]")).to_have_text("took 4 s")


async def test_the_table_does_not_move_when_problems_appear_and_open(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_quiet(server)
    page = await open_page(server.url)
    table = page.get_by_role("table")
    await expect(table).to_be_visible()
    before = await table.bounding_box()
    assert before is not None
    who = [pod("shop", "cart-0", "cart", "ghcr.io/acme/cart:lates")]
    bad = failure("bad", "worker-1", "ghcr.io/acme/cart:lates", "not_found", now=time.time(), pods=who)
    server.pods = {"pods": waiting_pods(time.time(), [bad]), "watching": True}
    await server.put(bad)
    strip = page.get_by_role("region", name="Needs attention")
    await strip.get_by_role("button").first.click()
    await expect(strip.get_by_role("listitem")).to_have_count(1)
    after = await table.bounding_box()
    assert after is not None
    assert after["y"] == before["y"]


async def test_no_figure_is_shown_as_zero_while_the_page_connects(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    server.hello_after = 3.0
    page = await open_page(server.url)
    tiles = page.get_by_role("list", name="Pulls by state").locator("b")
    await expect(page.get_by_role("heading", name="Connecting…")).to_be_visible()
    assert set(await tiles.all_inner_texts()) == {"\N{EN DASH}"}
    await scene_is_complete(page)
    assert "\N{EN DASH}" not in await tiles.all_inner_texts()


@pytest.mark.parametrize(
    ("view", "title"), [("pulls", "pulls"), ("images", "pulls"), ("pods", "pods"), ("nodes", "nodes")]
)
async def test_the_page_is_loading_until_the_whole_state_has_arrived(
    server: ScriptedServer, open_page: OpenPage, view: str, title: str
) -> None:
    await set_scene(server)
    server.may_complete.clear()
    page = await open_page(f"{server.url}?view={view}")
    await expect(page.locator("[data-connection]")).to_have_text("Loading…")
    await expect(page.get_by_role("heading", name=f"Loading the {title}…")).to_be_visible()
    tiles = page.get_by_role("list", name="Pulls by state").locator("b")
    assert set(await tiles.all_inner_texts()) == {"\N{EN DASH}"}
    await expect(page.get_by_role("region", name="Total throughput").locator("p").first).to_have_text("\N{EN DASH}")
    await expect(page.get_by_role("table")).to_have_count(0)
    await expect(page.get_by_text("No image is being pulled")).to_have_count(0)
    server.may_complete.set()
    await expect(page.locator("[data-connection]")).to_have_text("Live")
    await expect(page.get_by_role("table")).to_be_visible()
    assert "\N{EN DASH}" not in await tiles.all_inner_texts()


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (503, b'{"error":"too many readers"}', "status 503 (too many readers)"),
        (429, b'{"error":"slow down"}', "status 429 (slow down)"),
        (503, b"<html>Service Unavailable</html>", "status 503: it has"),
    ],
)
async def test_a_refused_stream_is_explained(
    server: ScriptedServer, open_page: OpenPage, status: int, body: bytes, words: str
) -> None:
    await set_scene(server)
    server.most_readers, server.refusal = 0, (status, body)
    page = await open_page(server.url)
    await expect(page.get_by_text(words)).to_be_visible()
    await scene_is_complete(page)
    server.most_readers = 5
    await page.locator("[data-connection]").click()
    await expect(page.locator("[data-connection=live]")).to_be_visible()
    await expect(page.get_by_text("refuses the live stream")).to_have_count(0)


GARBAGE = [
    b"data: {not json\n\n",
    b"data: []\n\n",
    b'data: {"type":"pull.progress","timestamp":"yesterday","pull":{}}\n\n',
    b'data: {"type":"pull.progress","timestamp":"2026-11-23T14:00:00Z","pull":{"id":"x","layers":"many"}}\n\n',
    b"event: reset-not-known\ndata: 5\n\n",
    b"\xff\xfe\x00garbage\n\n",
    b": comment\n\nretry: 5\n\n",
    b'data: {"type":"pull.progress","timest',
]


async def test_invalid_and_incomplete_events_do_no_harm(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    server.raw = GARBAGE
    page = await open_page(server.url)
    await scene_is_complete(page)
    await expect(page.locator("[data-connection=live]")).to_be_visible()
    # The next event is appended to the incomplete one, so neither can be parsed. The event after these two is read.
    await server.put(server.pulls["grafana"])
    await server.put({**server.pulls["grafana"], "percent": 88.0})
    await expect(row(page, "grafana")).to_contain_text("88 %")


HOSTILE = [
    "?sort=__proto__",
    "?sort=-__proto__",
    "?sort=constructor",
    "?sort=valueOf",
    "?sort=hasOwnProperty",
    "?sort=toString",
    "?sort=isPrototypeOf",
    "?sort=-",
    "?sort=--speed",
    "?sort=%00",
    "?sort=slowest",
    "?view=__proto__",
    "?view=constructor",
    "?view=pods%00",
    "?view=",
    "?view[]=pods",
    "?q=__proto__:x",
    "?q=status:__proto__",
    "?q=constructor:",
    "?q=image:",
    "?q=" + quote("*)(&^%$[\\"),
    "?q=%E0%A4%A",
    "?q=%",
    "?q=%00%01%02",
    "?q=" + quote("<img src=x onerror=window.hurt=1>"),
    "?q=" + "status:failed," * 300,
    "?q=" + "a" * 6000,
    "?q=" + quote("image:🦄 node:\u202eevil"),
    "?open=__proto__",
    "?open=true",
    "?open=false",
    "?open=constructor,hasOwnProperty",
    "?open=" + ",".join(f"none-{n}" for n in range(300)),
    "?open=" + quote("../../etc/passwd"),
    "?open=" + quote("a&layers=true"),
    "?open=" + quote("x' \"]\\"),
    "?open=failed/x/y",
    "?open=failed/__proto__/__proto__",
    "?open=,,,,",
    "?open=" + "z" * 6000,
    "?a=b&c=d&view=pulls&view=nodes",
    "?#?q=x",
    "#" + quote("<script>window.hurt=1</script>"),
]


GO_BACK_TO = "address => { history.pushState(null, '', address); dispatchEvent(new PopStateEvent('popstate')) }"


@pytest.mark.parametrize("start", range(0, len(HOSTILE), 6))
async def test_the_page_works_with_any_query_string(server: ScriptedServer, open_page: OpenPage, start: int) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    for address in HOSTILE[start : start + 6]:
        await page.goto(server.url + address)
        await expect(page.locator("[data-connection=live]")).to_be_visible()
        views = [""] if "view" in address else ["", "pods", "images", "nodes"]
        for view in views:
            if view:  # like the Back button, which does not reload the page
                await page.evaluate(GO_BACK_TO, address.replace("?", f"?view={view}&", 1))
            if view and "?" in address:
                await expect(page.locator(f"nav a[href='?view={view}']")).to_have_attribute("aria-current", "page")
            await expect(page.locator("main :is(table, h2)").last).to_be_visible()
            await expect(page.get_by_role("heading", name="This page has an error")).to_have_count(0)
            assert await page.evaluate("() => window.hurt") is None, address
    assert all(len(query["layers"]) < 5000 and query["layers"] != "true" for query in server.stream_queries)


async def test_an_error_in_the_page_is_explained_and_the_page_can_be_reloaded(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    await scene_is_complete(page)
    await page.close()
    broken = await page.context.new_page()
    await broken.add_init_script(
        "const map = Map.prototype.values; Map.prototype.values = function () {"
        " if (window.broken && this.has('torch')) throw new Error('on purpose'); return map.call(this) }"
    )
    await broken.goto(server.url)
    await scene_is_complete(broken)
    await broken.evaluate("() => { window.broken = true }")
    await expect(broken.get_by_role("heading", name="This page has an error")).to_be_visible()
    await expect(broken.get_by_text("on purpose")).to_be_visible()
    await expect(broken.get_by_role("link", name="Open the start page")).to_have_attribute("href", "/")


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


async def test_rows_keep_their_places_while_bytes_arrive_and_failures_are_retried(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_trouble(server)
    page = await open_page(server.url, width=1440, height=900)
    await expect(row(page, "live-3")).to_be_visible()

    async def order() -> list[str | None]:
        toggles = page.locator(f"{ROWS} button[data-toggle]")
        return await toggles.evaluate_all("all => all.slice(0, 12).map(one => one.dataset.toggle)")

    before = await order()
    for n in range(5):
        at = time.time()
        again = [
            {**server.pulls[f"down-{n}"], "completedAt": rfc3339(at), "attempt": 6 + n},
            {**server.pulls[f"typo-{n}"], "status": "resolving", "attempt": 6 + n},
            {**server.pulls["live-3"], "bytesPerSec": 1.0 * MB * n, "percent": 30.0 + n},
        ]
        for one in again[1:2]:
            one.pop("completedAt", None), one.pop("errorReason", None), one.pop("error", None)
        await server.put(*again)
        await expect(row(page, "live-3")).to_contain_text(f"{30 + n} %")
        assert await order() == before


async def test_a_queued_pull_shows_its_place_and_the_pulls_ahead(server: ScriptedServer, open_page: OpenPage) -> None:
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
    await page.get_by_role("link", name="Nodes").click()
    await page.locator('[data-toggle="worker-05"]').click()
    names = page.locator("[data-detail] li")
    await expect(names).to_contain_text(["acme/checkout", "node-exporter", "later/one", "nginx"])
    await page.goto(server.url + "?view=pods&sort=-ready")
    first = page.locator(ROWS).first
    await expect(first.locator("td[data-column=ready]")).to_have_text(
        re.compile("\N{EN DASH}|in queue|retry in|unknown")
    )


async def test_other_nodes_are_compared_before_a_layer_is_blamed(server: ScriptedServer, open_page: OpenPage) -> None:
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


async def test_the_verdict_is_a_word_in_the_row_and_a_sentence_in_its_details(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    why = "The disk writes 80 MB/s, and 96 MB wait to be unpacked."
    bound = {"bound": {"by": "disk", "why": why, "figures": {"diskBusyPercent": 97.0}}, "usualSeconds": 4.0}
    await server.put(server.pulls["postgres"] | bound | {"etaSeconds": 60.0})
    page = await open_page(server.url)
    postgres = row(page, "postgres")
    await expect(postgres.locator("td[data-column=progress]")).to_contain_text("disk 97 %")
    await expect(postgres.locator("td[data-column=left]")).to_contain_text("usual 4 s")
    await postgres.click()
    await expect(page.get_by_text(why)).to_be_visible()
    slow = {"slowerThanUsual": 2.9, "usualSeconds": 20.0}
    await server.put(server.pulls["postgres"] | slow, server.pulls["cached"] | slow)
    for name in ("postgres", "cached"):
        await expect(row(page, name).locator("td[data-column=left]")).to_contain_text(re.compile(r"2\.9. usual 20 s"))
    await expect(page.get_by_text(re.compile(rf"Slower than usual: 2\.9. the usual 20 s\. {why}"))).to_be_visible()


async def test_streamed_layers_and_the_number_of_finished_layers_are_shown(
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
    server.pods = {"pods": pods, "started": [started], "watching": True}
    page = await open_page(f"{server.url}?view=pods&open={pods[0]['uid']}")
    steps = page.get_by_role("list", name="Start-up phases").get_by_role("listitem")
    await expect(steps).to_contain_text(["scheduled", "queued", "pulling"])
    await expect(page.locator(ROWS).last).to_contain_text("Started")
    await expect(page.locator(ROWS).last).to_contain_text("took 1:00")
    await expect(page.locator(ROWS).last).to_contain_text("longest: pulling 55 s")
    tiles = page.get_by_role("list", name="Pulls by state")
    await expect(tiles.get_by_role("button", name="Waiting pods").locator("b")).to_have_text(str(len(pods)))


async def test_a_pull_is_shared_as_a_link_and_as_text(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?q=image:pytorch&sort=-size&open=torch")
    await page.evaluate(
        """() => Object.defineProperty(navigator, 'clipboard',
             {value: {writeText: async text => { window.copied = text }}})"""
    )
    await page.get_by_role("button", name="link", exact=True).click()
    link = await page.evaluate("window.copied")
    assert link == f"{server.url}?open=torch"
    await page.get_by_role("button", name="text", exact=True).click()
    text = await page.evaluate("window.copied")
    assert text.startswith("nvcr.io/nvidia/pytorch:24.05-py3 on gpu-03\nDownloading · 71 %")
    assert text.endswith(link)
    there = await open_page(link)
    await expect(there.locator("figure ol")).to_be_visible()


async def test_a_link_and_the_show_button_scroll_to_their_row(server: ScriptedServer, open_page: OpenPage) -> None:
    at = time.time()
    await set_scene(server)
    many = [
        pull(f"m{n}", f"worker-{n}", f"docker.io/a/b{n}:1", "completed", now=at, ago=500, completedAt=rfc3339(at - n))
        for n in range(300)
    ]
    await server.put(*many)
    page = await open_page(server.url + "?open=m250", width=390, height=844)
    await expect(row(page, "m250")).to_be_in_viewport()
    await page.get_by_role("region", name="Needs attention").get_by_role("button").first.click()
    await page.get_by_role("region", name="Needs attention").get_by_role("button", name="Show").first.click()
    await expect(row(page, "billing")).to_be_in_viewport()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("?open=gone", "The pull in this link no longer exists"),
        ("?view=pods&open=gone", "The pod in this link no longer exists"),
        ("?view=images&open=gone:1,too:2", "2 images in this link no longer exist"),
        ("?view=nodes&open=gone", "The node in this link no longer exists"),
    ],
)
async def test_a_link_to_a_row_that_no_longer_exists_is_explained(
    server: ScriptedServer, open_page: OpenPage, address: str, words: str
) -> None:
    await set_scene(server)
    page = await open_page(server.url + address)
    await expect(page.get_by_text(words)).to_be_visible()


async def test_the_question_mark_explains_colours_and_keys(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    await scene_is_complete(page)
    await page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Help")
    await expect(dialog).to_contain_text("Cancelled")
    await expect(dialog).to_contain_text("downloaded, not yet unpacked")
    await page.keyboard.press("Escape")
    await expect(dialog).not_to_be_visible()
    await page.get_by_role("button", name="Help: colours and keys").click()
    await expect(dialog).to_be_visible()
    await dialog.get_by_role("button", name="Close").click()
    await expect(dialog).not_to_be_visible()
    # In a text field, the question mark is an ordinary character.
    await page.keyboard.press("/")
    await page.keyboard.type("?")
    await expect(dialog).not_to_be_visible()


async def test_one_click_clears_the_search(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?q=pytorch")
    await expect(page.locator(ROWS)).to_have_count(1)
    await page.get_by_role("combobox", name="Search").focus()
    await page.get_by_role("button", name="Clear the search").click()
    await expect(page).to_have_url(server.url)
    await scene_is_complete(page)


async def test_a_click_between_two_columns_opens_the_row(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    await scene_is_complete(page)
    cell = await row(page, "torch").locator("td[data-column=image]").bounding_box()
    assert cell is not None
    await page.mouse.click(cell["x"] + cell["width"] + 6, cell["y"] + cell["height"] / 2)
    await expect(page.locator('[data-toggle="torch"]')).to_have_attribute("aria-expanded", "true")


async def test_the_estimate_counts_down_while_a_layer_is_unpacked(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    await server.put({**server.pulls["postgres"], "etaSeconds": 50.0})
    page = await open_page(server.url)
    left = row(page, "postgres").locator("td[data-column=left]")
    await expect(left).to_have_text("47 s")
    await expect(left).to_have_text("45 s")


async def test_the_page_loads_two_scripts_and_one_style_sheet(server: ScriptedServer, open_page: OpenPage) -> None:
    """The first script is small and opens the stream. There is no chart library."""
    await set_scene(server)
    sizes: dict[str, int] = {}
    page = await open_page(server.url)
    await scene_is_complete(page)
    entries = await page.evaluate("() => JSON.stringify(performance.getEntriesByType('resource'))")
    for entry in json.loads(entries):
        if entry["name"].endswith((".js", ".css")):
            sizes[entry["name"].rsplit("/", 1)[1]] = entry["decodedBodySize"]
    built = sorted(name.split("-")[0] for name in sizes if name != "theme.js" and not name.startswith("worker-"))
    assert built == ["main", "start", "style"]
    assert next(size for name, size in sizes.items() if name.startswith("main-")) < 1000
    assert not [name for name in sizes if "chart" in name.lower()]
