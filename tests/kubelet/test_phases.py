"""Compare the start-up phases of twenty pods with the kubelet's own log.

Only ``make phases`` runs this comparison, which must be accurate to one second and therefore needs an idle machine.
"""

import asyncio
import json
import time
from itertools import pairwise
from typing import Any

import pytest

from tests.kubelet.lab import Lab
from tests.real.images import MIB
from tests.real.manifests import container, deployment, pod

pytestmark = [pytest.mark.kubelet, pytest.mark.asyncio(loop_scope="session")]
WITHIN = 1.0


def accepted(lab: Lab) -> dict[str, float]:
    """Return the time at which the kubelet accepted each pod."""
    times: dict[str, float] = {}
    for line in lab.cluster.kubelet_log.read_text().splitlines():
        if '"SyncLoop ADD"' in line:
            found = json.loads(line)
            for name in found["pods"]:
                times.setdefault(name if isinstance(name, str) else name["name"], float(found["ts"]) / 1000)
    return times


async def test_each_phase_of_twenty_pods_matches_the_kubelet_log_to_within_a_second(serial: Lab) -> None:
    refs = [serial.push(f"team/phase{number}:1", (1 + number) * MIB, rate=2 * MIB) for number in range(5)]
    for number, ref in enumerate(refs[:4]):
        await serial.create(deployment(f"phase{number}", ref, 4))
    init = container("i0", refs[0], args=["2s"])
    await serial.create(
        *(pod(f"phase-two{number}", refs[number], refs[4]) for number in range(2)),
        *(pod(f"phase-init{number}", refs[4], initContainers=[init]) for number in range(2)),
    )
    await serial.until(lambda: len(serial.kubelet.events(pod="phase", reason="Started")) == 16 + 2 * 2 + 2 * 2, 150)
    shown: dict[str, dict[str, Any]] = {}
    async with asyncio.timeout(30):
        while len(shown) < 20:
            await asyncio.sleep(0.2)
            started = (await serial.observed.api.get("/api/v1/pods"))["started"]
            shown = {one["podName"]: one for one in started if one["podName"].startswith("phase")}
    added = accepted(serial)
    wrong = {}
    for name, one in shown.items():
        truth = kubelets_phases(serial, name, added[name])
        phases = {phase["phase"]: phase["seconds"] for phase in one["phases"]}
        phases["pulling"] = phases.get("pulling", 0.0) + phases.pop("unpacking", 0.0)
        for phase in truth.keys() | phases.keys():
            if abs(truth.get(phase, 0.0) - phases.get(phase, 0.0)) > WITHIN + serial.delay(added[name], time.time()):
                wrong[name, phase] = truth.get(phase, 0.0), phases.get(phase, 0.0)
    assert not wrong, f"seconds according to the kubelet and to Pulltrace: {wrong}"
    await serial.counted(*refs)


def kubelets_phases(lab: Lab, name: str, added_at: float) -> dict[str, float]:
    """Return the duration of each phase, in seconds, according to the kubelet.

    ``pulling`` includes unpacking, because the kubelet does not log when unpacking starts. It also includes any time
    that the pod spends waiting for a different pod's pull of the same image.
    """
    events = lab.kubelet.events(pod=name)
    pulls = [event for event in events if event.is_pull]
    waits = [(event.image, event.at - event.seconds_with_queue, event.at) for event in pulls]
    pulling = [
        (max(begin, other.at - other.seconds), min(end, other.at))
        for image, begin, end in waits
        for other in lab.kubelet.events(reason="Pulled", image=image)
        if other.is_pull
    ]
    queued = [(begin, end) for _, begin, end in waits]
    requested = min(event.at for event in events if event.reason in ("Pulling", "Pulled"))
    runs = [event.at for event in events if event.reason == "Started"]

    def phase(at: float) -> str:
        if any(begin <= at < end for begin, end in pulling):
            return "pulling"
        if any(begin <= at < end for begin, end in queued):
            return "queued"
        if at < requested:
            return "scheduled"
        return "created" if at < runs[0] else "started"

    spans = [(begin, end) for begin, end in (*pulling, *queued) if begin < end]
    edges = sorted({added_at, requested, runs[0], runs[-1], *(at for span in spans for at in span)})
    seconds: dict[str, float] = {}
    for begin, end in pairwise(edges):
        name = phase(begin)
        seconds[name] = seconds.get(name, 0.0) + end - begin
    return seconds
