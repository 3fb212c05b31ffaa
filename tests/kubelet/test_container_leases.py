"""Pulltrace does not show rows for the leases of sandboxes and containers, although they resemble those of pulls."""

import pytest

from pulltrace.wire import UNKNOWN_IMAGE
from tests.kubelet.lab import Lab, when
from tests.kubelet.truth import Event
from tests.real.manifests import pod

pytestmark = [pytest.mark.kubelet, pytest.mark.asyncio(loop_scope="session")]
PODS = 40


@pytest.mark.parametrize("policy", ["IfNotPresent", "Always"])
async def test_starting_many_pods_with_cached_images_adds_rows_only_for_actual_pulls(lab: Lab, policy: str) -> None:
    kind = policy.lower()
    refs = [lab.push(f"team/leases-{kind}{number}:1", 200_000) for number in range(4)]
    if policy == "Always":
        lab.overlapping.update(refs)
    for number, ref in enumerate(refs):
        await lab.create(pod(f"leases-{kind}-first{number}", ref))
        await lab.completed(f"leases-{kind}-first{number}", ref)
    began = lab.looks[-1].at
    pods = [pod(f"leases-{kind}{number}", refs[number % 4], policy=policy) for number in range(PODS)]
    await lab.create(*pods)
    await lab.happened(f"leases-{kind}", "Started", times=PODS + 4, seconds=600)
    end = lab.looks[-1].at + 8
    await lab.until(lambda: lab.looks[-1].at > end)
    for look in lab.between(began, end):
        unknown = [row for row in look.pulls if row["imageRef"] == UNKNOWN_IMAGE]
        assert not unknown, unknown
    for ref in refs:
        rows = {row["id"]: row for _, row in lab.history(ref)}
        states = [(look.at, row) for look, row in lab.history(ref)]
        assert not [state for state in states if state[1]["status"] == "failed" or state[1]["attempt"] != 1]
        pulled = [event for event in lab.kubelet.events(reason="Pulled", image=ref) if event.is_pull]
        assert not [row for row in rows.values() if not is_during(lab, when(row["startedAt"]), pulled)]
        assert len(rows) <= len(pulled), f"{list(rows.values())}; {pulled}"
    if policy == "IfNotPresent":
        await lab.counted(*refs)
    for one in pods:
        await lab.cluster.delete(one)


def is_during(lab: Lab, at: float, pulled: list[Event]) -> bool:
    """Return whether the kubelet was pulling at the given time, allowing for late log lines on a busy machine."""
    delay = lab.delay(at - 10, at + 10)
    return any(event.at - event.seconds_with_queue - 2 - delay <= at <= event.at + 1 + delay for event in pulled)
