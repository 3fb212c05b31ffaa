"""Tests for all four views: sorting, the keyboard, the help, the theme, hostile strings and arbitrary window widths."""

import re
import time

import pytest
from playwright.async_api import expect

from .conftest import OpenPage
from .scenery import ROWS, pod, pull, row, scene_is_complete, set_scene
from .scripted import ScriptedServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

DETAILS = "button[data-toggle]"


async def test_the_pods_view_shows_the_images_that_pods_are_waiting_for(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?view=pods")
    first = page.locator(ROWS).first
    await expect(first).to_contain_text("billing-api")
    await expect(first).to_contain_text("Failed")
    trainer = page.locator(ROWS).filter(has_text="trainer-0")
    await expect(trainer.locator("td[data-column=ready]")).to_have_text(re.compile(r"^(1:\d\d|\d\d s)$"))
    await trainer.click()
    await page.get_by_role("button", name="layers").click()
    await expect(page.locator("figure ol")).to_be_visible()


async def test_the_images_view_shows_the_progress_of_a_rollout(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    at = time.time()
    await server.put(pull("late", "worker-20", "docker.io/library/nginx:1.27", "queued", now=at))
    page = await open_page(server.url + "?view=images")
    nginx = page.locator(ROWS).filter(has_text="nginx")
    await expect(nginx).to_contain_text("12 done · 1 queued")
    await expect(nginx.locator("td[data-column=slowest]")).to_have_text("worker-20queued")
    await expect(nginx.locator("td[data-column=completed]")).to_have_text("12")
    await expect(nginx.locator("td[data-column=worst]")).to_have_text("15 sworker-12")
    await expect(nginx.locator("td[data-column=nodes]")).to_have_text("1 of 13 to go")
    since = await page.get_by_role("button", name="Done").inner_text()
    period = f"Done and pulls cover the pulls completed since {since[-5:]}, on all nodes."
    await expect(page.get_by_text(period)).to_be_visible()
    await nginx.click()
    await expect(page.locator("[data-detail] li")).to_have_count(13)


async def test_the_nodes_view_shows_agents_and_registries(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?view=nodes")
    await expect(page.locator(ROWS).first).to_contain_text("worker-11")
    await expect(page.locator(ROWS).first).to_contain_text("Lost")
    registries = page.get_by_role("region", name="Registries").get_by_role("listitem")
    await expect(registries).to_contain_text(["docker.io", "ghcr.io", "nvcr.io"])


COLUMNS = {
    "pulls": ["State", "Image", "Node", "Pods", "Progress", "Speed", "Size", "Time left"],
    "pods": ["State", "Pod", "Owner", "Node", "Slowest image", "Waits", "Ready in"],
    "images": ["Image", "Rollout", "Pulling", "Nodes", "Size", "Pulls", "Median pull", "Longest pull"],
    "nodes": ["Agent", "Node", "containerd", "Version", "Throughput", "Usual", "Pulling", "Last report"],
}


@pytest.mark.parametrize("view", COLUMNS)
async def test_every_column_sorts_in_both_directions_and_returns_to_the_default_order(
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


async def test_a_click_anywhere_in_a_header_cell_sorts_the_table(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(f"{server.url}?view=images")
    header = page.locator("th[data-column=image]")
    box = await header.bounding_box()
    assert box is not None
    await page.mouse.click(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
    await expect(header).to_have_attribute("aria-sort", "ascending")


async def test_a_phone_has_a_select_box_for_the_sort_order(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url, width=360, height=800)
    await page.get_by_label("Sort by").select_option("Size ↓")
    await expect(page).to_have_url(re.compile(r"\?sort=-size$"))
    await expect(page.locator(f"{ROWS} td[data-column=image]").first).to_contain_text("pytorch")


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
    await expect(page.locator(ROWS)).to_have_count(1)
    await expect(page.locator(ROWS)).to_contain_text(row)


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


async def test_the_escape_key_closes_an_open_row_and_focuses_its_button(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?open=billing")
    await page.get_by_role("button", name="reference").focus()
    await page.keyboard.press("Escape")
    await expect(page.locator('[data-toggle="billing"]')).to_be_focused()
    await expect(page.locator('[data-toggle="billing"]')).to_have_attribute("aria-expanded", "false")


@pytest.mark.parametrize("part", ["td[data-column=node]", "[data-toggle]"])
@pytest.mark.parametrize("then", ["nothing", "click in the details"])
async def test_the_escape_key_closes_a_row_that_was_opened_with_the_mouse(
    server: ScriptedServer, open_page: OpenPage, part: str, then: str
) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    await scene_is_complete(page)
    await row(page, "torch").locator(part).click()
    await expect(page.locator("figure ol")).to_be_visible()
    if then != "nothing":
        await page.locator("[data-detail] figure ol li").first.click()
        await expect(page.locator("[data-detail]")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.locator("[data-detail]")).to_have_count(0)
    await expect(page.locator('[data-toggle="torch"]')).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("figure ol")).to_be_visible()


async def test_the_escape_key_closes_the_rows_even_if_the_focus_is_elsewhere(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?open=billing,torch")
    details = page.locator("[data-detail]")
    await expect(details).to_have_count(2)
    await page.keyboard.press("?")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.get_by_role("button", name="problems").click()
    await page.keyboard.press("Escape")
    await page.keyboard.press("/")
    await page.keyboard.press("Escape")
    await page.keyboard.press("Escape")
    await expect(details).to_have_count(2)
    await page.evaluate("document.activeElement.blur()")
    await page.keyboard.press("Escape")
    await expect(details).to_have_count(1)
    await expect(page).to_have_url(re.compile("open=billing$"))
    await page.get_by_role("link", name="Pulls").focus()
    await page.keyboard.press("Escape")
    await expect(details).to_have_count(0)
    await expect(page.locator('[data-toggle="billing"]')).to_be_focused()


async def test_the_question_mark_opens_the_legend_of_colours_and_shortcuts(
    server: ScriptedServer, open_page: OpenPage
) -> None:
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


async def test_the_theme_follows_the_system_until_the_user_chooses_one(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    page = await open_page(server.url, theme="light")
    background = "() => getComputedStyle(document.documentElement).backgroundColor"
    assert await page.evaluate(background) == "rgb(238, 242, 248)"
    await page.get_by_role("button", name="Show the dark theme").click()
    assert await page.evaluate(background) == "rgb(7, 10, 15)"
    await page.reload()
    assert await page.evaluate(background) == "rgb(7, 10, 15)"


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
    await expect(page.locator(ROWS).first).to_be_visible()
    await expect(page.locator("[data-detail]").first).to_be_visible()
    for view in ("Pods", "Images", "Pulls"):
        await page.get_by_role("link", name=view, exact=True).click()
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
    await expect(page.locator(ROWS).first).to_be_visible()
    found = {}
    for width in WIDTHS:
        await page.set_viewport_size({"width": width, "height": 1000})
        found[width] = await page.evaluate(OUTSIDE)
    assert found == {width: [False, 0, 0, 0] for width in WIDTHS}


async def test_no_element_moves_if_the_user_prefers_reduced_motion(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url, reduced_motion="reduce")
    await expect(page.locator(ROWS).first).to_be_visible()
    moving = (
        "() => [...document.querySelectorAll('*')].filter(e => getComputedStyle(e).transitionDuration !== '0s').length"
    )
    assert await page.evaluate(moving) == 0
