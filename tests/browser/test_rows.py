"""Tests for rows with long names, for cancelled pulls, and for layers that the snapshotter fetches."""

import re
import time

import pytest
from playwright.async_api import Locator, Page, expect

from .conftest import OpenPage
from .scenery import MB, layer, pod, pull, scene_is_complete, set_scene, waiting_pods
from .scripted import Json, ScriptedServer, rfc3339

pytestmark = pytest.mark.asyncio(loop_scope="session")

IMAGE = "docker.io/vllm/vllm-openai:v0.12"
POD = "recommendation-engine-with-a-long-name-7d9c5bd8f4-k2x9p"
OWNER = "Deployment/recommendation-engine-with-a-long-name"
NODE = "gke-production-europe-west4-pool-1-9f3c2d1a-x8f2"


async def show(server: ScriptedServer, *pulls: Json) -> None:
    await set_scene(server)
    server.pods = {"pods": waiting_pods(time.time(), list(pulls)), "watching": True}
    await server.put(*pulls)


async def is_whole(name: Locator, part: str) -> bool:
    """Return whether the given part of a name is fully visible."""
    result: bool = await name.locator("bdi", has_text=part).evaluate("""bdi => {
      const cell = bdi.closest('td').getBoundingClientRect(), own = bdi.getBoundingClientRect()
      return own.width > 0 && bdi.scrollWidth <= bdi.clientWidth + 1 && own.right <= cell.right + 1
    }""")
    return result


@pytest.mark.parametrize("width", [390, 1440])
async def test_a_long_name_is_shortened_in_the_middle_and_an_open_row_shows_all_of_it(
    server: ScriptedServer, open_page: OpenPage, width: int
) -> None:
    waiting = [pod("shop", POD, "app", IMAGE, OWNER)]
    await show(server, pull("one", NODE, IMAGE, "downloading", now=time.time(), pods=waiting))
    page = await open_page(server.url + "?view=pods", width=width)
    name = page.locator(f"[title='shop/{POD}']")
    assert await is_whole(name, "-k2x9p")
    assert not await is_whole(name, POD.removesuffix("-k2x9p"))
    if width > 700:
        assert await is_whole(page.locator(f"[title='{OWNER}']"), "-name")
        assert await is_whole(page.locator(f"[title='{NODE}']"), "-x8f2")
    await page.get_by_role("button", name=f"shop/{POD}: its containers").press("Enter")
    await expect(name).to_have_css("white-space-collapse", "collapse")
    await expect(name).to_have_css("text-wrap-mode", "wrap")
    assert await is_whole(name, POD.removesuffix("-k2x9p"))


async def test_ordinary_pod_and_owner_names_are_not_cut_off(server: ScriptedServer, open_page: OpenPage) -> None:
    names = [("elasticsearch-46zxw9qwwq-x7tzk", "Deployment/elasticsearch"), ("pytorch-0", "StatefulSet/pytorch")]
    waiting = [pod("default", name, "app", IMAGE, owner) for name, owner in names]
    await show(server, pull("one", "worker-10", IMAGE, "downloading", now=time.time(), pods=waiting))
    page = await open_page(server.url + "?view=pods", width=1440)
    await expect(page.locator("tbody td[data-column=pod]")).to_have_count(2)
    cut = await page.evaluate(
        "() => [...document.querySelectorAll('tbody [title] bdi')].filter(e => e.scrollWidth > e.clientWidth + 1)"
        ".map(e => e.textContent)"
    )
    assert cut == []


@pytest.mark.parametrize("width", range(700, 900, 25))
async def test_the_registry_of_an_image_is_hidden_if_the_column_is_too_narrow(
    server: ScriptedServer, open_page: OpenPage, width: int
) -> None:
    await set_scene(server)
    page = await open_page(server.url, width=width)
    await scene_is_complete(page)
    shown = await page.locator("tbody td[data-column=image] bdi:first-child").evaluate_all(
        "names => names.map(name => name.getBoundingClientRect().width / parseFloat(getComputedStyle(name).fontSize))"
    )
    # Each character in the monospaced font is 0.6 em wide.
    assert [width for width in shown if 0 < width < 2.35] == []


async def lanes(page: Page) -> Locator:
    found = page.locator("figure ol li:not([aria-hidden])")
    await expect(found.first).to_be_visible()
    return found


