"""The leases of sandboxes and containers resemble the leases of pulls, but do not get rows."""

import pytest

from pulltrace.wire import UNKNOWN_IMAGE
from tests.kubelet.lab import Lab, when
from tests.kubelet.truth import Event
from tests.real.manifests import pod

pytestmark = [pytest.mark.kubelet, pytest.mark.asyncio(loop_scope="session")]
PODS = 40


@pytest.mark.parametrize("policy", ["IfNotPresent", "Always"])
async def test_only_pulls_have_rows_when_many_pods_with_cached_images_start(lab: Lab, policy: str) -> None:
    kind = policy.lower()
    refs = [lab.push(f"team/leases-{kind}{number}:1", 200_000) for number in range(4)]
    for number, ref in enumerate(refs):
        await lab.create(pod(f"leases-{kind}-first{number}", ref))
        await lab.completed(f"leases-{kind}-first{number}", ref)
    began = lab.looks[-1].at
    pods = [pod(f"leases-{kind}{number}", refs[number % 4], policy=policy) for number in range(PODS)]
    await lab.create(*pods)
    await lab.happened(f"leases-{kind}", "Started", times=PODS + 4, seconds=240)
    end = lab.looks[-1].at + 8
    await lab.until(lambda: lab.looks[-1].at > end)
    for look in lab.between(began, end):
        assert not [row for row in look.pulls if row["imageRef"] == UNKNOWN_IMAGE]
    for ref in refs:
        rows = {row["id"]: row for _, row in lab.history(ref)}
        assert "failed" not in {row["status"] for row in rows.values()}
        assert {row["attempt"] for row in rows.values()} == {1}
        pulled = [event for event in lab.kubelet.events(reason="Pulled", image=ref) if event.is_pull]
        assert not [row for row in rows.values() if not is_during(row_began(row), pulled)]
        assert len(rows) <= len(pulled)
    if policy == "Always":
        lab.overlapping.update(refs)
    else:
        await lab.counted(*refs)
    for one in pods:
        await lab.cluster.delete(one)


def row_began(row: dict[str, str]) -> float:
    """Return the start time of a row's pull."""
    return when(row["startedAt"])


def is_during(at: float, pulled: list[Event]) -> bool:
    """Return whether the kubelet was pulling at this time."""
    return any(event.at - event.seconds_with_queue - 2 <= at <= event.at + 1 for event in pulled)
