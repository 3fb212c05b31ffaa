"""Tests that no text is cut off or covered at ordinary window sizes."""

import re
import time

import pytest
from playwright.async_api import Page, expect

from .conftest import OpenPage
from .scenery import MB, failure, layer, nodes, pod, pull, row, set_scene, waiting_pods
from .scripted import ScriptedServer, rfc3339

pytestmark = pytest.mark.asyncio(loop_scope="session")

NGINX = "docker.io/library/nginx:1.29"
RIGHT_END = """element => {
  const range = document.createRange()
  range.selectNodeContents(element)
  return range.getBoundingClientRect().right
}"""
PARTS_ON_LINES = """element => [...element.childNodes].filter(node => node.nodeType === 3).map(node => {
  const range = document.createRange()
  range.selectNode(node)
  return new Set([...range.getClientRects()].map(rect => rect.top)).size
})"""
IS_CUT = "element => element.scrollWidth > element.clientWidth"


async def sized(open_page: OpenPage, url: str, width: int) -> Page:
    page = await open_page(url)
    await page.set_viewport_size({"width": width, "height": 900})
    return page


@pytest.mark.parametrize("width", [720, 1000, 1440])
async def test_captions_node_names_and_the_next_retry_are_not_cut_off(
    server: ScriptedServer, open_page: OpenPage, width: int
) -> None:
    await set_scene(server)
    page = await sized(open_page, server.url, width)
    caption = page.get_by_text("63 % unpacked")
    await expect(caption).to_be_visible()
    assert not await caption.evaluate(IS_CUT)
    assert not await page.get_by_text("worker-03", exact=True).locator("..").first.evaluate(IS_CUT)
    retry = page.get_by_role("region", name="Needs attention").get_by_text(
        re.compile(r"^\s*Attempt \d+ failed; attempt")
    )
    inner, outer = await retry.bounding_box(), await retry.locator("..").bounding_box()
    assert inner
    assert outer
    assert inner["x"] + inner["width"] <= outer["x"] + outer["width"] + 1


@pytest.mark.parametrize("width", [390, 1000, 1440])
async def test_the_advice_in_the_strip_is_not_cut_off_and_the_open_row_repeats_it(
    server: ScriptedServer, open_page: OpenPage, width: int
) -> None:
    await set_scene(server)
    page = await sized(open_page, server.url + "?open=billing", width)
    advice = "The pull secret of namespace billing is missing or wrong."
    words = page.get_by_role("region", name="Needs attention").get_by_text(advice)
    await expect(words).to_be_visible()
    box = "element => element.parentElement.getBoundingClientRect().bottom"
    bottom = """(element, length) => {
      const range = document.createRange()
      range.setStart(element.firstChild, 0)
      range.setEnd(element.firstChild, length)
      return range.getBoundingClientRect().bottom
    }"""
    assert await words.evaluate(bottom, len(advice)) <= await words.evaluate(box) + 1
    await expect(page.locator("[data-detail]").get_by_text(advice)).to_be_visible()


@pytest.mark.parametrize("width", [390, 720, 1440])
async def test_the_scale_label_is_next_to_the_curve(server: ScriptedServer, open_page: OpenPage, width: int) -> None:
    await set_scene(server)
    rates = {"registry": "docker.io", "bytesPerSec": [30.0 * MB] * 120}
    server.throughput = {"since": rfc3339(time.time() - 600), "step": 5, "registries": [rates]}
    page = await sized(open_page, server.url, width)
    chart = page.get_by_role("img", name="Throughput by registry")
    label, curve = chart.locator("span"), chart.locator("svg")
    await expect(label).to_be_visible()
    box = await curve.bounding_box()
    assert box
    assert await label.evaluate(RIGHT_END) <= box["x"]


async def test_the_layers_of_a_cancelled_pull_are_shown_as_stopped(server: ScriptedServer, open_page: OpenPage) -> None:
    at = time.time()
    layers = [
        layer("a", 50 * MB, "extracting", 50 * MB, start=at - 30, completedAt=at - 20, extractStartedAt=at - 20),
        layer("b", 60 * MB, "downloading", 20 * MB, start=at - 30),
    ]
    ended = {"error": "cancelled", "errorReason": "canceled", "completedAt": rfc3339(at - 10), "layers": layers}
    await server.put(pull("gone", "worker-1", NGINX, "failed", now=at, **ended))
    page = await open_page(f"{server.url}?open=gone")
    lanes = page.get_by_role("figure").get_by_role("listitem")
    await expect(lanes.nth(0)).to_contain_text("stopped while extracting")
    await expect(lanes.nth(1)).to_contain_text("stopped · 20.0 / 60.0 MB")