async def bar_end(lane: Locator) -> float:
    """Return the position at which the last segment of a lane ends, as a fraction of the lane's width."""
    end: float = await lane.evaluate("""lane => {
      const track = lane.children[2].getBoundingClientRect()
      return (lane.children[2].lastElementChild.getBoundingClientRect().right - track.left) / track.width
    }""")
    return end


async def test_the_lanes_of_a_pull_show_how_each_layer_is_fetched(server: ScriptedServer, open_page: OpenPage) -> None:
    at = time.time()
    start = at - 30
    by_snapshotter = {"fetchedBy": "snapshotter"}
    parallel = pull(
        "soci",
        "gpu-2",
        IMAGE,
        "downloading",
        now=at,
        ago=40,
        percentBasis="layers",
        snapshotter="soci",
        layers=[
            layer("a", 300 * MB, "extracted", 300 * MB, start=start, unpacked=at - 20) | by_snapshotter,
            layer("b", 900 * MB, "downloading", start=start) | by_snapshotter,
            layer("c", 100 * MB, "downloading", start=start) | {"fetchedBy": "another"},
        ],
    )
    await show(server, parallel)
    page = await open_page(server.url + "?open=soci")
    found = await lanes(page)
    await expect(found.nth(0)).to_contain_text("extracted · fetched by the snapshotter")
    await expect(found.nth(1)).to_contain_text("downloading · fetched by the snapshotter")
    await expect(found.nth(2)).to_contain_text("downloading · fetched by another pull")
    assert await bar_end(found.nth(0)) < 0.6
    assert await bar_end(found.nth(1)) > 0.9
    own, other = [
        await found.nth(n).evaluate("lane => getComputedStyle(lane.children[2].lastElementChild).backgroundImage")
        for n in (1, 2)
    ]
    assert "repeating" not in own
    assert "repeating" in other
    await expect(page.locator("figcaption")).to_have_text("waiting downloading fetched by another pull")


async def test_the_layers_of_a_cancelled_pull_are_shown(server: ScriptedServer, open_page: OpenPage) -> None:
    at = time.time()
    cancelled = {"errorReason": "canceled", "completedAt": rfc3339(at - 5)}
    layers = [
        layer("x", 60 * MB, "extracted", 60 * MB, start=at - 28, end=at - 20, unpacked=at - 18),
        layer("y", 40 * MB, "failed", 10 * MB, start=at - 28),
        layer("z", 9 * MB, "failed"),
    ]
    await show(server, pull("c", "gpu-1", IMAGE, "failed", now=at, downloadedBytes=70 * MB, layers=layers, **cancelled))
    page = await open_page(server.url + "?open=c")
    found = await lanes(page)
    await expect(found.nth(0)).to_contain_text("extracted")
    await expect(found.nth(1)).to_contain_text("stopped")
    await expect(found.nth(2)).to_contain_text("not started")
    await expect(page.locator("figcaption")).not_to_contain_text("failed")


async def test_the_note_about_missing_layers_mentions_the_cancelled_attempt(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    at = time.time()
    first = pull("c", "gpu-1", IMAGE, "downloading", now=at, layers=[layer("x", 60 * MB, "downloading", 5 * MB)])
    await show(server, first)
    page = await open_page(server.url + "?open=c")
    await scene_is_complete(page)
    await lanes(page)
    retry = {"attempt": 2, "layerCount": 0, "totalBytes": 0, "totalKnown": False, "percent": 0.0}
    await server.put(pull("c", "gpu-1", IMAGE, "queued", now=at, ago=5, **retry))
    await expect(page.get_by_text("The node has not started to pull this image.").last).to_be_visible()
    await expect(page.get_by_text(re.compile("attempt 2 · requested "))).to_be_visible()
    cancelled = {"errorReason": "canceled", "completedAt": rfc3339(at)}
    await server.put(pull("c", "gpu-1", IMAGE, "failed", now=at, ago=5, **retry, **cancelled))
    await expect(
        page.get_by_text("Attempt 2 stopped before any bytes were observed; no pod is waiting")
    ).to_be_visible()
    await expect(page.get_by_text("No layer of attempt 2 is known.")).to_be_visible()
