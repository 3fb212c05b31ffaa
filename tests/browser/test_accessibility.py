"""axe checks the accessibility of all views in both themes, with open rows, and when there is nothing to list."""

from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import Page, expect

from .conftest import OpenPage
from .scenery import scene_is_complete, set_quiet, set_scene, set_trouble
from .scripted import ScriptedServer

Axe = Callable[[Page], Awaitable[list[str]]]

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize(
    "address",
    [
        pytest.param("?open=torch,billing,feature,nginx-1", id="pulls-open"),
        pytest.param("?q=status:failed,downloading%20ns:ml", id="pulls-filtered"),
        pytest.param("?view=pods&open=trainer-0,feature-store-0", id="pods"),
        pytest.param("?view=images&open=docker.io/library/nginx:1.27", id="images"),
        pytest.param("?view=nodes&open=worker-05", id="nodes"),
    ],
)
async def test_axe_finds_no_problems_in_any_view(
    server: ScriptedServer, open_page: OpenPage, axe: Axe, theme: str, address: str
) -> None:
    await set_scene(server)
    page = await open_page(server.url + address, theme=theme, reduced_motion="reduce")
    await expect(page.locator("tbody tr").first).to_be_visible()
    await expect(page.get_by_text("agents")).to_be_visible()
    assert await axe(page) == []


@pytest.mark.parametrize("theme", ["dark", "light"])
async def test_the_last_known_state_is_greyed_out_but_readable_in_every_view(
    server: ScriptedServer, open_page: OpenPage, axe: Axe, theme: str
) -> None:
    await set_scene(server)
    page = await open_page(server.url, theme=theme)
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    # Load the list of each view before the server stops.
    for view in ("Pods", "Nodes", "Pulls"):
        await page.get_by_role("link", name=view, exact=True).click()
        await expect(page.locator("tbody tr").first).to_be_visible()
    await server.stop()
    for view in ("Pods", "Images", "Nodes", "Pulls"):
        await page.get_by_role("link", name=view, exact=True).click()
        await expect(page.locator("div:has(> table)")).to_have_css("filter", "grayscale(1)")
    await page.locator("button[data-toggle]").first.press("Enter")
    await expect(page.locator("[data-detail]")).to_be_visible()
    assert await axe(page) == []


@pytest.mark.parametrize("theme", ["dark", "light"])
async def test_axe_finds_no_problems_on_a_phone(
    server: ScriptedServer, open_page: OpenPage, axe: Axe, theme: str
) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?open=torch", width=360, height=800, theme=theme)
    await expect(page.locator("tbody tr").first).to_be_visible()
    assert await axe(page) == []


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("address", ["", "?view=pods", "?view=nodes"])
async def test_axe_finds_no_problems_in_empty_views(
    server: ScriptedServer, open_page: OpenPage, axe: Axe, theme: str, address: str
) -> None:
    server.pods = {"pods": [], "watching": False, "reason": "pods is forbidden"}
    page = await open_page(server.url + address, theme=theme)
    await expect(page.get_by_role("heading", level=2).last).to_be_visible()
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    assert await axe(page) == []


async def test_axe_finds_no_problems_in_the_suggestions_of_the_search_box(
    server: ScriptedServer, open_page: OpenPage, axe: Axe
) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    await scene_is_complete(page)
    await page.keyboard.press("/")
    await page.keyboard.type("st")
    await page.keyboard.press("ArrowDown")
    await expect(page.get_by_role("option").first).to_be_visible()
    assert await axe(page) == []


@pytest.mark.parametrize("theme", ["dark", "light"])
async def test_axe_finds_no_violations_in_the_attention_strip_or_in_groups_of_failures(
    server: ScriptedServer, open_page: OpenPage, axe: Axe, theme: str
) -> None:
    await set_trouble(server)
    page = await open_page(server.url + "?open=failed/registry.corp.local/timeout,gone", theme=theme)
    await expect(page.locator("[data-detail]")).to_be_visible()
    await page.get_by_role("region", name="Needs attention").get_by_role("button").first.click()
    await expect(page.get_by_role("region", name="Needs attention").get_by_role("listitem").first).to_be_visible()
    assert await axe(page) == []


@pytest.mark.parametrize("theme", ["dark", "light"])
async def test_axe_finds_no_problems_in_the_help_or_in_a_quiet_cluster(
    server: ScriptedServer, open_page: OpenPage, axe: Axe, theme: str
) -> None:
    await set_quiet(server)
    page = await open_page(server.url, theme=theme)
    await expect(page.get_by_text("No image is being pulled.")).to_be_visible()
    assert await axe(page) == []
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Help")).to_be_visible()
    assert await axe(page) == []
