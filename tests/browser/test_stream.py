"""Tests for the page's stream when a server stops, restarts, loses its state or serves a different build, and when a
tab sleeps.
"""

import asyncio
import re
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from pulltrace import __version__

from .buffering import BufferingProxy
from .conftest import OpenPage
from .scenery import MB, pull, row, set_quiet, set_scene
from .scripted import STATIC, ScriptedServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

BADGE = "[data-connection]"
ANNOUNCED = "[role=status][aria-live=polite]"
Axe = Callable[[Page], Awaitable[list[str]]]


async def tile(page: Page, word: str) -> int:
    return int(
        await page.get_by_role("list", name="Pulls by state").get_by_role("button", name=word).locator("b").inner_text()
    )


async def becomes(page: Page, word: str, value: int) -> None:
    found = page.get_by_role("list", name="Pulls by state").get_by_role("button", name=word).locator("b")
    await expect(found).to_have_text(str(value))


async def test_the_page_opens_one_stream_and_requests_no_layers(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    await becomes(page, "Done", 13)
    assert [query["layers"] for query in server.stream_queries] == ["false"]
    assert server.readers == 1


async def test_the_stream_resumes_at_the_same_event_after_a_row_is_opened(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    await server.put({**server.pulls["grafana"], "percent": 79.0})
    page = await open_page(server.url)
    await becomes(page, "Done", 13)
    await server.put({**server.pulls["grafana"], "percent": 81.0})
    await expect(page.locator("tr:has([data-toggle=grafana])")).to_contain_text("81 %")
    await page.locator('[data-toggle="torch"]').click()
    while len(server.stream_queries) < 2:  # noqa: ASYNC110 - the browser requests
        await asyncio.sleep(0.02)
    assert server.stream_queries[1] == {"layers": "torch", "lastEventId": f"{server.boot}-{server.revision}"}


async def test_the_open_row_of_a_finished_pull_also_shows_its_layers(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    layers = server.pulls["torch"]["layers"][:3]
    await server.put({**server.pulls["nginx-1"], "layers": layers})
    page = await open_page(server.url)
    await page.locator('[data-toggle="nginx-1"]').click()
    await expect(page.locator("figure ol li:not([aria-hidden])")).to_have_count(3)


async def test_a_removed_pull_disappears_and_the_page_explains_that_it_no_longer_exists(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?open=torch")
    await expect(page.locator("figure ol")).to_be_visible()
    await server.remove("torch", "nginx-1")
    await becomes(page, "Done", 12)
    await expect(page.locator("[data-toggle=torch]")).to_have_count(0)
    note = page.get_by_text("The pull in this link no longer exists")
    await expect(note).to_be_visible()
    await page.get_by_role("button", name="Dismiss").click()
    await expect(note).to_have_count(0)
    await expect(page).to_have_url(server.url)


async def test_the_page_shows_only_current_rows_after_a_server_restart(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?open=torch")
    await becomes(page, "Done", 13)
    panel = page.get_by_role("region", name="Total throughput")
    await expect(panel.get_by_role("listitem").last).to_have_text("nvcr.io 59.9 MB/s")
    await server.stop()
    await expect(page.locator(BADGE)).to_have_text(re.compile(r"Reconnecting( in \d+ s|…)"))
    await expect(page).to_have_title(re.compile("^offline"))
    # The last known state remains visible, but unknown values are not shown as 0.
    await expect(page.locator("[data-toggle=torch]")).to_be_visible()
    await expect(panel.get_by_role("img")).to_have_attribute("aria-label", "Throughput by registry: not known")
    await expect(panel.locator("p").first).to_have_text("\N{EN DASH}")
    for removed in ("torch", "postgres", "nginx-1"):
        del server.pulls[removed]
    server.pulls["grafana"] |= {"status": "completed", "percent": 100.0}
    server.pulls["fresh"] = pull("fresh", "worker-30", "quay.io/fresh/image:1", "downloading", now=time.time())
    await server.restart()
    await expect(page.locator(BADGE)).to_have_text("Live")
    await expect(page.locator("[data-toggle=fresh]")).to_be_visible()
    await expect(page.locator("[data-toggle=torch]")).to_have_count(0)
    await becomes(page, "Done", 13)
    await becomes(page, "Extracting", 0)
    assert sum([await tile(page, word) for word in ("Queued", "Downloading", "Extracting", "Failing", "Done")]) == len(
        server.pulls
    )


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    """Return a copy of the page whose stream waits a thousand times longer before each automatic retry."""
    static = tmp_path / "static"
    shutil.copytree(STATIC, static)
    (worker,) = static.glob("assets/worker-*.js")
    later = "const soon=self.setTimeout;self.setTimeout=(what,ms)=>soon(what,ms*1000);"
    worker.write_text(later + worker.read_text())
    return static


async def test_a_click_on_the_badge_reconnects_immediately(patient: Path, open_page: OpenPage) -> None:
    async with ScriptedServer(patient) as server:
        await set_scene(server)
        page = await open_page(server.url)
        await expect(page.locator(BADGE)).to_have_text("Live")
        await page.route("**/api/v1/pulls?*", lambda route: route.abort())
        await server.stop()
        await expect(page.locator(BADGE)).to_have_text(re.compile("econnecting in"))
        await server.start()
        await page.locator(BADGE).click()
        await expect(page.locator(BADGE)).to_have_text("Live")


async def test_an_unreachable_server_is_shown_as_offline(server: ScriptedServer, open_page: OpenPage) -> None:
    page = await open_page(server.url)
    await expect(page.locator(BADGE)).to_have_text("Live")
    await server.stop()
    await expect(
        page.get_by_role("heading", name=re.compile(r"No response from the server since \d\d:\d\d"))
    ).to_be_visible()
    await expect(page.locator(BADGE)).to_have_text(re.compile(r"Offline since \d\d:\d\d"))


async def test_a_tab_that_wakes_up_shows_that_300_pulls_finished_while_it_was_asleep(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    at = time.time()
    pulls = [pull(f"p{n}", f"worker-{n}", "r.io/a/b:1", "downloading", now=at, bytesPerSec=MB) for n in range(300)]
    await server.put(*pulls)
    page = await open_page(server.url)
    await becomes(page, "Downloading", 300)
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("Page.setWebLifecycleState", {"state": "frozen"})
    await server.put(*[{**one, "percent": 50.0} for one in pulls])
    await server.put(*[{**one, "status": "completed", "percent": 100.0} for one in pulls[:299]])
    await server.remove("p299", "p0")
    await devtools.send("Page.setWebLifecycleState", {"state": "active"})
    await becomes(page, "Done", 298)
    await becomes(page, "Downloading", 0)
    await expect(page).to_have_title("Pulltrace")


async def test_the_page_offers_to_reload_if_the_server_has_a_newer_build(open_page: OpenPage, tmp_path: Path) -> None:
    newer = tmp_path / "static"
    shutil.copytree(STATIC, newer)
    scripts = [path for path in newer.glob("assets/*.js") if __version__ in path.read_text()]
    for script in scripts:
        script.write_text(re.sub(rf"([\"'`]){re.escape(__version__)}\1", r"\g<1>9.9.9\1", script.read_text()))
    async with ScriptedServer(version=__version__) as server:
        await set_scene(server)
        page = await open_page(server.url)
        await becomes(page, "Done", 13)
        banner = page.get_by_text("The server is now Pulltrace 9.9.9")
        await expect(banner).to_have_count(0)
        server.version, server.static = "9.9.9", newer
        await server.restart()
        await expect(banner).to_be_visible()
        await page.get_by_role("button", name="Reload").click()
        await becomes(page, "Done", 13)
        await expect(banner).to_have_count(0)


async def test_the_page_offers_to_reload_only_once_if_reloading_does_not_help(open_page: OpenPage) -> None:
    async with ScriptedServer(version="9.9.9") as server:
        await set_scene(server)
        page = await open_page(server.url)
        await page.get_by_role("button", name="Reload").click()
        await becomes(page, "Done", 13)
        await expect(page.get_by_role("button", name="Reload")).to_have_count(0)


async def test_all_times_on_the_page_are_based_on_the_clock_of_the_server(
    server: ScriptedServer, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clocks of the server and the browser are three hours apart, but a stall of 48 s is still shown as 48 s."""
    hours = 3 * 3600
    monkeypatch.setattr(ScriptedServer, "_now", staticmethod(lambda: time.time() + hours))
    await set_scene(server, time.time() + hours)
    page = await open_page(server.url)
    await expect(page.locator("tr:has([data-toggle=feature]) td[data-column=state]")).to_have_text(
        re.compile(r"Stalled ([45]\d s|1 min)$")
    )


async def test_the_live_region_announces_changes(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    region = page.locator(ANNOUNCED)
    await expect(region).to_have_text("Connected.")
    await region.evaluate(
        """region => {
          window.announced = ''
          const note = () => { window.announced += region.textContent }
          new MutationObserver(note).observe(region, {subtree: true, childList: true, characterData: true})
        }"""
    )
    await server.put(
        {**server.pulls["grafana"], "status": "completed", "percent": 100.0},
        {**server.pulls["checkout"], "status": "failed", "errorReason": "timeout"},
    )
    # The page combines both changes in one announcement, unless the first is announced before the second arrives.
    await page.wait_for_function(
        "() => ['1 pull failed.', '1 pull done.'].every(words => window.announced.includes(words))"
    )


async def test_the_page_behind_a_buffering_proxy_polls_the_list_until_the_stream_arrives(
    server: ScriptedServer, open_page: OpenPage, axe: Axe
) -> None:
    await set_scene(server)
    async with BufferingProxy(server.url) as proxy:
        page = await open_page(proxy.url)
        await expect(page.locator(BADGE)).to_have_text("Polling every 3 s")
        note = page.get_by_text("its live stream is not arriving")
        await expect(note).to_be_visible()
        await expect(page.locator(ANNOUNCED)).to_have_text(re.compile(r"^The live stream is not arriving[^.]*\.$"))
        await becomes(page, "Done", 13)
        assert await axe(page) == []
        # Changes and removals still arrive, and an open row shows its layers.
        await page.locator('[data-toggle="torch"]').click()
        await expect(page.locator("figure ol")).to_be_visible()
        await server.put({**server.pulls["grafana"], "status": "completed", "percent": 100.0})
        await server.remove("nginx-1", "nginx-2")
        await expect(page.locator("[data-toggle=nginx-1]")).to_have_count(0)
        await becomes(page, "Done", 12)
        assert server.list_queries[-1] == "torch"
        proxy.let_through()
        await page.locator(BADGE).click()
        await expect(page.locator(BADGE)).to_have_text("Live")
        await expect(note).to_have_count(0)
        await becomes(page, "Done", 12)


async def test_a_server_that_stops_while_it_is_being_polled_is_shown_as_unreachable(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    async with BufferingProxy(server.url) as proxy:
        page = await open_page(proxy.url)
        await expect(page.locator(BADGE)).to_have_text("Polling every 3 s")
        await becomes(page, "Done", 13)
        await server.stop()
        await expect(page.locator(BADGE)).to_have_text(re.compile("^(Reconnecting|Offline)"))
        await expect(page.locator("[data-toggle=torch]")).to_be_visible()
        await server.restart()
        await expect(page.locator(BADGE)).to_have_text("Polling every 3 s")


async def test_a_tab_without_a_stream_shows_the_reason_and_polls_until_a_stream_is_available(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    server.most_readers = 0
    page = await open_page(server.url)
    await expect(page.locator(BADGE)).to_have_text("Polling every 3 s")
    await becomes(page, "Done", 13)
    note = page.get_by_text("The server refuses the live stream with status 503 (too many readers)")
    await expect(note).to_be_visible()
    await expect(page.get_by_text("proxy")).to_have_count(0)
    server.most_readers = 1
    await expect(page.locator(BADGE)).to_have_text("Live")
    await becomes(page, "Done", 13)


async def test_the_page_reconnects_immediately_after_a_long_outage_and_does_not_blame_a_proxy(
    patient: Path, open_page: OpenPage
) -> None:
    async with ScriptedServer(patient) as server:
        await set_scene(server)
        page = await open_page(server.url)
        await expect(page.locator(BADGE)).to_have_text("Live")
        await page.evaluate(
            """badge => {
              window.announced = []
              const note = () => window.announced.push(document.querySelector(badge).textContent)
              new MutationObserver(note).observe(document.body, {subtree: true, childList: true, characterData: true})
            }""",
            BADGE,
        )
        async with page.expect_request(re.compile(r"api/v1/pulls\?layers=false$")):
            await server.stop()
        server.pulls["grafana"] |= {"status": "completed", "percent": 100.0}
        # The restarted server takes a while to open the stream.
        server.hello_after = 0.3
        await server.restart()
        await expect(page.locator(BADGE)).to_have_text("Live")
        await expect(page.locator(ANNOUNCED)).to_have_text("Connected again. 1 pull done.")
        announced = await page.evaluate("window.announced")
        assert not [words for words in announced if words.startswith("Polling")]


async def test_a_page_that_has_lost_its_connection_shows_when_its_figures_were_last_updated(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    await becomes(page, "Done", 13)
    strip = page.get_by_role("region", name="Needs attention")
    await expect(strip).not_to_contain_text("As of")
    before = (await strip.bounding_box() or {})["height"]
    await server.stop()
    await expect(strip).to_contain_text(re.compile(r"As of \d\d:\d\d:\d\d: "))
    tiles = page.get_by_role("list", name="Pulls by state")
    await expect(tiles).to_have_attribute("title", re.compile(r"^as of \d\d:\d\d:\d\d$"))
    words, height = await strip.inner_text(), (await strip.bounding_box() or {})["height"]
    clock = row(page, "feature").locator("td").first
    await expect(clock).not_to_have_text(await clock.inner_text())
    assert await strip.inner_text() == words
    assert (await strip.bounding_box() or {})["height"] == height == before
    await server.restart()
    await expect(strip).not_to_contain_text("As of")


async def test_the_page_shows_when_its_figures_were_last_updated_if_the_cluster_is_quiet(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_quiet(server)
    page = await open_page(server.url)
    await becomes(page, "Done", 2)
    await server.stop()
    await expect(page.get_by_text(re.compile(r"^The figures are as of \d\d:\d\d:\d\d\.$"))).to_be_visible()
