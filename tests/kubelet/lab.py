"""Actions for scenarios, and functions that compare Pulltrace's reports with the kubelet's log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Self

import aiohttp

from tests.kubelet.truth import Event, KubeletLog, Pulls
from tests.patience import PATIENCE
from tests.real.images import Layer, make_layer
from tests.real.observed import Observed
from tests.real.registry import Served

LOOKS_EVERY = 0.2
SHOWN_WITHIN = 1.5
END_SHOWN_WITHIN = 5.0
"""Maximum delay, in seconds, before Pulltrace shows that a pull has ended. It is shorter than the agent's heartbeat
interval (10 s).
"""
SAME_DURATION = 0.3
SYNC = (10.0, 15.0)
"""The minimum and maximum time, in seconds, between a failed sync and the next one. On a busy machine, syncs are
delayed.
"""
RETRY_WITHIN = 10.0
JUST_FAILED = 5.0
"""A test may delete a pod only within this many seconds after a failed pull. The kubelet waits at least ten seconds
before it retries.
"""
ONE_SYNC_WRONG = 18.5
"""Maximum error of an estimate, in seconds: one kubelet sync interval (10 to 15 s) in either direction."""

Row = dict[str, Any]
Changes = list[tuple[float, str]]
"""Pairs of a time and the event or state at that time."""


@dataclass(frozen=True, slots=True)
class Look:
    """The rows and pods that Pulltrace's API returned in a single poll."""

    at: float
    pulls: list[Row]
    pods: list[dict[str, Any]]

    def rows(self, ref: str) -> list[Row]:
        """Return all rows of an image in this poll."""
        return [pull for pull in self.pulls if pull["imageRef"] == ref]

    def states(self, pod: str) -> dict[str, str]:
        """Return the state of each container in a waiting pod. ``pod`` may be a prefix of the pod's name."""
        waiting = [one for one in self.pods if one["podName"].startswith(pod)]
        return {each["container"]: each["state"] for one in waiting for each in one["containers"]}