async def test_a_pull_that_is_being_unpacked_is_not_shown_as_limited_by_the_registry(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    at = time.time()
    bound = {"by": "registry", "why": "docker.io serves 4 MB/s.", "figures": {"bytesPerSec": 4.0 * MB}}
    sizes = {"totalBytes": 100 * MB, "downloadedBytes": 100 * MB, "extractedBytes": 25 * MB}
    await server.put(
        pull("unpacked", "worker-1", NGINX, "extracting", now=at, bound=bound, **sizes),
        pull("loaded", "worker-2", NGINX, "downloading", now=at, bound=bound),
    )
    page = await open_page(server.url)
    await expect(row(page, "loaded")).to_contain_text("registry 4.0 MB/s")
    await expect(row(page, "unpacked")).to_contain_text("25 % unpacked")
    await expect(row(page, "unpacked")).not_to_contain_text("registry 4.0")


async def test_the_page_shows_an_estimate_for_a_queued_pull(server: ScriptedServer, open_page: OpenPage) -> None:
    at = time.time()
    await server.put(
        pull("runs", "worker-1", NGINX, "downloading", now=at, ago=30, etaSeconds=3000.0),
        pull("next", "worker-1", "docker.io/library/redis:8", "queued", now=at, ago=20, usualSeconds=60.0),
        pull("last", "worker-1", "docker.io/library/mysql:9", "queued", now=at, ago=10),
    )
    page = await open_page(server.url)
    await expect(row(page, "next").locator("[data-column=left]")).to_have_text(re.compile(r"^5[01]:\d\d$"))
    await expect(row(page, "last").locator("[data-column=left]")).to_have_text(re.compile(r"^> 5[01]:\d\d$"))


async def test_the_strip_wraps_an_image_reference_only_between_its_components(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    at = time.time()
    image = "registry.example.com/platform/payments/settlement:v2.14.0"
    server.nodes = nodes(at, ["worker-1"])
    who = [pod("shop", "pay-0", "pay", image)]
    failed = failure("pay", "worker-1", image, "not_found", now=at, pods=who)
    server.pods = {"pods": waiting_pods(at, [failed]), "watching": True}
    await server.put(failed)
    page = await sized(open_page, server.url, 390)
    subject = page.get_by_role("region", name="Needs attention").locator("bdi").first
    await expect(subject).to_have_text(image)
    parts = await subject.evaluate(PARTS_ON_LINES)
    assert parts == [1] * len(parts)


@pytest.mark.parametrize("width", [1000, 1280, 1440])
async def test_an_estimated_retry_fits_on_one_line_and_the_text_in_the_strip_does_not_touch_the_edges(
    server: ScriptedServer, open_page: OpenPage, width: int
) -> None:
    at = time.time()
    image = "registry.example.com/platform/payments/settlement:v2.14.0"
    server.nodes = nodes(at, ["worker-1"])
    who = [pod("shop", "pay-0", "pay", image) | {"waitingReason": "ErrImagePull"}]
    failed = failure("pay", "worker-1", image, "unauthorized", now=at, pods=who, nextRetryAt=rfc3339(at + 140))
    server.pods = {"pods": waiting_pods(at, [failed]), "watching": True}
    await server.put(failed)
    page = await sized(open_page, server.url, width)
    lines = """element => {
      const range = document.createRange()
      range.selectNodeContents(element)
      return new Set([...range.getClientRects()].map(rect => rect.top)).size
    }"""
    retry = page.locator("[data-column]").get_by_text(re.compile(r"^retry in about \d:\d\d$"))
    for view in ("Pulls", "Pods"):
        await page.get_by_role("link", name=view, exact=True).click()
        await expect(retry).to_be_visible()
        assert await retry.evaluate(lines) == 1
    button = page.get_by_role("region", name="Needs attention").get_by_role("button").first
    strip, words = await button.bounding_box(), await button.locator("> span").first.bounding_box()
    assert strip
    assert words
    assert words["y"] - strip["y"] >= 3
    assert strip["y"] + strip["height"] - words["y"] - words["height"] >= 3
