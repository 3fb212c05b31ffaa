"""Tests for the page while it is loading, while it has nothing to show, and after errors in the stream or the page."""

import json
import re

import pytest
from playwright.async_api import expect

from .conftest import OpenPage
from .scenery import ROWS, row, scene_is_complete, set_scene
from .scripted import ScriptedServer

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_no_value_is_shown_as_zero_while_the_page_is_connecting(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    server.has_list = False
    server.may_begin.clear()
    page = await open_page(server.url)
    tiles = page.get_by_role("list", name="Pulls by state").locator("b")
    await expect(page.locator("[data-connection]")).to_have_text("Connecting…")
    assert set(await tiles.all_inner_texts()) == {"\N{EN DASH}"}
    server.may_begin.set()
    await scene_is_complete(page)
    assert "\N{EN DASH}" not in await tiles.all_inner_texts()


async def test_the_first_rows_keep_their_order_while_the_rest_of_the_state_arrives(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    server.has_list = False
    server.may_complete.clear()
    page = await open_page(server.url)
    rows = page.locator("[data-row]")
    await expect(rows.first).to_be_visible()
    first = [await row.get_attribute("data-row") for row in await rows.all()]
    states = await page.locator('td[data-column="state"]').all_inner_texts()
    assert {state.split()[0] for state in states} <= {"Stalled", "Downloading", "Extracting", "Resolving"}
    await expect(page.get_by_role("table")).to_have_attribute("aria-rowcount", "-1")
    tiles = page.get_by_role("list", name="Pulls by state").locator("b")
    assert set(await tiles.all_inner_texts()) == {"\N{EN DASH}"}
    await expect(page.get_by_role("region", name="Total throughput").locator("p").first).to_have_text("\N{EN DASH}")
    await expect(page.get_by_role("region", name="Needs attention")).to_have_count(0)
    server.may_complete.set()
    await expect(page.locator("[data-connection]")).to_have_text("Live")
    final = [await row.get_attribute("data-row") for row in await rows.all()]
    assert len(first) > 3
    assert final[: len(first)] == first


async def test_the_page_polls_the_list_if_a_proxy_holds_back_the_stream(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    server.may_complete.clear()
    page = await open_page(server.url)
    await expect(page.locator("[data-connection]")).to_have_text("Polling every 3 s")
    await expect(page.get_by_text("its live stream is not arriving")).to_be_visible()
    await scene_is_complete(page)
    server.may_complete.set()
    await expect(page.locator("[data-connection]")).to_have_text("Live")
    await expect(page.get_by_text("its live stream is not arriving")).to_have_count(0)
    await scene_is_complete(page)


@pytest.mark.parametrize(
    ("view", "title"), [("pulls&sort=node", "pulls"), ("images", "pulls"), ("pods", "pods"), ("nodes", "nodes")]
)
async def test_the_page_shows_that_it_is_loading_until_it_has_received_the_full_state(
    server: ScriptedServer, open_page: OpenPage, view: str, title: str
) -> None:
    await set_scene(server)
    server.has_list = False
    server.may_complete.clear()
    page = await open_page(f"{server.url}?view={view}")
    # The badge changes after four seconds, when the page starts polling the list instead.
    await expect(page.locator("[data-connection]")).to_have_text(re.compile("Loading…|Connecting…"))
    await expect(page.get_by_role("heading", name=re.compile(f"Loading the {title}…|Connecting…"))).to_be_visible()
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
async def test_the_page_explains_why_the_stream_was_refused(
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


async def test_the_page_ignores_invalid_and_incomplete_events(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    server.raw = GARBAGE
    page = await open_page(server.url)
    await scene_is_complete(page)
    await expect(page.locator("[data-connection=live]")).to_be_visible()
    # The first event after the incomplete one is appended to it and cannot be parsed, but the second event can.
    await server.put(server.pulls["grafana"])
    await server.put({**server.pulls["grafana"], "percent": 88.0})
    await expect(row(page, "grafana")).to_contain_text("88 %")


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
async def test_the_page_explains_why_the_list_of_pods_is_empty(
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


async def test_a_page_without_pulls_explains_what_will_appear(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    await server.remove(*list(server.pulls))
    page = await open_page(server.url)
    await expect(page.get_by_role("heading", name="No image is being pulled")).to_be_visible()


async def test_the_page_works_under_a_path_prefix(open_page: OpenPage) -> None:
    async with ScriptedServer(prefix="/tools/pulls") as server:
        await set_scene(server)
        page = await open_page(server.url)
        await expect(page.locator(ROWS).first).to_be_visible()
        assert await page.evaluate(
            "() => document.fonts.ready.then(fonts => [...fonts].some(f => f.status === 'loaded'))"
        )


async def test_the_page_loads_two_scripts_and_one_style_sheet(server: ScriptedServer, open_page: OpenPage) -> None:
    """The first script, which opens the stream, is small. The page does not use a chart library."""
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
