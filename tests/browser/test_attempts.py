"""Tests for failing images: the time of the first failure, earlier attempts, queued retries, and estimates."""

import re
import time

import pytest
from playwright.async_api import expect

from .conftest import OpenPage
from .scenery import MB, failure, nodes, pod, pull, row, waiting_pods
from .scripted import Json, ScriptedServer, rfc3339

pytestmark = pytest.mark.asyncio(loop_scope="session")

CART = "ghcr.io/acme/cart:lates"


def attempt(number: int, reason: str, *, began: float, took: float, **more: float) -> Json:
    found = {
        "attempt": number,
        "errorReason": reason,
        "startedAt": rfc3339(began),
        "completedAt": rfc3339(began + took),
    }
    return found | {"error": f"attempt {number}: {reason}"} | more


async def show(server: ScriptedServer, now: float, *pulls: Json) -> None:
    server.nodes = nodes(now, sorted({one["nodeName"] for one in pulls}))
    server.pods = {"pods": waiting_pods(now, list(pulls)), "watching": True}
    await server.put(*pulls)


async def test_an_open_row_lists_earlier_attempts_and_shows_how_long_the_image_has_been_failing(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    now = time.time()
    earlier = [
        attempt(5, "canceled", began=now - 500, took=40, percent=43.0),
        attempt(6, "not_found", began=now - 300, took=2),
    ]
    failing = {"attempt": 7, "failingSince": rfc3339(now - 725), "earlierAttempts": earlier}
    who = [pod("shop", "cart-0", "cart", CART)]
    await show(server, now, failure("cart", "worker-01", CART, "not_found", now=now, pods=who, **failing))
    page = await open_page(f"{server.url}?open=cart")
    await expect(row(page, "cart")).to_contain_text("for 12 min")
    since = time.strftime("%H:%M", time.localtime(now - 725))
    await expect(page.get_by_text(f"failing for 12 min, since {since}").first).to_be_visible()
    listed = page.get_by_role("list", name="Earlier attempts").get_by_role("listitem")
    await expect(listed).to_have_count(3)
    await expect(listed.nth(0)).to_have_text(re.compile(r"^Attempt 6 · \d\d:\d\d:\d\d, 2 s · not found$"))
    await expect(listed.nth(1)).to_have_text(re.compile(r"^Attempt 5 · \d\d:\d\d:\d\d, 40 s · cancelled at 43 %$"))
    await expect(listed.nth(2)).to_have_text("4 older attempts not listed: the server did not observe them")
    await expect(listed.nth(0)).to_have_attribute("title", "attempt 6: not_found")


async def test_a_group_of_failures_shows_the_time_of_the_first_failure(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    now = time.time()
    await show(
        server,
        now,
        *(
            failure(
                f"cart-{number}",
                f"worker-0{number}",
                CART,
                "not_found",
                now=now,
                failingSince=rfc3339(now - 100 - 305 * number),
                pods=[pod("shop", f"cart-{number}", "cart", CART)],
            )
            for number in (1, 2, 3)
        ),
    )
    page = await open_page(server.url)
    group = row(page, f"failed/{CART}/not_found")
    await expect(group).to_contain_text("for 17 min")
    await group.get_by_role("button").first.click()
    await expect(page.locator("tbody").get_by_text("failing for 17 min, since")).to_be_visible()


async def test_a_search_for_cancelled_pulls_finds_a_pull_with_a_cancelled_attempt(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    now = time.time()
    image, other = "docker.io/library/redis:8", "docker.io/library/nginx:1.29"
    moving = {"totalBytes": 100 * MB, "downloadedBytes": 50 * MB, "bytesPerSec": 5.0 * MB, "etaSeconds": 10.0}
    cancelled = [attempt(1, "canceled", began=now - 60, took=20, percent=38.0)]
    await show(
        server,
        now,
        pull("again", "worker-01", image, "downloading", now=now, attempt=2, earlierAttempts=cancelled, **moving),
        pull("other", "worker-02", other, "downloading", now=now, **moving),
    )
    page = await open_page(f"{server.url}?q=status:cancelled")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await expect(row(page, "again")).to_contain_text("cancelled before")
    await row(page, "again").get_by_role("button").first.click()
    await expect(page.get_by_text(re.compile(r"^Attempt 1 · .* · cancelled at 38 %$"))).to_be_visible()


async def test_a_long_explanation_of_the_limiting_factor_does_not_overlap_the_next_column(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    now = time.time()
    limit = {"by": "layer", "why": "One layer is large.", "figures": {"percentOfTime": 58.0}}
    cancelled = [attempt(1, "canceled", began=now - 60, took=20, percent=38.0)]
    done = {"attempt": 2, "earlierAttempts": cancelled, "bound": limit, "completedAt": rfc3339(now)}
    await show(server, now, pull("done", "worker-01", "docker.io/library/redis:8", "completed", now=now, **done))
    page = await open_page(server.url)
    cell = row(page, "done").locator("td[data-column=progress]")
    text = cell.get_by_text("cancelled before, one layer 58 % of the time")
    inner, outer = await text.bounding_box(), await cell.bounding_box()
    assert inner
    assert outer
    assert inner["x"] + inner["width"] <= outer["x"] + outer["width"]


async def test_a_queued_retry_is_shown_as_a_retry_together_with_the_previous_failure(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    now = time.time()
    big = pull("big", "worker-01", "docker.io/library/big:1", "downloading", now=now, ago=90, etaSeconds=60.0)
    retry = pull(
        "cart",
        "worker-01",
        CART,
        "queued",
        now=now,
        ago=20,
        totalBytes=0,
        totalKnown=False,
        percent=0.0,
        layerCount=0,
        attempt=4,
        failingSince=rfc3339(now - 130),
        earlierAttempts=[attempt(3, "not_found", began=now - 60, took=2)],
        pods=[pod("shop", "cart-0", "cart", CART)],
    )
    await show(server, now, big, retry)
    page = await open_page(server.url)
    await expect(row(page, "cart")).to_contain_text("Retry queued")
    await expect(row(page, "cart")).to_contain_text("Retry queued, failing for 2 min")
    await expect(row(page, "cart")).to_contain_text("attempt 3: not found, next, after 1 running")
    for name in ("Queued", "Failing"):
        await expect(page.get_by_role("button", name=name, exact=False).locator("b")).to_have_text("1")
    await expect(page.get_by_text(re.compile("Attempt 4 is queued"))).to_be_visible()
    await page.goto(f"{server.url}?view=pods")
    await expect(row(page, "cart-0")).to_contain_text("Retry queued")
    await expect(row(page, "cart-0")).to_contain_text("attempt 3: not found, behind library/big:1")


async def test_a_failed_row_keeps_its_place_during_a_retry(server: ScriptedServer, open_page: OpenPage) -> None:
    now = time.time()
    images = [f"ghcr.io/acme/{name}:1" for name in ("auth", "cart", "shop")]
    failing = [
        failure(
            image,
            "worker-01",
            image,
            "not_found",
            now=now,
            failingSince=rfc3339(now - 130),
            earlierAttempts=[attempt(4, "not_found", began=now - 60, took=2)],
            pods=[pod("shop", f"pod-{number}", "app", image)],
        )
        for number, image in enumerate(images)
    ]
    await show(server, now, *failing)
    page = await open_page(server.url + "?q=status:failing")
    shown = page.locator("td[data-column=image]")
    await expect(shown).to_have_text(images)
    ended = ("completedAt", "error", "errorReason")
    again = {key: value for key, value in failing[1].items() if key not in ended}
    again |= {"attempt": 6, "earlierAttempts": [attempt(5, "not_found", began=now - 15, took=5)]}
    starting = {"status": "queued", "bound": {"by": "unknown", "why": "Not started.", "figures": {}}}
    cart = page.locator("tbody tr").filter(has_text="cart")
    for step in (starting, {"status": "resolving"}):
        await server.put(again | step)
        await expect(cart.locator("td[data-column=progress]")).to_have_text("attempt 6 is running")
        await expect(cart.locator("td[data-column=state]")).to_contain_text("Failed for 2 min")
        await expect(shown).to_have_text(images)
        await expect(page.get_by_role("button", name="Failing").locator("b")).to_have_text("3")
    await cart.click()
    await expect(page.get_by_text("attempt 5: not_found", exact=True)).to_be_visible()
    await expect(page.get_by_text(re.compile("^Attempt 6 is running; failing for 2 min"))).to_be_visible()
    await server.put(failing[1] | {"attempt": 6})
    await expect(cart.locator("td[data-column=progress]")).to_have_text("attempt 6: not found")
    await expect(shown).to_have_text(images)


async def test_an_estimated_usual_duration_is_marked_as_an_estimate(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    now = time.time()
    slow = {"usualSeconds": 4.0, "usualBasis": "node", "slowerThanUsual": 15.0, "completedAt": rfc3339(now)}
    size = {"totalBytes": 66 * MB, "downloadedBytes": 66 * MB}
    await show(
        server,
        now,
        pull("slow", "worker-01", "berlin.example/legacy/p:3", "completed", now=now, ago=60, **size, **slow),
    )
    page = await open_page(f"{server.url}?open=slow")
    await expect(row(page, "slow")).to_contain_text(re.compile(r"15. usual ≈ 4 s"))
    words = re.compile(
        r"Slower than usual: 15. the usual ≈ 4 s at this node.s speed, estimated from other registries on this node\."
    )
    await expect(page.get_by_text(words)).to_be_visible()


async def test_the_time_of_a_retry_is_approximate(server: ScriptedServer, open_page: OpenPage) -> None:
    now = time.time()
    who = pod("shop", "cart-0", "cart", CART)
    failing = failure("cart", "worker-01", CART, "not_found", now=now, pods=[who], nextRetryAt=rfc3339(now + 3000))
    await show(server, now, failing)
    page = await open_page(f"{server.url}?open=cart")
    left = row(page, "cart").locator("[data-column=left]")
    await expect(left).to_have_text(re.compile(r"^retry in about (50:00|49:\d0)$"))
    await expect(page.get_by_role("region", name="Needs attention")).to_contain_text(
        "Attempt 5 failed; attempt 6 in about "
    )
    await expect(page.get_by_text(re.compile(r"^Attempt 5 failed; attempt 6 in about (50:00|49:\d0)$"))).to_be_visible()


async def test_a_phone_shows_the_reason_for_a_failure_and_the_next_retry_in_the_collapsed_strip(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    now = time.time()
    billing = "registry.example.com/finance/billing:9.1"
    who = pod("apps", "billing-7b9f-k2x9p", "billing", billing) | {"waitingReason": "ImagePullBackOff"}
    retry = {"nextRetryAt": rfc3339(now + 3000), "pods": [who]}
    await show(server, now, failure("billing", "worker-01", billing, "unauthorized", now=now, **retry))
    page = await open_page(server.url, width=390, height=844)
    strip = page.get_by_role("region", name="Needs attention").get_by_role("button")
    frame = await strip.bounding_box()
    words = strip.get_by_text(re.compile("^Attempt 5 failed; attempt 6 in "))
    shown = await words.bounding_box()
    assert frame is not None
    assert shown is not None
    assert shown["y"] + shown["height"] <= frame["y"] + frame["height"]
    await expect(strip).to_contain_text("cannot be pulled on worker-01: unauthorized.")


async def test_no_retry_is_shown_for_an_image_that_no_pod_is_waiting_for(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    now = time.time()
    await show(server, now, failure("cart", "worker-01", CART, "not_found", now=now, nextRetryAt=rfc3339(now + 300)))
    page = await open_page(f"{server.url}?open=cart")
    await expect(row(page, "cart").locator("[data-column=left]")).to_have_text("after 5 s")
    await expect(page.get_by_text("Attempt 5 failed", exact=True)).to_be_visible()
    await expect(page.get_by_text("retry")).to_have_count(0)


async def test_an_open_row_lists_the_pods_that_waited_for_a_cancelled_pull(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    now = time.time()
    waited = [pod("shop", "cart-0", "cart", CART, "Deployment/cart")]
    deleted = [pod("shop", "job-1", "job", CART, "Job/job")]
    await show(server, now, pull("other", "worker-01", "docker.io/library/nginx:1.29", "downloading", now=now))
    gone = failure("gone", "worker-01", CART, "canceled", now=now - 60, waited=waited, pods=deleted)
    await server.put(gone)
    page = await open_page(f"{server.url}?open=gone")
    words = "shop/cart-0 (Deployment/cart), shop/job-1 (Job/job) waited for it."
    await expect(page.get_by_text(words)).to_be_visible()
    await expect(row(page, "gone").locator("[data-column=pods]")).to_have_text("none left")


async def test_the_time_of_the_first_failure_stays_the_same_after_the_pod_has_moved_to_a_different_node(
    server: ScriptedServer, open_page: OpenPage
) -> None:
    now = time.time()
    old, new = (pod("shop", f"cart-{name}", "cart", CART, "Deployment/cart") for name in "ab")
    first, second = {"failingSince": rfc3339(now - 725)}, {"failingSince": rfc3339(now - 130)}
    moved = failure("new", "worker-02", CART, "not_found", now=now, pods=[new], **second)
    await show(server, now, moved)
    await server.put(failure("old", "worker-01", CART, "not_found", now=now - 200, waited=[old], **first))
    page = await open_page(f"{server.url}?open=new")
    await expect(row(page, "new")).to_contain_text("for 12 min")
    clock = [time.strftime("%H:%M", time.localtime(now - ago)) for ago in (725, 130)]
    words = f"failing for 12 min, since {clock[0]} (on 2 nodes), on worker-02 since {clock[1]}"
    await expect(page.get_by_text(words, exact=False).first).to_be_visible()
    await expect(page.get_by_role("region", name="Needs attention")).to_contain_text(f"since {clock[0]} (on 2 nodes)")
