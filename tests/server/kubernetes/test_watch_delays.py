"""Tests for the delays between lists and between watches, with a fake API."""

import asyncio
import time

import pytest

from pulltrace.server.kubernetes import watch
from pulltrace.server.kubernetes.api import GoneError, Page, Watched
from pulltrace.server.kubernetes.watch import Watches
from tests.patience import PATIENCE


async def test_the_delay_between_lists_increases_if_every_watch_is_rejected_as_too_old(monkeypatch):
    monkeypatch.setattr(watch, "FIRST_DELAY", 0.2)
    monkeypatch.setattr(watch, "LONGEST_DELAY", 5.0)
    listed, enough = [], asyncio.Event()

    class Api:
        async def pages(self, resource, namespace):
            listed.append(time.monotonic())
            if len(listed) == 4:
                enough.set()
            yield Page([], "1")

        async def changes(self, resource, namespace, version):
            raise GoneError("too old")
            yield []

        async def close(self):
            pass

    task = asyncio.create_task(Watches(Api(), None, lambda change: None)._follows[0].run())
    async with asyncio.timeout(PATIENCE):
        await enough.wait()
    task.cancel()
    assert listed[3] - listed[2] > 0.5  # the delay has doubled three times; jitter shortens the delay by at most half


async def test_the_event_watch_delays_readiness_only_briefly_even_if_pods_are_never_listed(monkeypatch):
    monkeypatch.setattr(watch, "GRACE", 0.01)
    events = Watches(None, None, lambda change: None)._follows[1]  # pods are never listed in this test
    task = asyncio.create_task(events.run())
    async with asyncio.timeout(PATIENCE):
        await events.settled.wait()
    task.cancel()


async def test_the_delay_increases_after_each_short_watch_even_if_the_watch_delivered_changes(monkeypatch):
    slept = []

    class Api:
        async def pages(self, resource, namespace):
            yield Page([], "1")

        async def changes(self, resource, namespace, version):
            yield []
            yield [Watched("BOOKMARK", None, "2")]

        async def close(self):
            pass

    async def sleep(seconds):
        if seconds:
            slept.append(seconds)
        if len(slept) == 12:
            raise asyncio.CancelledError

    monkeypatch.setattr(watch, "FIRST_DELAY", 0.5)
    monkeypatch.setattr(watch, "LONGEST_DELAY", 8.0)
    monkeypatch.setattr(watch.asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await Watches(Api(), None, lambda change: None)._follows[0].run()
    assert min(slept) >= 0.5
    assert min(slept[5:]) >= 4.0
