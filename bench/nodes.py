"""Simulated agents whose pulls progress, complete or fail. Thousands of simulated agents can run in one process.

A report is assembled from one ``bytes`` template per pull. The ``%`` operator inserts the current values into the
template. The values are padded to a constant length with spaces, which JSON allows. The ``mediaType`` field is
reused to carry the time, in microseconds, at which the report was sent. The server passes this field on, so clients can
calculate how long the report took to reach them.
"""

import random
import time
from datetime import UTC, datetime

MIB = 1 << 20
STAMP = b"sent/"
"""In each report, this prefix comes before the time at which the report was sent. The time is in microseconds and has
sixteen digits.
"""
FAILS = 0.05
"""The fraction of pulls that fail."""
UNPACKED_AFTER = 0.3
"""How far unpacking lags behind downloading, as a fraction of the layer's size."""

_LAYER = (
    b'{"digest":"sha256:%064x","mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","totalBytes":%d,'
    b'"totalKnown":true,"startedAt":"%s","downloadedBytes":%%12d,"state":%%-13b}'
)
_PULL = (
    b'{"id":"%d-%x","imageRef":"%s","registry":"%s","repository":"%s","manifestDigest":"sha256:%064x","startedAt":"%s",'
    b'"totalKnown":true,"mediaType":"sent/%%016d","status":%%-13b%%b,"layers":[%s]}'
)
_REPORT = (
    b"POST /api/v1/report HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    b'{"nodeName":"%s","bootId":"%s-1","sequence":%10d,"timestamp":"%s","agentVersion":"0.2.0",'
    b'"containerdVersion":"2.1.4","snapshotter":"overlayfs","heartbeatSeconds":10,"pulls":%s}'
)
_HEAD = len(_REPORT[_REPORT.index(b"{") :] % (b"", b"", 0, b"2026-01-01T00:00:00.000Z", b""))


class SimulatedPull:
    """A pull that downloads its layers one by one at a steady rate, so a single number describes its progress."""

    def __init__(self, rng: random.Random, now: float, seconds: float) -> None:
        registry, team = rng.choice((b"docker.io", b"ghcr.io", b"quay.io")), rng.randrange(40)
        repository = b"team-%d/service-%d" % (team, rng.randrange(8))
        self.began = now
        started = _time(now)
        sizes = [rng.randrange(1, 80) * MIB for _ in range(rng.randint(8, 12))]
        layers = b",".join(_LAYER % (rng.getrandbits(256), size, started) for size in sizes)
        reference = b"%s/%s:1.%d" % (registry, repository, rng.randrange(100))
        digest = rng.getrandbits(256)
        names = (registry, repository, digest, started)
        self._template = _PULL % (int(now * 1e9), rng.getrandbits(32), reference, *names, layers)
        self._sizes = sizes
        self._rate = sum(sizes) * (1 + UNPACKED_AFTER) / seconds
        self._fails_at = now + seconds * rng.random() if rng.random() < FAILS else None
        self.ended = False

    def json(self, now: float) -> bytes:
        """Return the pull's JSON for the next report. The last report states how the pull ended."""
        left = (now - self.began) * self._rate
        values: list[object] = []
        downloading = False
        for size in self._sizes:
            here = max(min(int(left), size), 0)
            values.append(here - here % MIB if here < size else size)
            if left >= size * (1 + UNPACKED_AFTER):
                values.append(b'"extracted"')
            elif here == size:
                values.append(b'"extracting"')
            else:
                values.append(b'"downloading"' if here else b'"waiting"')
                downloading = True
            left -= size
        failed = self._fails_at is not None and now >= self._fails_at
        self.ended = failed or all(state == b'"extracted"' for state in values[1::2])
        status, more = (b'"downloading"' if downloading else b'"extracting"'), b""
        if self.ended:
            status, more = (b'"failed"' if failed else b'"completed"'), b',"completedAt":"%s"' % _time(now)
            more += b',"errorReason":"network"' if failed else b""
        return self._template % (time.time_ns() // 1000, status, more, *values)


class SimulatedNode:
    """One node's simulated agent. The node always runs ``images`` concurrent pulls. If ``images`` is 0, the node is
    idle.
    """

    def __init__(self, number: int, images: int, rng: random.Random, pull_seconds: float) -> None:
        self.name = b"node-%05d.bench" % number
        self.images = images
        self._rng = rng
        self._pull_seconds = pull_seconds
        self._sequence = 0
        self._pulls: list[SimulatedPull] = []

    def request(self) -> bytes:
        """Return the agent's next report as a complete HTTP request."""
        now = time.time()
        self._pulls = [pull for pull in self._pulls if not pull.ended]
        while len(self._pulls) < self.images:
            seconds = self._pull_seconds * self._rng.uniform(0.5, 1.5)
            # Each node starts with pulls that are already under way, so the pulls of different nodes end at different
            # times.
            began = now if self._sequence else now - seconds * self._rng.random() * 0.9
            self._pulls.append(SimulatedPull(self._rng, began, seconds))
        self._sequence += 1
        pulls = b"[" + b",".join([pull.json(now) for pull in self._pulls]) + b"]" if self.images else b"null"
        length = _HEAD + 2 * len(self.name) + len(pulls)
        return _REPORT % (length, self.name, self.name, self._sequence, _time(now), pulls)


def _time(seconds: float) -> bytes:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()