class Lab:
    """A running cluster, as an async context manager that polls Pulltrace's API continuously."""

    def __init__(self, observed: Observed) -> None:
        self.observed = observed
        self.cluster = observed.cluster
        self.registry = observed.cluster.registry
        self.kubelet = KubeletLog(self.cluster.kubelet_log)
        self.looks: list[Look] = []
        self.statuses: dict[tuple[str, str], Changes] = {}
        """All states that each container has had according to the API server, keyed by pod name and container name."""
        self.images: dict[str, int] = {}
        """The number of bytes to be fetched for each pushed image, keyed by image reference."""
        self._layers: dict[str, tuple[Layer, ...]] = {}
        self.overlapping: set[str] = set()
        """Images that many pods request within a few seconds of each other. Several of these requests may share a row
        (docs/limitations.md).
        """

    async def __aenter__(self) -> Self:
        await self._look()
        self._looking = asyncio.create_task(self._keep_looking())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._looking.cancel()
        with suppress(asyncio.CancelledError):
            await self._looking

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOKS_EVERY)
            with suppress(aiohttp.ClientError, TimeoutError):
                await self._look()

    async def _look(self) -> None:
        api = self.observed.api
        pulls, pods = await api.pulls("?layers=false"), (await api.get("/api/v1/pods"))["pods"]
        self.looks.append(Look(time.time(), pulls, pods))
        for pod in (await self.cluster.api.request("GET", "/api/v1/namespaces/default/pods"))["items"]:
            for status in pod["status"].get("containerStatuses", []):
                note(self.statuses.setdefault((pod["metadata"]["name"], status["name"]), []), time.time(), status)

    def push(self, name: str, size: int, *, rate: float | None = None, layers: int = 1) -> str:
        """Serve a new image of about ``size`` bytes at no more than ``rate`` bytes per second. Return the image's
        reference.
        """
        return self.push_layers(name, *(make_layer(size // layers) for _ in range(layers)), rate=rate)

    def push_layers(self, name: str, *layers: Layer, rate: float | None = None) -> str:
        """Serve an image with the given layers at no more than ``rate`` bytes per second. Return its reference."""
        ref = self.cluster.push(name, *layers)
        for layer in layers:
            self.registry.blob(layer.digest).limit(rate / len(layers) if rate else None)
        self.images[ref] = sum(layer.size for layer in layers)
        self._layers[ref] = layers
        return ref

    def hold(self, *refs: str, at: int = 0) -> None:
        """Stop sending each layer of these images at the given offset. The pulls cannot end until ``release`` is
        called, no matter how slow the machine is.
        """
        for layer in self._held(refs):
            layer.hold(at)

    def release(self, *refs: str) -> None:
        """Send the rest of the layers that ``hold`` stopped."""
        for layer in self._held(refs):
            layer.release()

    def _held(self, refs: tuple[str, ...]) -> list[Served]:
        return [self.registry.blob(layer.digest) for ref in refs for layer in self._layers[ref]]

    def size(self, ref: str) -> int:
        """Return the total size of a pushed image's layers, including the base layer, which is already on the node."""
        return self.images[ref] + self.cluster.program.size

    async def create(self, *manifests: dict[str, Any]) -> None:
        """Create the objects that the given manifests describe."""
        for manifest in manifests:
            await self.cluster.create(manifest)

    async def delete_failing(self, manifest: dict[str, Any], image: str) -> None:
        """Delete a pod just after a failed pull of this image, because a retry that fails while the pod is being
        deleted is not counted (docs/limitations.md).
        """
        name = manifest["metadata"]["name"]

        def has_just_failed() -> bool:
            last = self.kubelet.events(pod=name, reason="Failed", image=image)[-1:]
            return bool(last) and SHOWN_WITHIN < time.time() - last[0].at < JUST_FAILED

        await self.until(has_just_failed)
        await self.cluster.delete(manifest)

    async def until(self, true: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """Wait until the function returns a true value, and return this value."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (found := true()):  # noqa: ASYNC110 (neither the log nor the API has an event to wait for)
                    await asyncio.sleep(0.1)
                return found
        raise AssertionError(f"the condition did not hold within {seconds:.0f} s; last poll: {self.looks[-1:]}")

    async def happened(
        self, pod: str, reason: str, *, image: str = "", times: int = 1, seconds: float = PATIENCE
    ) -> Event:
        """Wait until the kubelet has recorded ``times`` matching events, and return the last of them."""
        wanted = {"pod": pod, "reason": reason, "image": image}
        await self.until(lambda: len(self.kubelet.events(**wanted)) >= times, seconds)
        return self.kubelet.events(**wanted)[times - 1]

    async def counted(self, *refs: str) -> None:
        """Wait until each pull of these images has been logged and counted exactly once. By default, all images except
        those in ``overlapping`` are checked. A failure is logged only when its cause is known.
        """
        images = refs or tuple(self.kubelet.images() - self.overlapping)

        def differences() -> dict[str, tuple[Pulls, Pulls]]:
            found = {ref: (self.kubelet.pulls(ref), self._logged(ref)) for ref in images}
            return {ref: counts for ref, counts in found.items() if counts[0] != counts[1]}

        with suppress(AssertionError):
            await self.until(lambda: not differences(), PATIENCE)
        wrong = differences()
        lines = [line for line in self.observed.history() if line.get("image") in wrong]
        assert not wrong, f"the kubelet's pulls, and those in the log: {wrong}; {lines}"
        counters = lines = None
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while counters is None or counters != lines:
                    await asyncio.sleep(LOOKS_EVERY)
                    counters = await self.observed.counters()
                    lines = {
                        result: len(found)
                        for result in ("completed", "failed", "canceled")
                        if (found := self.observed.logged(f"pull.{result}"))
                    }
        assert counters == lines

    def _logged(self, ref: str) -> Pulls:
        """Count the log lines about an image's finished pulls, including lines written before a server restart."""
        ends = [line["msg"] for line in self.observed.history() if line.get("image") == ref]
        return Pulls(ends.count("pull.completed"), ends.count("pull.failed") + ends.count("pull.canceled"))

    async def completed(self, pod: str, ref: str, *, seconds: float = PATIENCE) -> Event:
        """Wait until the kubelet has pulled an image and Pulltrace has had time to show the pull. Return the kubelet's
        event.
        """
        await self.until(lambda: self.pulled(pod, ref), seconds)
        pulled = self.pulled(pod, ref)[0]
        await self.until(lambda: self.looks[-1].at > pulled.at + self.allowed(pulled.at), seconds)
        await self.until(lambda: self._shows_end(pulled), seconds)
        return pulled

    def _shows_end(self, pulled: Event) -> bool:
        """Return whether the last poll shows that this pull has ended. The comparison allows a tolerance, because some
        times are in whole seconds.
        """
        since = pulled.at - pulled.seconds - 1.5
        rows = self.looks[-1].rows(pulled.image)
        return any(row["status"] == "completed" and when(row["completedAt"]) > since for row in rows)

    async def shown(self, begin: float, polls: int = 5) -> None:
        """Wait until at least this many polls have run late enough to show a change made at ``begin``."""
        await self.until(lambda: len(self.between(begin, time.time())) >= polls)

    def pulled(self, pod: str, ref: str) -> list[Event]:
        """Return the kubelet events for successful pulls of an image."""
        return [event for event in self.kubelet.events(pod=pod, reason="Pulled", image=ref) if event.is_pull]

    def history(self, ref: str, *, since: float = 0) -> Iterator[tuple[Look, Row]]:
        """Yield each row of an image together with the poll that returned the row, oldest poll first."""
        return ((look, row) for look in self.looks if look.at >= since for row in look.rows(ref))

    def allowed(self, at: float) -> float:
        """Return the maximum delay, in seconds, before Pulltrace shows an event that happened at ``at``. The maximum is
        higher if polls were delayed.
        """
        return SHOWN_WITHIN + 3 * self.delay(at - 2, at + 8)

    def have_same_duration(self, row: Row, pulled: Event) -> bool:
        """Return whether a row has the duration that the kubelet logged.

        If the pull began and ended between two of the agent's polls, the row's duration is only the time between
        containerd's first and last records of the pull. On a busy machine, this time may be much shorter than the
        actual duration.
        """
        looks = self.history(pulled.image, since=pulled.at - pulled.seconds)
        observed = any(shown["status"] in ("downloading", "extracting") for _, shown in looks)
        delay = self.delay(pulled.at - pulled.seconds - 2, pulled.at + 2)
        missing = pulled.seconds - seconds(row)
        return -SAME_DURATION - delay <= missing <= (SAME_DURATION + delay if observed else pulled.seconds)

    def delay(self, begin: float, end: float) -> float:
        """Return the longest delay of a poll, in seconds, during the given period. Polls are late on a busy
        machine.
        """
        times = [look.at for look in self.looks if begin < look.at < end]
        longest = max((later - earlier for earlier, later in pairwise(times)), default=0.0)
        return max(0.0, longest - 2 * LOOKS_EVERY)

    def sync_delay(self, pod: str, begin: float, end: float) -> float:
        """Return the kubelet's longest delay, in seconds, in syncing a failing pod during the given period. Syncs are
        late on a busy machine.
        """
        syncs = [event.at for event in self.kubelet.events(pod=pod) if begin <= event.at <= end]
        longest = max((later - earlier for earlier, later in pairwise(syncs)), default=0.0)
        return max(0.0, longest - SYNC[1])

    def between(self, begin: float, end: float) -> list[Look]:
        """Return the polls between two points in time.

        The first polls are skipped because they may still show the previous state, and the last ones because they may
        already show the next state. On a busy machine, the kubelet logs events late, so more of the final polls are
        skipped.
        """
        last = end - 0.3 - self.delay(end - 8, end + 2)
        return [look for look in self.looks if begin + self.allowed(begin) < look.at < last]

    def during(self, begin: float, pulled: Event) -> list[Look]:
        """Return the polls between the given time and the end of an image's only pull.

        On a busy machine, the kubelet may log the end of a pull after the next pull has begun. Therefore, the polls end
        before the registry sends the last bytes.
        """
        return self.between(begin, max(self.registry.last_sent[layer.digest] for layer in self._layers[pulled.image]))

    def ids(self, ref: str) -> set[str]:
        """Return the ids of all rows that an image has had."""
        return {row["id"] for _, row in self.history(ref)}

    def the_row(self, ref: str) -> Row:
        """Return the image's current row, and check that the image has never had another row."""
        first_polls = {row["id"]: (look.at, row) for look, row in reversed(list(self.history(ref)))}
        assert len(first_polls) == 1, f"more than one row; the first poll of each: {first_polls}"
        [row] = self.looks[-1].rows(ref)
        return row

    def check_completed(self, pulled: Event, *, attempt: int = 1, fetched: int | None = None) -> Row:
        """Check a successful pull's row: its duration, size and attempt, and when it was first shown as completed."""
        ref = pulled.image
        row = self.the_row(ref)
        assert (row["status"], row["attempt"]) == ("completed", attempt), row
        assert self.have_same_duration(row, pulled), (seconds(row), pulled)
        assert row["downloadedBytes"] == row["totalBytes"] == (self.images[ref] if fetched is None else fetched), row
        shown = next(look.at for look, row in self.history(ref, since=pulled.at - 1) if row["status"] == "completed")
        assert shown - pulled.at <= END_SHOWN_WITHIN + 3 * self.delay(pulled.at - 2, pulled.at + 8), (
            f"shown {shown - pulled.at:.2f} s after the kubelet's event"
        )
        return row


def note(changes: Changes, at: float, status: dict[str, Any]) -> None:
    """Record a container's state if the state or its reason has changed."""
    [(state, details)] = status["state"].items()
    reason = details.get("reason", state)
    if not changes or changes[-1][1] != reason:
        changes.append((at, reason))


def seconds(row: Row) -> float:
    """Return a pull's duration according to its row."""
    return when(row["completedAt"]) - when(row["startedAt"])


def when(text: str) -> float:
    """Convert a time from the API to Unix seconds."""
    return datetime.fromisoformat(text).timestamp()
