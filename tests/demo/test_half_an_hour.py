"""During half an hour of virtual time, Pulltrace shows only problems that actually occur in the demo."""

from collections import Counter

from pulltrace.demo.kubelet import Said
from pulltrace.demo.scenario import Crashed
from pulltrace.images import normalise, parse
from pulltrace.server.models import PullStatus
from pulltrace.wire import UNKNOWN_IMAGE, ErrorReason, PullPhase
from tests.demo.virtual_world import VirtualWorld

UNEXPLAINED = (ErrorReason.UNKNOWN, ErrorReason.CANCELED)


class HalfAnHour(VirtualWorld):
    """A demo that counts each pod's pull attempts and records when each node's kubelet or containerd last stopped."""

    def __init__(self) -> None:
        super().__init__(nodes=4)
        self.attempts: Counter[tuple[str, str]] = Counter()
        self.stopped_at: dict[str, float] = {}
        self.wrong: set[tuple[str, str]] = set()

    def take(self, happened: Said | Crashed) -> None:
        super().take(happened)
        if isinstance(happened, Crashed):
            self.stopped_at[happened.node] = self.now
        elif happened.resource == "events" and happened.object["reason"] == "Pulling" and not happened.gone:
            image = happened.object["message"].split('"')[1]
            self.attempts[happened.object["involvedObject"]["name"], normalise(image)] += 1

    def step(self) -> None:
        super().step()
        for name, kubelet in self.scenario.kubelets.items():
            if not kubelet.runs:
                self.stopped_at[name] = self.now
        for pull in self.pulls:
            if pull.status is not PullPhase.COMPLETED:
                self.wrong |= {(pull.image_ref, what) for what in self.alarms(pull)}

    def alarms(self, pull: PullStatus) -> list[str]:
        """Return a description of every error in a pull's published state."""
        return [
            what
            for what, wrong in {
                "it has no full name": not self._is_named(pull),
                "it is stalled, but its registry sends bytes": pull.stalled_since
                and not self.scenario.registries.holds,
                "its attempt is not the kubelet's": pull.pods and pull.error_reason and not self._is_attempt(pull),
                "it failed for no reason": pull.pods and pull.error_reason in UNEXPLAINED and not self._is_broken(pull),
                "nobody observes it": pull.status is PullPhase.UNOBSERVED,
            }.items()
            if wrong
        ]

    @staticmethod
    def _is_named(pull: PullStatus) -> bool:
        if pull.error_reason is ErrorReason.INVALID_REFERENCE:
            return True
        return pull.image_ref != UNKNOWN_IMAGE and parse(pull.image_ref).tag == pull.image_ref.rpartition(":")[2]

    def _is_attempt(self, pull: PullStatus) -> bool:
        attempts = [self.attempts[pod.pod_name, pull.image_ref] for pod in pull.pods or ()]
        # The attempt number of a cancelled pull can differ from that of the pod, because another pod may also have
        # requested the image.
        return max(1, *attempts) == pull.attempt or pull.error_reason in UNEXPLAINED

    def _is_broken(self, pull: PullStatus) -> bool:
        return self.now - self.stopped_at.get(pull.node_name, 0.0) < 30


def test_the_demo_causes_no_false_alarms() -> None:
    world = HalfAnHour()
    stalls = failures = 0
    for _ in range(31 * 60):
        world.step()
        stalls += any(pull.stalled_since for pull in world.pulls)
        failures += any(pull.status is PullPhase.FAILED and pull.pods for pull in world.pulls)
    assert world.wrong == set()
    assert stalls > 60
    assert failures > 600
