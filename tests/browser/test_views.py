"""The content of the page, its search and order, and links that show a colleague the same view."""

import re
import time

import pytest
from playwright.async_api import Page, expect

from .conftest import OpenPage
from .scenery import MB, Json, pod, pull, scene_is_complete, set_scene
from .scripted import ScriptedServer, rfc3339

pytestmark = pytest.mark.asyncio(loop_scope="session")

DETAILS = "button[data-toggle]"


def rows(page: Page) -> str:
    return "tbody tr:has(button[data-toggle])"


async def images(page: Page) -> list[str]:
    return [text.strip() for text in await page.locator(f"{rows(page)} td[data-column=image]").all_inner_texts()]


async def test_live_pulls_are_on_top_and_failures_and_the_queue_follow(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    states = page.locator("td[data-column=state]")
    await expect(states.nth(0)).to_contain_text("Stalled")
    await expect(states.nth(6)).to_contain_text("Failed")
    await expect(states.nth(7)).to_contain_text("Queued")
    await expect(page.locator("[data-connection=live]")).to_have_text("Live")
    await expect(page.get_by_text("agents 13/14")).to_be_visible()
    await expect(page).to_have_title("1 failed, 7 active · Pulltrace")
    await expect(page.locator("link[rel=icon]")).to_have_attribute("href", "./favicon-failed.svg")


async def test_the_strip_shows_the_worst_problem_and_opens_the_list(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    region = page.get_by_role("region", name="Needs attention")
    problems, toggle = region.get_by_role("listitem"), region.get_by_role("button", expanded=False)
    await expect(toggle).to_contain_text("cannot be pulled on worker-07: unauthorized.")
    await expect(toggle).to_contain_text("3 problems")
    await expect(problems).to_have_count(0)
    await toggle.click()
    await expect(problems.nth(0)).to_contain_text(
        "The pull secret of namespace billing is missing or wrong. 3 pods are waiting"
    )
    await expect(problems.nth(0)).to_contain_text(re.compile(r"Retry in . 1:\d\d"))
    await expect(problems.nth(1)).to_contain_text("has received no bytes for")
    await expect(problems.nth(2)).to_contain_text("worker-11: its agent has not reported since")
    await page.keyboard.press("Escape")
    await expect(problems).to_have_count(0)
    await toggle.click()
    await problems.nth(0).get_by_role("button").click()
    await expect(problems).to_have_count(0)
    await expect(page.locator(rows(page))).to_have_count(1)
    await expect(page.get_by_text("401 Unauthorized")).to_be_visible()


async def test_a_pull_without_layers_is_explained(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?open=billing,exporter")
    await expect(page.get_by_text("No layer was observed during attempt 4.")).to_be_visible()
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


async def test_a_click_on_a_tile_shows_only_its_pulls(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    tiles = page.get_by_role("list", name="Pulls by state")
    tile = tiles.get_by_role("button", name="Failing")
    await tile.click()
    await expect(tile).to_have_attribute("aria-pressed", "true")
    await expect(page.locator(rows(page))).to_have_count(1)
    await expect(page).to_have_url(re.compile(r"\?q=status:failing$"))
    await tiles.get_by_role("button", name="Queued").click()
    await expect(page.locator(rows(page))).to_have_count(2)
    await page.get_by_role("button", name="Remove status:failing,queued").click()
    await expect(page.get_by_role("button", name="Remove")).to_have_count(0)
    await tiles.get_by_role("button", name="Waiting pods").click()
    await expect(page).to_have_url(re.compile("view=pods"))


async def test_the_search_suggests_and_makes_tokens(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    # The search box may be visible before it can handle keys.
    await scene_is_complete(page)
    box = page.get_by_role("combobox", name="Search")
    await page.keyboard.press("/")
    await expect(box).to_be_focused()
    await page.keyboard.type("ns")
    await expect(page.get_by_role("option").first).to_contain_text("ns:")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(box).to_have_value("ns:")
    await page.keyboard.type("m")
    await expect(page.get_by_role("option")).to_have_text(["ns:ml", "ns:monitoring"])
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Remove ns:ml")).to_be_visible()
    await expect(page.locator(rows(page))).to_have_count(2)
    await page.keyboard.type("status:stalled ")
    await expect(page.locator(rows(page))).to_have_count(1)
    await expect(box).to_have_value("")
    await page.keyboard.press("Backspace")
    await expect(box).to_have_value("status:stalled")
    await page.keyboard.press("Escape")
    await page.keyboard.press("Escape")
    await expect(page.locator(rows(page))).to_have_count(2)
    await page.keyboard.type("torch")
    await expect(page.locator(rows(page))).to_have_count(1)
    await expect(page).to_have_url(re.compile(r"q=ns:ml%20torch"))


async def test_the_page_scrolls_to_a_suggestion_below_the_fold(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url, height=400)
    await scene_is_complete(page)
    await page.keyboard.press("/")
    await page.keyboard.type("s")
    last = page.get_by_role("option").last
    await expect(last).to_contain_text("image:")
    await expect(last).not_to_be_in_viewport()
    await page.keyboard.press("ArrowUp")
    await expect(last).to_have_attribute("aria-selected", "true")
    await expect(last).to_be_in_viewport(ratio=0.9)


async def test_one_click_clears_a_search_that_matches_nothing(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?q=image:nosuchthing")
    await expect(page.get_by_role("heading", name="Nothing matches the search")).to_be_visible()
    await page.get_by_role("button", name="Clear the search").last.click()
    await expect(page.locator(rows(page)).first).to_be_visible()


COLUMNS = {
    "pulls": ["State", "Image", "Node", "Pods", "Progress", "Speed", "Size", "Time left"],
    "pods": ["State", "Pod", "Owner", "Node", "Slowest image", "Waits", "Ready in"],
    "images": ["Image", "Rollout", "Nodes", "Size", "Median", "Worst"],
    "nodes": ["Agent", "Node", "containerd", "Version", "Throughput", "Usual", "Pulling", "Last report"],
}


@pytest.mark.parametrize("view", COLUMNS)
async def test_every_column_sorts_in_both_directions_and_back(
    server: ScriptedServer, open_page: OpenPage, view: str
) -> None:
    await set_scene(server)
    page = await open_page(f"{server.url}?view={view}")
    for column in COLUMNS[view]:
        header = page.locator("th").filter(has=page.get_by_role("button", name=column, exact=True))
        for way in ("none", re.compile("ascending|descending"), re.compile("ascending|descending")):
            await expect(header).to_have_attribute("aria-sort", way)
            await header.get_by_role("button").click()
        await expect(header).to_have_attribute("aria-sort", "none")


async def test_a_select_box_sets_the_order_on_a_phone(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url, width=360, height=800)
    await page.get_by_label("Sort by").select_option("Size ↓")
    await expect(page).to_have_url(re.compile(r"\?sort=-size$"))
    await expect(page.locator(f"{rows(page)} td[data-column=image]").first).to_contain_text("pytorch")


async def test_the_throughput_is_shown_as_figures_and_as_a_chart(server: ScriptedServer, open_page: OpenPage) -> None:
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
    """Return five minutes of rates: docker.io delivers 4 MB/s and then 1 MB/s, and ghcr.io 2 MB/s in the first half."""
    rates = {"docker.io": [4.0 * MB] * 30 + [1.0 * MB] * 30, "ghcr.io": [2.0 * MB] * 30 + [0.0] * 30}
    registries = [{"registry": host, "bytesPerSec": speeds} for host, speeds in rates.items()]
    return {"since": rfc3339(at - 300), "step": 5, "registries": registries, **counts}


async def test_the_chart_shows_its_values_to_the_pointer_and_the_keyboard(
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
    for _ in range(8):
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


async def test_the_chart_says_what_happened_and_when(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    at = time.time()
    server.throughput = history(at, completed=12, failed=1, canceled=0, downloadedBytes=4_200_000_000)
    page = await open_page(server.url)
    panel = page.get_by_role("region", name="Total throughput")
    words = "12 pulls completed, 1 attempt failed, 4.2 GB downloaded"
    await expect(panel).to_contain_text(re.compile(rf"\d\d:\d\dlast [56] min: {words}now$"))
    server.throughput = history(at, completed=13, failed=1, canceled=2, downloadedBytes=5_000_000_000)
    await expect(panel).to_contain_text("13 pulls completed, 1 attempt failed, 2 cancelled, 5.0 GB", timeout=30_000)
    server.throughput = history(at)
    await expect(panel).not_to_contain_text("completed", timeout=30_000)


@pytest.mark.parametrize("width", [720, 1000, 1181, 1280, 1440])
async def test_the_totals_below_the_chart_are_not_cut(server: ScriptedServer, open_page: OpenPage, width: int) -> None:
    await set_scene(server)
    server.throughput = history(time.time(), completed=1234, failed=56, canceled=12, downloadedBytes=10_800_000_000)
    page = await open_page(server.url, width=width)
    await expect(page.get_by_role("button", name="1 stalled")).to_be_visible()
    panel = page.get_by_role("region", name="Total throughput")
    words = panel.get_by_title("1234 pulls completed, 56 attempts failed, 12 cancelled, 10.8 GB downloaded")
    assert await words.evaluate("words => words.scrollWidth <= words.clientWidth")
    bottom = "element => element.getBoundingClientRect().bottom"
    assert await words.evaluate(bottom) <= await panel.evaluate(bottom)
    chart = await panel.get_by_role("slider").bounding_box()
    assert chart is not None
    assert chart["height"] >= 24


async def test_the_legend_counts_the_registries_that_do_not_fit(server: ScriptedServer, open_page: OpenPage) -> None:
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
    assert len((await more.get_attribute("title") or "").split(", ")) == hidden


async def test_copying_works_without_a_clipboard_api_and_keeps_the_focus(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    """A page without TLS has no clipboard API."""
    await set_scene(server)
    page = await open_page(server.url + "?open=billing")
    await page.evaluate(
        """() => {
          Object.defineProperty(navigator, 'clipboard', {value: undefined})
          document.addEventListener('copy', () => { window.copied = document.activeElement.value })
        }"""
    )
    button = page.get_by_role("button", name="kubectl describe")
    await button.press("Enter")
    await expect(page.get_by_role("button", name="copied")).to_be_focused()
    who = server.pulls["billing"]["pods"][0]
    assert await page.evaluate("window.copied") == f"kubectl -n {who['namespace']} describe pod {who['podName']}"


async def test_a_link_shows_the_same_view(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    await page.get_by_role("button", name="Downloading").first.click()
    await page.get_by_role("button", name="Speed").click()
    await page.locator('[data-toggle="torch"]').click()
    await expect(page.locator("figure ol")).to_be_visible()
    await scene_is_complete(page)
    there = await open_page(page.url)
    await scene_is_complete(there)
    await expect(there.locator("figure ol")).to_be_visible()
    assert await images(there) == await images(page)
    assert "torch" in (await images(there))[0]


@pytest.mark.parametrize(
    ("address", "row"),
    [
        ("?view=pods&q=ns:ml%20status:stalled", "feature-store-0"),
        ("?view=pods&q=image:ghcr.io/acme/checkout%20checkout-a", "checkout-a"),
        ("?view=images&q=registry:nvcr.io", "pytorch"),
        ("?view=nodes&q=node:worker-05", "worker-05"),
    ],
)
async def test_a_search_applies_to_every_view(
    server: ScriptedServer, open_page: OpenPage, address: str, row: str
) -> None:
    await set_scene(server)
    page = await open_page(server.url + address)
    await expect(page.locator(rows(page))).to_have_count(1)
    await expect(page.locator(rows(page))).to_contain_text(row)


async def test_the_back_button_returns_to_the_previous_view(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    await page.get_by_role("link", name="Nodes").click()
    await expect(page.get_by_role("table", name="Nodes")).to_be_visible()
    await page.go_back()
    await expect(page.get_by_role("table", name="Image pulls")).to_be_visible()


async def test_the_keyboard_moves_from_row_to_row(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    await scene_is_complete(page)
    toggles = page.locator(DETAILS)
    await toggles.first.focus()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowDown")
    await expect(toggles.nth(2)).to_be_focused()
    for key in ("Enter", "Space"):
        await page.keyboard.press(key)
    await expect(toggles.nth(2)).to_have_attribute("aria-expanded", "false")
    await page.keyboard.press("Space")
    await expect(toggles.nth(2)).to_have_attribute("aria-expanded", "true")
    await page.keyboard.press("Escape")
    await expect(toggles.nth(2)).to_have_attribute("aria-expanded", "false")
    await page.keyboard.press("End")
    focused = page.locator(f"{DETAILS}:focus")
    await expect(focused).to_have_attribute("aria-label", re.compile("nginx"))
    await expect(focused).to_be_in_viewport()
    await page.keyboard.press("Home")
    await expect(page.locator(f"{DETAILS}:focus")).to_have_attribute("data-toggle", "feature")


async def test_the_escape_key_closes_an_open_row_and_focuses_the_button_of_this_row(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?open=billing")
    await page.get_by_role("button", name="reference").focus()
    await page.keyboard.press("Escape")
    await expect(page.locator('[data-toggle="billing"]')).to_be_focused()
    await expect(page.locator('[data-toggle="billing"]')).to_have_attribute("aria-expanded", "false")


async def test_pods_show_the_images_that_they_wait_for(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?view=pods")
    first = page.locator(rows(page)).first
    await expect(first).to_contain_text("billing-api")
    await expect(first).to_contain_text("Failed")
    trainer = page.locator(rows(page)).filter(has_text="trainer-0")
    await expect(trainer.locator("td[data-column=ready]")).to_have_text(re.compile(r"^(1:\d\d|\d\d s)$"))
    await trainer.click()
    await page.get_by_role("button", name="layers").click()
    await expect(page.locator("figure ol")).to_be_visible()


async def test_images_show_the_progress_of_the_rollout(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    at = time.time()
    await server.put(pull("late", "worker-20", "docker.io/library/nginx:1.27", "queued", now=at))
    page = await open_page(server.url + "?view=images")
    nginx = page.locator(rows(page)).filter(has_text="nginx")
    await expect(nginx).to_contain_text("12 done · 1 queued")
    await expect(nginx.locator("td[data-column=slowest]")).to_have_text("worker-20")
    await expect(nginx.locator("td[data-column=nodes]")).to_have_text("1 of 13 to go")
    await nginx.click()
    await expect(page.locator("[data-detail] li")).to_have_count(13)


async def test_nodes_show_agents_and_registries(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?view=nodes")
    await expect(page.locator(rows(page)).first).to_contain_text("worker-11")
    await expect(page.locator(rows(page)).first).to_contain_text("Lost")
    registries = page.get_by_role("region", name="Registries").get_by_role("listitem")
    await expect(registries).to_contain_text(["docker.io", "ghcr.io", "nvcr.io"])


async def test_the_theme_follows_the_system_and_can_be_chosen(server: ScriptedServer, open_page: OpenPage) -> None:
    page = await open_page(server.url, theme="light")
    background = "() => getComputedStyle(document.documentElement).backgroundColor"
    assert await page.evaluate(background) == "rgb(238, 242, 248)"
    await page.get_by_role("button", name="Show the dark theme").click()
    assert await page.evaluate(background) == "rgb(7, 10, 15)"
    await page.reload()
    assert await page.evaluate(background) == "rgb(7, 10, 15)"


@pytest.mark.parametrize(
    ("pods", "words"),
    [
        pytest.param({"pods": [], "watching": True}, "No pod is waiting for an image", id="none"),
        pytest.param(
            {"pods": [], "watching": False, "reason": "pods is forbidden: User cannot list"},
            "The server cannot see pods",
            id="no access",
        ),
    ],
)
async def test_an_empty_list_of_pods_is_explained(
    server: ScriptedServer, open_page: OpenPage, pods: dict[str, object], words: str
) -> None:
    server.pods = pods
    page = await open_page(server.url + "?view=pods")
    await expect(page.get_by_role("heading", name=words)).to_be_visible()
    if "reason" in pods:
        await expect(page.get_by_text("pods is forbidden")).to_be_visible()


async def test_the_page_explains_how_to_deploy_agents_if_there_are_none(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    page = await open_page(server.url)
    await expect(page.get_by_role("heading", name="No agent has reported yet")).to_be_visible()
    await expect(page.get_by_text("kubectl -n pulltrace get daemonset,pods")).to_be_visible()


async def test_the_page_explains_what_will_appear_if_there_are_no_pulls(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    await server.remove(*list(server.pulls))
    page = await open_page(server.url)
    await expect(page.get_by_role("heading", name="No image is being pulled")).to_be_visible()


async def test_the_page_works_under_a_path_prefix(open_page: OpenPage) -> None:
    async with ScriptedServer(prefix="/tools/pulls") as server:
        await set_scene(server)
        page = await open_page(server.url)
        await expect(page.locator(rows(page)).first).to_be_visible()
        assert await page.evaluate(
            "() => document.fonts.ready.then(fonts => [...fonts].some(f => f.status === 'loaded'))"
        )


HOSTILE = [
    "<img src=x onerror=window.hurt=1><script>window.hurt=1</script>",
    "ghcr.io/" + "a" * 200 + "/" + "very-long-name-" * 12 + ":v1",
    "registry.example/\u202egnp.exe\u202c/مرحبا-بالعالم:إصدار",
    "r.io/🦄🚀/👩‍👩‍👧‍👦:🔥",
    "javascript:alert(1)//x\n\t\0",
    "r.io/Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘:x",
]


@pytest.mark.parametrize("width", [360, 1480])
async def test_hostile_strings_are_not_executed_and_do_not_break_the_layout(
    server: ScriptedServer, open_page: OpenPage, width: int
) -> None:
    at = time.time()
    for n, text in enumerate(HOSTILE):
        who = [pod(text, text, text, text, text)]
        await server.put(
            pull(
                f"h{n}",
                f"node-{text[:40]}",
                text,
                "failed",
                now=at,
                error=text * 3,
                errorReason="unknown",
                pods=who,
                completedAt="2026-11-23T14:00:00Z",
            )
        )
    page = await open_page(server.url + "?open=" + ",".join(f"h{n}" for n in range(len(HOSTILE))), width=width)
    await expect(page.locator(rows(page)).first).to_be_visible()
    await expect(page.locator("[data-detail]").first).to_be_visible()
    for view in ("Pods", "Images", "Pulls"):
        await page.get_by_role("link", name=view).click()
        overflow = await page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
        assert overflow <= 0
    assert await page.evaluate("() => window.hurt") is None


WIDTHS = (360, 699, 700, 768, 900, 901, 1020, 1180, 1181, 1280, 1401, 1480, 2560, 3840)

OUTSIDE = """() => {
  const inside = document.documentElement.clientWidth
  const out = [...document.querySelectorAll('tbody td, tbody button, header *, main li')]
    .filter(e => e.offsetParent !== null && e.getBoundingClientRect().right > inside + 1)
  const names = [...document.querySelectorAll('[data-detail] li button')].filter(e => e.scrollWidth > e.clientWidth)
  const cut = [...document.querySelectorAll('tbody tr[data-index] > td:last-child')]
    .filter(e => e.getBoundingClientRect().right > e.closest('table').getBoundingClientRect().right + 1)
  return [document.documentElement.scrollWidth > inside, out.length, cut.length, names.length]
}"""


@pytest.mark.parametrize(
    "view",
    [
        "pulls&open=torch,billing",
        "pods&open=trainer-0,feature-store-0",
        "images&open=docker.io/library/nginx:1.27",
        "nodes&open=worker-05",
    ],
)
async def test_no_text_is_cut_off_at_any_width(server: ScriptedServer, open_page: OpenPage, view: str) -> None:
    await set_scene(server)
    page = await open_page(f"{server.url}?view={view}")
    await expect(page.locator(rows(page)).first).to_be_visible()
    found = {}
    for width in WIDTHS:
        await page.set_viewport_size({"width": width, "height": 1000})
        found[width] = await page.evaluate(OUTSIDE)
    assert found == {width: [False, 0, 0, 0] for width in WIDTHS}


async def test_no_element_moves_if_the_user_prefers_reduced_motion(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url, reduced_motion="reduce")
    await expect(page.locator(rows(page)).first).to_be_visible()
    moving = (
        "() => [...document.querySelectorAll('*')].filter(e => getComputedStyle(e).transitionDuration !== '0s').length"
    )
    assert await page.evaluate(moving) == 0
