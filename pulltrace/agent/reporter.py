"""Posts reports to the server. The newest state wins; a pull's end is told until it is acknowledged."""

import asyncio
import logging
import random
import re
import secrets
import time
import zlib
from collections.abc import Iterable
from itertools import islice
from typing import Any, Self

import msgspec

from pulltrace import __version__
from pulltrace.agent.http_client import Answer, HttpError, Poster
from pulltrace.logs import fields
from pulltrace.settings import AgentSettings
from pulltrace.wire import MAX_PULLS, MAX_REPORT, AgentReport, NodeLoad, PullState, ReportResponse, to_time

MAX_UNTOLD = 4 << 20
"""Bytes of ends kept while the server is away; the oldest go first."""

MAX_ENDS = 2048
"""And so many ends, whose ids fit into a report beside everything else."""

MAX_RECENT = 1 << 20
"""Bytes of acknowledged ends kept, so that a restarted server gets its history back."""

_ROOM = MAX_REPORT * 7 // 16  # bytes of live pulls, and as many of ends
_MOST = MAX_PULLS // 2  # live pulls of one report, and as many ends; fewer when the server refuses it
_GZIP_FROM = 16 << 10  # bytes; below, a packet more costs less than deflating
_MAX_RETRY_AFTER = 60.0  # seconds; a longer wish is some proxy's, and the node would look lost
_MAX_TOKEN = 8192  # bytes the server would look at
_APART = 0.5  # seconds between two reports of a node, below which the server refuses the second
_MAX_DELAY = 8.0  # seconds between tries; with jitter, so that a restarted server is not met by all nodes at once

_Encoded = dict[str, bytes]
"""Pulls as JSON by their ids, the oldest first."""

_log = logging.getLogger(__name__)


