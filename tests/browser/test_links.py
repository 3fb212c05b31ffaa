"""Tests for links to a view, for the Back button, and for arbitrary query strings."""

import re
import time
from urllib.parse import quote

import pytest
from playwright.async_api import Page, expect

from .conftest import OpenPage
from .scenery import ROWS, pull, row, scene_is_complete, set_scene
from .scripted import ScriptedServer, rfc3339

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def images(page: Page) -> list[str]:
    return [text.strip() for text in await page.locator(f"{ROWS} td[data-column=image]").all_inner_texts()]


async def test_a_copied_link_opens_the_same_view(server: ScriptedServer, open_page: OpenPage) -> None:
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


async def test_a_pull_can_be_shared_as_a_link_or_as_text(server: ScriptedServer, open_page: OpenPage) -> None:
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


async def test_the_link_to_the_current_view_can_be_copied(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    await page.evaluate(
        """() => Object.defineProperty(navigator, 'clipboard',
             {value: {writeText: async text => { window.copied = text }}})"""
    )
    await page.get_by_role("link", name="Images", exact=True).click()
    await page.get_by_role("button", name="Size").click()
    await page.get_by_role("combobox", name="Search").fill("status:done pytorch")
    button = page.get_by_role("search").get_by_role("button", name="Copy link")
    await button.press("Enter")
    await expect(page.get_by_role("search").get_by_role("button", name="copied")).to_be_focused()
    assert await page.evaluate("window.copied") == page.url
    assert page.url.endswith("?view=images&q=status:done%20pytorch&sort=-size")
    await expect(button).to_be_visible()


@pytest.mark.parametrize("typed", ["at:5m", "at:{clock}", "since:6m"])
async def test_a_copied_link_refers_to_the_same_time_in_every_time_zone(
    server: ScriptedServer, open_page: OpenPage, typed: str
) -> None:
    at = time.time()
    nginx = "docker.io/library/nginx:1"
    await server.put(
        pull("during", "worker-1", nginx, "completed", now=at, ago=310, completedAt=rfc3339(at - 290)),
        pull("before", "worker-2", nginx, "completed", now=at, ago=900, completedAt=rfc3339(at - 800)),
    )
    clock = time.strftime("%H:%M:%S", time.gmtime(at - 300))
    page = await open_page(f"{server.url}?q={typed.format(clock=clock)}", timezone_id="UTC")
    await expect(page.locator(ROWS)).to_have_count(1)
    await page.evaluate(
        """() => Object.defineProperty(navigator, 'clipboard',
             {value: {writeText: async text => { window.copied = text }}})"""
    )
    await page.get_by_role("search").get_by_role("button", name="Copy link").click()
    link = await page.evaluate("window.copied")
    there = await open_page(link, timezone_id="Asia/Tokyo")
    await expect(there.locator(ROWS)).to_have_count(1)
    await expect(there.locator(ROWS)).to_contain_text("worker-1")
    assert re.search(r"q=(at|since):\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", link)


async def test_copying_works_without_a_clipboard_api_and_keeps_the_focus(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    """The clipboard API is unavailable to pages served without TLS."""
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


async def test_a_link_to_a_row_and_the_show_button_both_scroll_to_the_row(
    server: ScriptedServer, open_page: OpenPage
) -> None:
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
async def test_the_page_explains_that_a_linked_row_no_longer_exists(
    server: ScriptedServer, open_page: OpenPage, address: str, words: str
) -> None:
    await set_scene(server)
    page = await open_page(server.url + address)
    await expect(page.get_by_text(words)).to_be_visible()


@pytest.mark.parametrize(
    ("view", "key", "name"),
    [
        ("pulls", "torch", "nvidia/pytorch:24.05-py3 on gpu-03 (downloading)"),
        ("images", "docker.io/library/nginx:1.27", "docker.io/library/nginx:1.27"),
        ("nodes", "worker-02", "worker-02"),
    ],
)
async def test_the_page_explains_that_an_open_row_does_not_match_the_search(
    server: ScriptedServer, open_page: OpenPage, view: str, key: str, name: str
) -> None:
    await set_scene(server)
    page = await open_page(f"{server.url}?view={view}&open={key}&q=image:nothing")
    note = page.get_by_role("status").filter(has_text=f"Open, but hidden by the search: {name}.")
    await expect(note).to_be_visible()
    await note.get_by_role("button", name="Clear the search").click()
    await expect(note).to_have_count(0)
    await expect(page.locator("tr:has([aria-expanded=true])")).to_have_count(1)


async def test_the_page_explains_that_an_open_row_has_stopped_matching_the_search(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    now = time.time()
    await set_scene(server)
    running = pull("api", "worker-07", "ghcr.io/acme/api:3", "downloading", now=now)
    await server.put(running)
    page = await open_page(server.url + "?open=api&q=status:downloading")
    await expect(row(page, "api")).to_be_visible()
    await server.put(running | {"status": "completed", "completedAt": rfc3339(now)})
    await expect(page.get_by_text("hidden by the search: acme/api:3 on worker-07 (done).")).to_be_visible()


async def test_the_back_button_returns_to_the_previous_view(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    await page.get_by_role("link", name="Nodes", exact=True).click()
    await expect(page.get_by_role("table", name="Nodes")).to_be_visible()
    await page.go_back()
    await expect(page.get_by_role("table", name="Image pulls")).to_be_visible()


async def test_the_links_to_images_and_nodes_remove_the_filters_that_describe_single_pulls(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?q=status:failed%20node:worker")
    await page.get_by_role("link", name="Pods", exact=True).click()
    await expect(page).to_have_url(re.compile(r"\?view=pods&q=status:failed%20node:worker$"))
    await page.get_by_role("link", name="Nodes", exact=True).click()
    await expect(page).to_have_url(re.compile(r"\?view=nodes&q=node:worker$"))


ADDRESSES = [
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


@pytest.mark.parametrize("start", range(0, len(ADDRESSES), 6))
async def test_the_page_works_with_any_query_string(server: ScriptedServer, open_page: OpenPage, start: int) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    for address in ADDRESSES[start : start + 6]:
        await page.goto(server.url + address)
        await expect(page.locator("[data-connection=live]")).to_be_visible()
        views = [""] if "view" in address else ["", "pods", "images", "nodes"]
        for view in views:
            if view:  # the Back button does not reload the page either
                await page.evaluate(GO_BACK_TO, address.replace("?", f"?view={view}&", 1))
            if view and "?" in address:
                await expect(page.locator(f"nav a[href='?view={view}']")).to_have_attribute("aria-current", "page")
            await expect(page.locator("main :is(table, h2)").last).to_be_visible()
            await expect(page.get_by_role("heading", name="This page has an error")).to_have_count(0)
            assert await page.evaluate("() => window.hurt") is None, address
    assert all(len(query["layers"]) < 5000 and query["layers"] != "true" for query in server.stream_queries)
