"""Tests that the page answers the questions that people have when they see it for the first time."""

import re
import time

import pytest
from playwright.async_api import expect

from .conftest import OpenPage
from .scenery import MB, Json, nodes, pod, pull, scene_is_complete, set_scene
from .scripted import ScriptedServer, rfc3339

pytestmark = pytest.mark.asyncio(loop_scope="session")

NGINX = "docker.io/library/nginx:1.27"


def row_of(text: str) -> str:
    return f"tbody tr:has(button[data-toggle]):has-text('{text}')"


async def show(server: ScriptedServer, *pulls: Json, pods: tuple[Json, ...] = ()) -> float:
    """Show the given pulls and waiting pods in a cluster whose agents all report, and return the current time."""
    at = time.time()
    server.nodes = nodes(at, sorted({one["nodeName"] for one in pulls}))
    server.pods = {"pods": list(pods), "watching": True}
    await server.put(*pulls)
    return at


def waiting_pod(name: str, node: str, *containers: Json) -> Json:
    return {
        "namespace": "shop",
        "podName": name,
        "uid": name,
        "nodeName": node,
        "waitingSince": rfc3339(time.time() - 30),
        "containers": [
            {"container": f"c{n}", "kind": "app", "waitingReason": "ContainerCreating", **one}
            for n, one in enumerate(containers)
        ],
    }


@pytest.mark.parametrize(
    ("elsewhere", "limit"),
    [
        pytest.param({"bytesPerSec": 9.0 * MB}, "limit: the node", id="the node"),
        pytest.param({"stalledSince": rfc3339(time.time() - 50)}, "limit: the registry", id="the registry"),
    ],
)
async def test_the_page_shows_whether_the_registry_or_the_node_is_slow(
    server: ScriptedServer, open_page: OpenPage, elsewhere: Json, limit: str
) -> None:
    at = time.time()
    stalled = pull("s", "worker-1", NGINX, "downloading", now=at, ago=90, stalledSince=rfc3339(at - 40))
    await show(server, stalled, pull("o", "worker-2", NGINX, "downloading", now=at, **elsewhere))
    page = await open_page(server.url + "?view=nodes")
    row = page.locator(row_of("worker-1"))
    speed = row.locator("td[data-column=speed]")
    await expect(speed).to_contain_text("0 B/s")
    await expect(speed).to_contain_text(limit)
    await expect(row.locator("td[data-column=active]")).to_contain_text("1 stalled")
    colours = await row.evaluate(
        "row => [...row.querySelectorAll('td[data-column=speed] span, td[data-column=active] span')]"
        ".filter(e => /^(0 B.s|1 stalled)$/.test(e.textContent)).map(e => getComputedStyle(e).color)"
    )
    assert colours == ["rgb(251, 191, 36)"] * 2


