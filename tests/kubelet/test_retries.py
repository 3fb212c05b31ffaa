"""Tests for the failures that Pulltrace shows while the kubelet makes four attempts to pull each failing image. Tests
of other scenarios run while these tests wait.
"""

import asyncio
import time

import pytest

from tests.kubelet.failing import ATTEMPTS, NOT_PULLED, PULLED, Failing
from tests.kubelet.lab import ONE_SYNC_WRONG, RETRY_WITHIN, Lab, when

pytestmark = [pytest.mark.kubelet, pytest.mark.asyncio(loop_scope="session")]
LASTS = 165.0


async def over(failing: Failing) -> None:
    """Wait long enough for the kubelet to make four attempts."""
    await asyncio.sleep(max(0.0, failing.since + LASTS - time.time()))


async def test_the_next_attempt_completes_after_a_missing_tag_is_pushed(parallel: Lab, failing: Failing) -> None:
    ref = await failing.pushed_later
    pulled = await parallel.completed("later", ref)
    tries = parallel.kubelet.events(pod="later", reason="Pulling")
    assert len(tries) == 3
    parallel.check_completed(pulled, attempt=3)
    await parallel.counted(ref)


@pytest.mark.parametrize("name", PULLED)
async def test_a_failure_is_reported_with_its_attempt_number_reason_and_next_retry(
    parallel: Lab, failing: Failing, name: str
) -> None:
    until = await failing.deleted[name]
    image = failing.images[name]
    tries = parallel.kubelet.events(pod=name, reason="Pulling")
    failures = parallel.kubelet.events(pod=name, reason="Failed", image=image.ref)
    assert len(failures) == ATTEMPTS
    assert len(parallel.ids(image.ref)) == 1
    for attempt, failed in enumerate(failures, 1):
        next_try = tries[attempt].at if attempt < ATTEMPTS else None
        rows = []
        for look in parallel.between(failed.at, next_try or until):
            [row] = look.rows(image.ref)
            late = f"{look.at - failed.at:.1f} s after failure {attempt}: {row}"
            assert (row["status"], row["attempt"], row["errorReason"]) == ("failed", attempt, image.reason), late
            earlier = [one["attempt"] for one in row.get("earlierAttempts", [])]
            assert earlier == list(range(1, attempt)), late
            # The agent's times are more precise than the kubelet's times, which are in whole seconds.
            since = failures[0].at
            delay = parallel.delay(since - 2, since + 8)
            assert abs(when(row["failingSince"]) - since) <= 2.0 + delay, late
            rows.append(row)
        if next_try and rows:
            errors = [round(when(row["nextRetryAt"]) - next_try, 1) for row in rows]
            # The kubelet retries only when it syncs the pod. The estimate is best after the last sync before the
            # retry.
            delay = parallel.sync_delay(name, failed.at, next_try)
            assert abs(errors[-1]) <= RETRY_WITHIN + delay, f"{errors[-20:]} of retry {attempt}"
            assert max(map(abs, errors)) <= ONE_SYNC_WRONG + delay, f"{sorted(set(errors))} of retry {attempt}"
    assert rows, "the last failure was shown for a while"
    await parallel.counted(image.ref)


@pytest.mark.parametrize("name", NOT_PULLED)
async def test_an_image_that_the_kubelet_refuses_to_pull_is_attempted_once_and_not_retried(
    parallel: Lab, failing: Failing, name: str
) -> None:
    await over(failing)
    assert not parallel.kubelet.events(pod=name, reason="Pulling")
    image = failing.images[name]
    rows = [row for _, row in parallel.history(image.ref)]
    assert {row["status"] for row in rows} == {"failed"}
    assert {row["attempt"] for row in rows} == {1}
    assert {row["errorReason"] for row in rows} == {image.reason}
    assert not any("nextRetryAt" in row for row in rows)
    await parallel.counted(image.ref)
