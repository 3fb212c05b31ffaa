"""The filter for stalled pulls, and the suggestions of the search."""

import re
import time

import pytest
from playwright.async_api import Page, expect

from .conftest import OpenPage
from .scenery import pull, scene_is_complete, set_scene
from .scripted import ScriptedServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROWS = "tbody tr:has(button[data-toggle])"


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


async def test_the_count_of_stalled_pulls_leads_from_another_view_to_the_pulls(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?view=nodes&q=node:worker-01")
    await page.get_by_role("button", name="1 stalled").click()
    await expect(page).to_have_url(re.compile(r"\?q=status:stalled$"))
    await expect(page.locator(ROWS)).to_have_count(1)


async def suggestions(page: Page, typed: str) -> list[str]:
    await page.get_by_role("combobox", name="Search").fill(typed)
    return await page.get_by_role("option").all_inner_texts()


async def test_every_state_and_limiting_factor_is_suggested(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    bound = {"by": "disk", "why": "The disk is busy.", "figures": {}}
    await server.put(
        pull("slow", "edge-1", "r/slow:1", "extracting", now=time.time(), bound=bound),
        pull("blind", "edge-2", "r/blind:1", "unobserved", now=time.time()),
    )
    page = await open_page(server.url)
    await scene_is_complete(page)
    await page.keyboard.press("/")
    problems = ["status:stalled", "status:unobserved"]
    await expect(page.get_by_role("option")).to_contain_text(
        ["image:", "node:", "ns:", "pod:", "status:", "registry:", "limit:", *problems]
    )
    box = page.get_by_role("combobox", name="Search")
    await expect(box).to_have_accessible_description(re.compile(r"^\d+ more: type to find them$"))
    assert len(await suggestions(page, "status:")) == 11
    assert await suggestions(page, "unob") == ["status:unobserved"]
    assert await suggestions(page, "dis") == ["limit:disk"]
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(page.locator(f"{ROWS} td[data-column=node]")).to_have_text(["edge-1"])


async def test_a_hundred_matching_values_are_suggested_and_the_rest_are_counted(
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


async def test_the_focused_search_has_one_focus_ring(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    search = page.get_by_role("combobox", name="Search")
    await search.focus()
    await expect(search).to_have_css("outline-style", "none")
    await expect(page.get_by_role("search")).to_have_css("outline-style", "solid")