class Reporter:
    """Sends one node's reports: every interval while something is going on, otherwise as a heartbeat."""

    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings
        headers = {"User-Agent": f"pulltrace/{__version__}", "Content-Type": "application/json"}
        self._poster = Poster(f"{settings.server_url}/api/v1/report", headers, settings.server_ca_file)
        self._boot_id = secrets.token_hex(8)
        self._sequence = 0
        self._live: list[PullState] = []
        self._told_live = False
        self._untold: _Encoded = {}
        self._recent: _Encoded = {}
        self._server_boot: str | None = None
        self._most = _MOST
        self._turn = 0  # the live pull with which the next report begins
        self._failures = 0
        self._why = ""
        self._wake = asyncio.Event()
        self._answer = msgspec.json.Decoder(ReportResponse)
        self.containerd_version = ""
        self.snapshotter = ""
        self.load: NodeLoad | None = None
        """How busy the node has been since the last poll; None while it is idle."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._poster.__aexit__()

    def offer(self, live: list[PullState], ended: list[PullState]) -> None:
        """The node's newest state: every live pull, and those that ended since the last offer."""
        self._live = live
        self._untold |= {pull.id: msgspec.json.encode(pull) for pull in ended}
        _cut(self._untold, MAX_UNTOLD)
        if self._busy:
            self._wake.set()

    @property
    def _busy(self) -> bool:
        return bool(self._live or self._untold or self._told_live)

    async def run(self) -> None:
        """Report for ever."""
        interval = self._settings.report_interval
        heartbeat = max(interval, self._settings.heartbeat_interval)
        while True:
            posted = time.monotonic()
            self._wake.clear()
            delay = await self._post(heartbeat)
            answered = time.monotonic()
            # The way of this report may have been longer than that of the next one will be.
            due = max(posted + delay, answered + min(interval, _APART))
            if not delay:
                # With a poll, the node wakes once for both; without one it says so all the same.
                await _first_of(self._wake, posted - answered + (2 * interval if self._busy else heartbeat))
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _post(self, heartbeat: float) -> float:
        """Send one report. Returns seconds to wait before the next, 0.0 when it was acknowledged."""
        told, ends, others = self._choose()
        # Ends first: they make room on the server for what began.
        pulls: list[Any] = [msgspec.Raw(pull) for pull in (*ends.values(), *told.values())]
        self._sequence += 1
        report = AgentReport(
            node_name=self._settings.node_name,
            timestamp=to_time(time.time()),
            pulls=pulls or None,
            others=others or None,
            agent_version=__version__,
            containerd_version=self.containerd_version,
            snapshotter=self.snapshotter,
            boot_id=self._boot_id,
            sequence=self._sequence,
            heartbeat_seconds=heartbeat,
            load=self.load,
        )
        try:
            answer = await self._send(msgspec.json.encode(report), self._authorization())
        except HttpError as error:
            return self._failed(error.kind, str(error))
        except (OSError, UnicodeError) as error:
            return self._failed("token", f"PULLTRACE_AGENT_TOKEN_FILE: {error}")
        if answer.status in (400, 413):
            self._refused(told, ends)
        if answer.status != 200:
            wait = answer.headers.get("retry-after", "")
            retry_after = min(float(wait), _MAX_RETRY_AFTER) if wait.isdecimal() else 0.0
            why = answer.body[:300].decode(errors="replace").strip()
            return self._failed(f"HTTP {answer.status}", why, retry_after)
        self._told_live = bool(told)
        self._turn = self._turn + len(told) if others else 0
        self._acknowledged(ends, answer.body)
        return 0.0

    def _choose(self) -> tuple[_Encoded, _Encoded, list[str]]:
        """Live pulls, ends, and the ids of what has to wait: the server closes pulls that are not told any more."""
        live = self._live[:MAX_PULLS]
        turn = self._turn % len(live) if live else 0
        live = live[turn:] + live[:turn]
        told = _fit(((pull.id, msgspec.json.encode(pull)) for pull in live), self._most)
        ends = _fit(self._untold.items(), max(self._most, 1))
        others = [pull.id for pull in live[len(told) :]]
        others += [name for name in self._untold if name not in ends]
        return told, ends, others

    async def _send(self, body: bytes, headers: dict[str, str]) -> Answer:
        if len(body) < _GZIP_FROM:
            return await self._poster.post(body, headers)
        headers = headers | {"Content-Encoding": "gzip"}
        return await self._poster.post(zlib.compress(body, level=1, wbits=31), headers)

    def _authorization(self) -> dict[str, str]:
        """The token. A file is read each time: the kubelet puts a new one there before the old one expires."""
        token = self._settings.agent_token
        if self._settings.agent_token_file:
            with open(self._settings.agent_token_file, encoding="ascii") as file:  # noqa: PTH123  # pathlib costs 1 MiB
                token = file.read(_MAX_TOKEN).strip()
            if not re.fullmatch(r"[\x21-\x7e]*", token):  # h11 would tell it, and we would log that
                raise UnicodeError("is not one word of printable ASCII")
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _acknowledged(self, ends: _Encoded, body: bytes) -> None:
        if self._failures:
            _log.info("server answers again", extra=fields(url=self._settings.server_url))
        self._failures, self._why = 0, ""
        self._most = min(2 * self._most + 1, _MOST)
        self._forget(ends)
        try:
            boot = self._answer.decode(body).boot_id
        except msgspec.DecodeError:
            boot = ""  # the original's server, which keeps no promise about history
        if self._server_boot is not None and boot != self._server_boot:
            self._untold = self._recent | self._untold
            _cut(self._untold, MAX_UNTOLD)
            self._recent = {}
        self._server_boot = boot
        self._recent |= ends
        _cut(self._recent, MAX_RECENT)

    def _refused(self, told: _Encoded, ends: _Encoded) -> None:
        """The same would be refused for ever: less the next time, and in the end without the one end that it is."""
        self._most = max(len(told), len(ends)) // 2
        self._turn += len(told) == 1
        if not told and len(ends) == 1:
            self._forget(ends)

    def _forget(self, ends: _Encoded) -> None:
        self._untold = {name: end for name, end in self._untold.items() if ends.get(name) is not end}

    def _failed(self, kind: str, why: str, retry_after: float = 0.0) -> float:
        self._failures += 1
        if kind != self._why:
            self._why = kind
            error = f"{kind}: {why}".rstrip(": ")
            _log.warning("report not accepted", extra=fields(url=self._settings.server_url, error=error))
        delay = min(_MAX_DELAY, 0.5 * 2.0 ** min(self._failures, 8))
        return max(retry_after, delay * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, not a secret


def _fit(pulls: Iterable[tuple[str, bytes]], most: int) -> _Encoded:
    """The first of them, as many as may be and there is room for; one that is too large for it goes alone."""
    fitting: _Encoded = {}
    room = _ROOM
    for name, pull in islice(pulls, most):
        room -= len(pull)
        if room < 0 and fitting:
            break
        fitting[name] = pull
    return fitting


def _cut(ends: _Encoded, room: int) -> None:
    """Let the oldest go until the others fit."""
    size = sum(map(len, ends.values()))
    while size > room or len(ends) > MAX_ENDS:
        size -= len(ends.pop(next(iter(ends))))


async def _first_of(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        pass
