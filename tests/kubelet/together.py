"""Tests that run at the same time in the cluster `parallel`, because they mostly wait:

    @together
    async def test_an_image_volume_is_shown(lab: Lab) -> None: ...

The first of them starts all that were selected, and each test then waits for its own. Such a test looks only at its own
pods and images, and neither stops nor reconfigures anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from tests.kubelet.lab import Lab

Scenario = Callable[[Lab], Coroutine[Any, Any, None]]
Running = dict[str, asyncio.Task[None]]
"""Scenarios by the names of their tests."""


def together(scenario: Scenario) -> Callable[[Running], Awaitable[None]]:
    """Return the test that waits for a scenario."""

    async def test(running: Running) -> None:
        await running[scenario.__name__]

    test.__name__, test.__doc__ = scenario.__name__, scenario.__doc__
    test.scenario = scenario  # type: ignore[attr-defined]
    return test
