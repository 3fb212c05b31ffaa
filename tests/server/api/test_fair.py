"""Unit tests for ``FairShare`` and ``FairQueue``."""

import asyncio

import pytest

from pulltrace.server.api.fair_queue import BusyError, FairQueue
from pulltrace.server.api.fair_share import FairShare, address_of


def test_a_single_address_gets_at_most_half_the_slots_and_the_other_addresses_share_the_rest() -> None:
    share = FairShare(8, 2)
    assert [share.take("a") for _ in range(6)] == [True] * 4 + [False] * 2
    assert [share.take("b") for _ in range(3)] == [True, True, False]
    assert [share.take("c") for _ in range(3)] == [True, True, False], "all slots are taken"
    share.release("a")
    assert share.take("d")
    assert share.count == 8


def test_a_client_can_take_several_slots_at_the_same_time() -> None:
    share = FairShare(100, 10)
    assert share.take("a", 50)
    assert not share.take("a", 1)
    assert share.take("b", 10)
    share.release("a", 50)
    assert share.take("b", 30)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_clients_are_counted_by_their_ipv4_address_or_ipv6_network(host: str, address: str) -> None:
    assert address_of(host) == address


async def test_a_freed_slot_goes_to_the_next_address_in_turn() -> None:
    queue, order = FairQueue(1, FairShare(100, 100), 60), []
    await queue.acquire("")

    async def wait(address: str) -> None:
        await queue.acquire(address)
        order.append(address)
        queue.release()

    async with asyncio.TaskGroup() as group:
        for address in ("flood", "flood", "flood", "agent", "other"):
            group.create_task(wait(address))
        await asyncio.sleep(0)
        queue.release()
    assert order == ["flood", "agent", "other", "flood", "flood"]


async def test_a_request_is_rejected_if_the_queue_is_full_or_the_wait_times_out() -> None:
    queue = FairQueue(1, FairShare(2, 1), 0.05)
    await queue.acquire("a")
    waiting = asyncio.create_task(queue.acquire("a"))
    await asyncio.sleep(0)
    with pytest.raises(BusyError, match="full"):
        await queue.acquire("a")
    with pytest.raises(BusyError, match="in time"):
        await waiting
    queue.release()
    await queue.acquire("a")


async def test_a_request_that_is_cancelled_while_it_waits_does_not_take_a_slot() -> None:
    queue = FairQueue(1, FairShare(9, 9), 60)
    await queue.acquire("a")
    waiting = asyncio.create_task(queue.acquire("a"))
    await asyncio.sleep(0)
    queue.release()  # a slot becomes free just as the waiter is cancelled
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await queue.acquire("a")
