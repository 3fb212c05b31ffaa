"""Tests for the first screen, which lists the live pulls first, in a quiet cluster and in a cluster with problems."""

import re
import time

import pytest
from playwright.async_api import Page, expect

from .conftest import OpenPage
from .scenery import (
    MB,
    ROWS,
    failure,
    pod,
    row,
    scene_is_complete,
    set_quiet,
    set_scene,
    set_trouble,
    waiting_pods,
)
from .scripted import ScriptedServer, rfc3339

pytestmark = pytest.mark.asyncio(loop_scope="session")

ON_SCREEN = """selector => [...document.querySelectorAll(selector)].filter(e => {
  const {top, bottom} = e.getBoundingClientRect()
  return top >= 0 && bottom <= window.innerHeight
}).length"""


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


async def test_live_pulls_come_first_followed_by_failures_and_the_queue(
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
    await expect(problems.nth(0)).to_contain_text(re.compile(r"Attempt 4 failed; attempt 5 in about 1:\d0"))
    await expect(problems.nth(1)).to_contain_text("has received no bytes for")
    await expect(problems.nth(2)).to_contain_text("worker-11: its agent has not reported since")
    await page.keyboard.press("Escape")
    await expect(problems).to_have_count(0)
    await toggle.click()
    await problems.nth(0).get_by_role("button").click()
    await expect(problems).to_have_count(0)
    await expect(page.locator(ROWS)).to_have_count(1)
    await expect(page.get_by_text("401 Unauthorized")).to_be_visible()


async def test_failures_with_the_same_cause_share_a_row_that_can_be_opened(
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


async def test_a_cancelled_pull_is_not_listed_as_a_problem_and_can_be_found_by_its_status(
    server: ScriptedServer, open_page: OpenPage
) -> None:
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


async def test_the_page_shows_the_most_recent_pull_if_the_cluster_is_quiet(
    server: ScriptedServer, open_page: OpenPage
) -> None:
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


async def test_the_table_does_not_move_when_problems_appear_or_are_opened(
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