async def test_the_page_shows_which_waiting_pod_is_expected_to_be_ready_last_and_why(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    at = time.time()
    torch = pull("t", "worker-1", "nvcr.io/nvidia/pytorch:24.05", "downloading", now=at, etaSeconds=90.0)
    small = pull("s", "worker-2", NGINX, "downloading", now=at, etaSeconds=9.0)
    broken = pull("b", "worker-3", "quay.io/no/such:1", "failed", now=at, errorReason="not_found", error="not found")
    pods = (
        waiting_pod("trainer", "worker-1", {"image": torch["imageRef"], "state": "downloading", "pullId": "t"}),
        waiting_pod(
            "shop",
            "worker-2",
            {"image": NGINX, "state": "downloading", "pullId": "s"},
            {"image": "redis:8", "state": "waiting"},
        ),
        waiting_pod("broken", "worker-3", {"image": broken["imageRef"], "state": "failed", "pullId": "b"}),
    )
    await show(server, torch, small, broken, pods=pods)
    page = await open_page(server.url + "?view=pods")
    names = page.locator("td[data-column=pod]")
    await expect(names).to_have_text(["shop/broken", "shop/trainer", "shop/shop"])
    last = page.locator(row_of("shop/shop"))
    await expect(last).to_contain_text("then redis:8, not queued yet")
    await expect(last.locator("td[data-column=ready]")).to_have_text("\u20131 image later")
    why = re.compile("then redis:8, not queued yet$")
    await expect(last.locator("td[data-column=ready] span").first).to_have_attribute("title", why)
    await page.get_by_role("button", name="Ready in").click()
    await expect(names).to_have_text(["shop/broken", "shop/shop", "shop/trainer"])


async def test_each_pod_in_a_queue_has_its_own_estimate_and_the_page_names_the_pod_expected_to_be_ready_last(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    at = time.time()
    torch = pull("t", "edge-1", "docker.io/pytorch/pytorch:2.9", "downloading", now=at, etaSeconds=900.0)
    usual = {"alpine": 20.0, "redis": None, "nginx": 40.0}
    queue = [
        pull(name, "edge-1", f"docker.io/library/{name}:1", "queued", now=at, ago=9 - n, usualSeconds=seconds)
        for n, (name, seconds) in enumerate(usual.items())
    ]
    pods = [waiting_pod("torch", "edge-1", {"image": torch["imageRef"], "state": "downloading", "pullId": "t"})]
    pods += [
        waiting_pod(one["id"], "edge-1", {"image": one["imageRef"], "state": "queued", "pullId": one["id"]})
        for one in queue
    ]
    await show(server, torch, *queue, pods=tuple(reversed(pods)))
    page = await open_page(server.url + "?view=pods")
    await expect(page.locator("td[data-column=pod]")).to_have_text(
        ["shop/torch", "shop/alpine", "shop/redis", "shop/nginx"]
    )
    ready = [re.compile(r"^(15:00|14:\d\d)$"), re.compile(r"^1[45]:\d\dnext$")]
    bounds = [re.compile(rf"^> 1[45]:\d\d{place} in queue$") for place in ("2nd", "3rd")]
    await expect(page.locator("td[data-column=ready]")).to_have_text([*ready, *bounds])
    why = "behind pytorch/pytorch:2.9 and {} more, no estimate for {}"
    await expect(page.locator(row_of("shop/redis"))).to_contain_text(why.format(1, "this image"))
    await expect(page.locator(row_of("shop/nginx"))).to_contain_text(why.format(2, "library/redis:1"))
    sentence = page.locator("main p").filter(has_text="Ready last")
    expected = (
        r"^Ready last, as far as is known: "
        r"shop/nginx on edge-1, in more than about 1[56]:\d\d\. "
        r"It waits for library/nginx:1: queued, behind pytorch/pytorch:2\.9 and 2 more, "
        r"no estimate for library/redis:1\. "
        r"1 pod without a reliable estimate may take longer\.$"
    )
    await expect(sentence).to_have_text(re.compile(expected))


async def test_the_page_shows_how_many_nodes_lack_the_new_image(server: ScriptedServer, open_page: OpenPage) -> None:
    at = time.time()
    done = [
        pull(f"d{n}", f"worker-{n}", NGINX, "completed", now=at, ago=60, completedAt=rfc3339(at - 50 + n))
        for n in range(1, 12)
    ]
    waits = waiting_pod("web", "edge-1", {"image": "nginx:1.27", "state": "waiting"})
    await show(server, *done, pods=(waits | {"owner": "Deployment/web"},))
    page = await open_page(server.url + "?view=images")
    row = page.locator(row_of("nginx"))
    await expect(row.locator("td[data-column=rollout]")).to_have_text("11 done · 1 waiting (edge-1)")
    await expect(row.locator("td[data-column=nodes]")).to_have_text("1 of 12 to go so far")
    words = re.compile(r"Rollout since \d\d:\d\d: Deployment/web in shop")
    await expect(row).to_contain_text(words)
    await expect(row.locator("td[data-column=slowest]")).to_have_text("edge-1waiting")
    await row.click()
    await expect(page.get_by_text("A pod is waiting for this image on edge-1")).to_be_visible()


async def test_the_images_view_shows_which_node_is_still_pulling(server: ScriptedServer, open_page: OpenPage) -> None:
    at = time.time()
    await show(
        server,
        pull("f", "worker-1", NGINX, "failed", now=at, errorReason="timeout", pods=[pod("shop", "p", "c", NGINX)]),
        pull("p", "worker-2", NGINX, "downloading", now=at, percent=58.4, etaSeconds=422.0),
        pull("d", "worker-3", NGINX, "completed", now=at, ago=900, completedAt=rfc3339(at)),
    )
    page = await open_page(server.url + "?view=images")
    words = re.compile(r"^worker-2downloading 58 %, \d:\d\d left$")
    await expect(page.locator("td[data-column=slowest]")).to_have_text(words)


async def test_the_images_view_shows_a_running_pull_that_has_taken_longer_than_all_completed_pulls(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    at = time.time()
    await show(
        server,
        pull("p", "worker-2", NGINX, "downloading", now=at, ago=300),
        pull("d", "worker-3", NGINX, "completed", now=at, ago=90, completedAt=rfc3339(at - 30), downloadedBytes=MB),
    )
    page = await open_page(server.url + "?view=images")
    await expect(page.locator("td[data-column=worst]")).to_have_text(re.compile(r"^> 5:\d\dworker-2$"))
    await expect(page.locator("td[data-column=median]")).to_have_text("1:00")


async def test_a_pod_that_has_its_images_but_has_not_started_is_not_shown_as_unknown(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    ready = waiting_pod("web", "edge-1", {"image": "nginx:1.27", "state": "completed"})
    await show(server, pods=(ready,))
    page = await open_page(server.url + "?view=pods")
    row = page.locator(row_of("web"))
    await expect(row.locator("td[data-column=state]")).to_have_text("Images ready")
    await expect(row.locator("td[data-column=ready]")).to_have_text("\N{EN DASH}")
    await expect(row).to_contain_text("all images are on the node; the containers have not started yet")


async def test_the_page_shows_which_pull_was_cancelled_and_whether_a_pod_is_waiting_for_it(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    at = time.time()
    gone = pull(
        "c",
        "worker-1",
        NGINX,
        "failed",
        now=at,
        downloadedBytes=38 * MB,
        errorReason="canceled",
        error="context canceled",
        completedAt=rfc3339(at - 5),
        waited=[pod("shop", "cart-0", "cart", NGINX)],
    )
    await show(server, gone, pull("o", "worker-2", NGINX, "completed", now=at, completedAt=rfc3339(at)))
    page = await open_page(server.url + "?q=status:cancelled")
    row = page.locator(row_of("Cancelled"))
    await expect(row).to_contain_text("stopped at 38 %")
    await expect(row.locator("td[data-column=pods] span")).to_have_attribute("title", re.compile("shop/cart-0 waited"))
    await row.click()
    await expect(page.get_by_text("no pod is waiting for it any more. shop/cart-0 waited for it.")).to_be_visible()
    await expect(page.get_by_text("context canceled")).to_be_visible()
    await page.get_by_role("button", name="Help").click()
    await expect(page.get_by_role("dialog")).to_contain_text("stopped: cancelled, or failed without a waiting pod")


async def test_the_page_shows_which_image_is_slower_than_usual(server: ScriptedServer, open_page: OpenPage) -> None:
    at = time.time()
    await show(
        server,
        pull("slow", "worker-1", NGINX, "downloading", now=at, ago=40, usualSeconds=20.0, slowerThanUsual=2.0),
        pull("usual", "worker-2", NGINX, "downloading", now=at, ago=10, usualSeconds=20.0, etaSeconds=9.0),
    )
    page = await open_page(server.url)
    left = page.locator("td[data-column=left]")
    await expect(left.get_by_text(re.compile(r"^2\.0. usual 20 s$"))).to_have_css("color", "rgb(251, 191, 36)")
    box = page.get_by_role("combobox", name="Search")
    await box.fill("status:sl")
    await expect(page.get_by_role("option")).to_have_text(["status:slow"])
    await box.fill("status:slow ")
    await expect(page.locator("td[data-column=node]")).to_have_text(["worker-1"])
    await page.get_by_role("button", name="Help").click()
    await expect(page.get_by_role("dialog")).to_contain_text("status:slow finds them")


async def test_the_page_marks_a_pull_that_blocks_a_queue_even_though_no_pod_is_waiting_for_it(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    at = time.time()
    waits = {"pods": [pod("a", "p", "c", "")], "bound": {"by": "queue", "why": "Queued.", "figures": {}}}
    queued = [
        pull(f"q{n}", "edge-1", f"docker.io/library/app-{n}:1", "queued", now=at, ago=n, **waits) for n in range(6)
    ]
    await show(server, pull("gone", "edge-1", NGINX, "downloading", now=at, ago=60), *queued)
    words = "No pod waits for it; 6 pulls queue behind it"
    page = await open_page(server.url)
    row = page.locator(row_of("nginx"))
    await expect(row.locator("td[data-column=progress]")).to_contain_text(words)
    await row.click()
    await expect(page.locator("[data-detail]")).to_contain_text(f"{words}.")
    await page.goto(server.url + "?view=nodes&open=edge-1")
    limit = page.locator(row_of("edge-1")).locator("td[data-column=speed]")
    await expect(limit).to_contain_text("limit: a pull that no pod waits for")
    await expect(page.locator("[data-detail] li").first).to_contain_text(words)
    await server.put(pull("gone", "edge-1", NGINX, "completed", now=at, ago=60, completedAt=rfc3339(at)))
    await expect(limit).not_to_contain_text("no pod")


async def test_active_pulls_come_before_failed_pulls_and_queued_pulls(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    at = time.time()
    who = [pod("shop", "p", "c", NGINX)]
    images = [f"docker.io/library/app-{n}:1" for n in range(6)]
    await show(
        server,
        pull("failed", "worker-1", images[0], "failed", now=at, errorReason="timeout", pods=who),
        pull("queued", "worker-2", images[1], "queued", now=at, ago=5, pods=who),
        pull("next", "worker-2", images[2], "queued", now=at, ago=20),
        pull("a", "worker-2", images[3], "downloading", now=at, ago=50),
        pull("b", "worker-2", images[4], "extracting", now=at, ago=60),
        pull("other", "worker-1", images[5], "queued", now=at, ago=1, pods=who),
    )
    page = await open_page(server.url)
    shown = page.locator("td[data-column=image]")
    await expect(shown).to_have_text([f"{images[n]}" for n in (3, 4, 0, 5, 2, 1)])
    progress = page.locator("td[data-column=progress]")
    await expect(progress.nth(4)).to_have_text("next, after 2 running")
    await expect(progress.nth(5)).to_have_text("2nd in queue")


async def test_repeated_pulls_of_an_image_on_a_node_share_a_row(server: ScriptedServer, open_page: OpenPage) -> None:
    at = time.time()
    done = [
        pull(f"d{n}", "worker-1", NGINX, "completed", now=at, ago=100 - n, completedAt=rfc3339(at - 50 + 10 * n))
        for n in range(3)
    ]
    await show(server, *done)
    page = await open_page(server.url)
    row = page.locator(row_of("nginx"))
    await expect(row).to_have_count(1)
    await expect(row).to_contain_text("pulled 3 times, latest shown")
    await row.click()
    await expect(page.locator("[data-detail] li")).to_have_count(3)
    await page.locator("[data-detail] li button").first.click()
    await expect(page.locator("[data-detail]")).to_contain_text("took")
    await expect(page.locator("[data-toggle=d2]")).to_have_attribute("aria-expanded", "true")


async def test_spaces_in_a_search_are_kept_while_it_is_being_typed(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    await scene_is_complete(page)
    box = page.get_by_role("combobox", name="Search")
    await box.focus()
    await page.keyboard.type("worker-05 check")
    await expect(box).to_have_value("worker-05 check")
    await expect(page.locator("td[data-column=image]")).to_have_text(["ghcr.io/acme/checkout:8f31c2e?"])
    await page.keyboard.type("out ns:shop")
    await expect(box).to_have_value("worker-05 checkout ns:shop")
    await expect(page.get_by_role("button", name="Remove ns:shop")).to_have_count(0)
    await page.keyboard.type(" ")
    await expect(box).to_have_value("worker-05 checkout")
    await expect(page.get_by_role("button", name="Remove ns:shop")).to_be_visible()
    await expect(page).to_have_url(re.compile(r"q=worker-05%20checkout%20ns:shop$"))


async def test_the_page_explains_its_estimates_its_scales_and_which_tags_are_guessed(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    await set_scene(server)
    page = await open_page(server.url + "?open=torch")
    await expect(page.locator("figure")).to_contain_text(re.compile(r"start.*ready in ≈ (1:\d\d|\d\d s)"))
    chart = page.get_by_role("region", name="Total throughput").get_by_role("img")
    await expect(chart).to_contain_text(re.compile(r"[1-9]0?0?(\.0)? [kMG]B/s"))
    guessed = page.get_by_title("ghcr.io/acme/checkout:8f31c2e (the tag is a guess: more than one matches")
    await expect(guessed).to_be_visible()
    await page.get_by_role("button", name="Help").click()
    await expect(page.get_by_role("dialog")).to_contain_text("the tag is a guess")


async def test_the_help_explains_every_colour_of_a_bar(server: ScriptedServer, open_page: OpenPage) -> None:
    await set_scene(server)
    page = await open_page(server.url)
    await page.get_by_role("button", name="Help").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_be_visible()
    shown = await dialog.evaluate(
        "e => [...e.querySelectorAll('dt i')].map(i => getComputedStyle(i)).map(s => s.backgroundColor)"
    )
    named = ["blue", "violet", "amber", "green", "grey", "red"]
    colours = await page.evaluate(
        """names => names.map(name => {
          const probe = document.body.appendChild(document.createElement('i'))
          probe.style.background = `var(--fill-${name})`
          const colour = getComputedStyle(probe).backgroundColor
          probe.remove()
          return colour
        })""",
        named,
    )
    assert [name for name, colour in zip(named, colours, strict=True) if colour not in shown] == []


async def test_a_registry_keeps_its_colour_when_other_registries_become_faster(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    at = time.time()
    hosts = [f"r{n}.example.com" for n in range(9)]

    def moving(host: str, speed: float) -> Json:
        return pull(host, "worker-1", f"{host}/app:1", "downloading", now=at, registry=host, bytesPerSec=speed * MB)

    await show(server, moving(hosts[0], 1.0))
    page = await open_page(server.url)
    legend = page.get_by_role("region", name="Total throughput").get_by_role("listitem")
    mine = legend.filter(has_text=hosts[0])
    await expect(mine).to_be_attached()
    colour = await mine.locator("i").evaluate("e => getComputedStyle(e).backgroundColor")
    await server.put(*[moving(host, 50.0) for host in hosts[1:]])
    await expect(legend).to_have_count(len(hosts))
    assert await mine.locator("i").evaluate("e => getComputedStyle(e).backgroundColor") == colour
