"""Tests for the search box and its suggestions, and for the tiles and counts that filter the pulls."""

import re
import time

import pytest
from playwright.async_api import Page, expect

from .conftest import OpenPage
from .scenery import ROWS, pull, scene_is_complete, set_scene
from .scripted import ScriptedServer

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_click_on_a_tile_shows_only_the_pulls_in_that_state(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    tiles = page.get_by_role("list", name="Pulls by state")
    tile = tiles.get_by_role("button", name="Failing")
    await tile.click()
    await expect(tile).to_have_attribute("aria-pressed", "true")
    await expect(page.locator(ROWS)).to_have_count(1)
    await expect(page).to_have_url(re.compile(r"\?q=status:failing$"))
    await tiles.get_by_role("button", name="Queued").click()
    await expect(page.locator(ROWS)).to_have_count(2)
    await page.get_by_role("button", name="Remove status:failing,queued").click()
    await expect(page.get_by_role("button", name="Remove")).to_have_count(0)
    await tiles.get_by_role("button", name="Waiting pods").click()
    await expect(page).to_have_url(re.compile("view=pods"))


async def test_a_click_on_the_count_of_stalled_pulls_shows_only_stalled_pulls(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?q=ns:ml%20status:downloading")
    tiles = page.get_by_role("list", name="Pulls by state")
    stalled = tiles.get_by_role("button", name="1 stalled")
    await expect(stalled).to_have_attribute("aria-pressed", "false")
    await expect(page.locator(ROWS)).to_have_count(2)
    await stalled.focus()
    await page.keyboard.press("Enter")
    await expect(stalled).to_have_attribute("aria-pressed", "true")
    await expect(tiles.get_by_role("button", name="Downloading")).to_have_attribute("aria-pressed", "false")
    await expect(page).to_have_url(re.compile(r"\?q=ns:ml%20status:stalled$"))
    await expect(page.locator(ROWS)).to_have_count(1)
    await stalled.click()
    await expect(page).to_have_url(re.compile(r"\?q=ns:ml$"))


async def test_the_stalled_pull_count_in_a_different_view_links_to_the_stalled_pulls(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?view=nodes&q=node:worker-01")
    await page.get_by_role("button", name="1 stalled").click()
    await expect(page).to_have_url(re.compile(r"\?q=status:stalled$"))
    await expect(page.locator(ROWS)).to_have_count(1)


async def test_the_search_box_suggests_tokens_and_creates_them_from_typed_text(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    # The search box may be visible before it can handle key presses.
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
    await expect(page.locator(ROWS)).to_have_count(2)
    await page.keyboard.type("status:stalled ")
    await expect(page.locator(ROWS)).to_have_count(1)
    await expect(box).to_have_value("")
    await page.keyboard.press("Backspace")
    await expect(box).to_have_value("status:stalled")
    await page.keyboard.press("Escape")
    await page.keyboard.press("Escape")
    await expect(page.locator(ROWS)).to_have_count(2)
    await page.keyboard.type("torch")
    await expect(page.locator(ROWS)).to_have_count(1)
    await expect(page).to_have_url(re.compile(r"q=ns:ml%20torch"))


async def test_the_page_scrolls_to_a_suggestion_that_is_out_of_view(
    server: ScriptedServer, open_page: OpenPage
) -> None:
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
    await expect(page.locator(ROWS).first).to_be_visible()


async def test_the_page_says_that_no_pull_is_slow_if_a_search_for_slow_pulls_finds_none(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?q=status:slow")
    await expect(page.get_by_role("heading", name="No pull is slower than usual")).to_be_visible()
    await page.get_by_role("combobox", name="Search").fill("node:worker-01")
    await expect(page.get_by_role("heading", name="Nothing matches the search")).to_be_visible()


async def test_one_click_clears_the_search(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?q=pytorch")
    await expect(page.locator(ROWS)).to_have_count(1)
    await page.get_by_role("combobox", name="Search").focus()
    await page.get_by_role("button", name="Clear the search").click()
    await expect(page).to_have_url(server.url)
    await scene_is_complete(page)


async def suggestions(page: Page, typed: str) -> list[str]:
    await page.get_by_role("combobox", name="Search").fill(typed)
    return await page.get_by_role("option").all_inner_texts()


async def test_the_search_suggests_every_state_and_every_limiting_factor(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    bound = {"by": "disk", "why": "The disk is busy.", "figures": {}}
    await server.put(
        pull("slow", "edge-1", "r/slow:1", "extracting", now=time.time(), bound=bound),
        pull("blind", "edge-2", "r/blind:1", "unobserved", now=time.time()),
    )
    page = await open_page(server.url)
    await scene_is_complete(page)
    await page.keyboard.press("/")
    problems = ["status:stalled", "status:slownone now", "status:cancellednone now", "status:unobserved"]
    await expect(page.get_by_role("option")).to_contain_text(
        ["image:", "node:", "ns:", "pod:", "status:", "registry:", "limit:", "at:", "since:", *problems]
    )
    box = page.get_by_role("combobox", name="Search")
    await expect(box).to_have_accessible_description(re.compile(r"^\d+ more: type to find them$"))
    assert len(await suggestions(page, "status:")) == 12
    assert await suggestions(page, "unob") == ["status:unobserved"]
    assert await suggestions(page, "dis") == ["limit:disk"]
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(page.locator(f"{ROWS} td[data-column=node]")).to_have_text(["edge-1"])


async def test_up_to_a_hundred_matching_values_are_suggested_and_the_rest_are_counted(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    at = time.time()
    await server.put(*[pull(f"p{n}", "edge-1", f"r/app-{n:03}:1", "queued", now=at) for n in range(130)])
    page = await open_page(server.url)
    await scene_is_complete(page)
    assert len(await suggestions(page, "app-00")) == 10
    await expect(page.get_by_text("more: type to find them")).to_have_count(0)
    assert len(await suggestions(page, "app-")) == 100
    await expect(page.get_by_text("30 more: type to find them")).to_be_visible()


async def test_the_search_box_has_a_single_focus_ring(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    search = page.get_by_role("combobox", name="Search")
    await search.focus()
    await expect(search).to_have_css("outline-style", "none")
    await expect(page.get_by_role("search")).to_have_css("outline-style", "solid")
