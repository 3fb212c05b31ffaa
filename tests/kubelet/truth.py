"""The kubelet's own record of its pulls: the events in its log, with times in microseconds."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

_IMAGE = re.compile(r'image (?:tag )?"([^"]+)"')
_TOOK = re.compile(r"in (\S+) \((\S+) including waiting\)(?:\. Image size: (\d+) bytes)?")
_CONTAINER = re.compile(r"\{(.*)\}")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"([\d.]+)(h|ms|m|s|µs|ns)")

REFUSALS = ("InspectFailed", "ErrImageNeverPull")
SAME_PULL = 2.0
"""If the kubelet calls PullImage for a different pod within this many seconds after a pull, the call counts as part of
that pull.
"""


@dataclass(frozen=True, slots=True)
class Event:
    """An event as the kubelet recorded it."""

    at: float
    reason: str
    pod: str
    container: str
    message: str

    @property
    def image(self) -> str:
        """The image name in the message, as written in the pod's spec."""
        found = _IMAGE.search(self.message)
        return found[1] if found else ""

    @property
    def seconds(self) -> float:
        """The duration of the pull, in seconds, excluding the time it spent in the kubelet's queue."""
        return duration(_TOOK.search(self.message)[1])  # type: ignore[index]

    @property
    def seconds_with_queue(self) -> float:
        """The duration of the pull, in seconds, including the time it spent in the kubelet's queue."""
        return duration(_TOOK.search(self.message)[2])  # type: ignore[index]

    @property
    def size(self) -> int:
        """The image's size, including manifest and configuration."""
        return int(_TOOK.search(self.message)[3])  # type: ignore[index]

    @property
    def is_pull(self) -> bool:
        """True if the event ends a pull, and false if the image was already on the node."""
        return self.reason == "Pulled" and self.message.startswith("Successfully pulled")


def duration(text: str) -> float:
    """Convert a Go duration, such as `1m2.5s`, to seconds."""
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))


@dataclass(slots=True)
class Pulls:
    """How many times the kubelet has pulled an image."""

    completed: int = 0
    failed: int = 0
    """The number of failed or cancelled pulls."""


class KubeletLog:
    """The events in a kubelet log, which is read as it grows."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._offset = 0
        self._events: list[Event] = []

    def events(self, *, pod: str = "", reason: str = "", image: str = "") -> list[Event]:
        """Return the events in the log so far, oldest first. ``pod`` is a pod's name, or a prefix of the name."""
        self._read()
        return [
            event
            for event in self._events
            if event.pod.startswith(pod) and reason in ("", event.reason) and image in ("", event.image)
        ]

    def images(self) -> set[str]:
        """Return all images that the kubelet pulled or refused to pull."""
        return {event.image for event in self.events() if event.image}

    def pulls(self, image: str) -> Pulls:
        """Count the pulls of an image.

        If other pods waited for the same pull, the kubelet's PullImage calls for them are not counted. If the kubelet
        only refused to pull the image, this counts as one failure, however often it happened.
        """
        pulls, began, present_at = Pulls(), dict[str, float](), -math.inf
        for event in self.events(image=image):
            waiting = (event.pod, event.container)
            if event.reason == "Pulling":
                pulls.failed += waiting in began  # the kubelet was restarted during the pull
                began[waiting] = event.at
            elif event.is_pull:
                repeats = began.pop(waiting, event.at) <= present_at + SAME_PULL
                pulls.completed += not repeats
                present_at = present_at if repeats else event.at
            elif event.reason == "Failed" and event.message.startswith("Failed to pull"):
                began.pop(waiting, None)
                pulls.failed += 1
        refused = any(event.reason in REFUSALS for event in self.events(image=image))
        return pulls if pulls.completed or pulls.failed else Pulls(failed=int(refused))

    def _read(self) -> None:
        with self._log.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                if b'"Event occurred"' in line and b'"kind":"Pod"' in line:
                    self._events.append(_event(json.loads(line)))


def _event(line: dict[str, object]) -> Event:
    named = line["object"]
    assert isinstance(named, dict)
    field = _CONTAINER.search(str(line.get("fieldPath", "")))
    return Event(
        at=float(str(line["ts"])) / 1000,
        reason=str(line["reason"]),
        pod=str(named["name"]),
        container=field[1] if field else "",
        message=str(line["message"]),
    )
