"""Post reports to the server.

Only the newest state of a live pull matters, so older states are never sent again. The final state of a finished pull
is sent again until the server has acknowledged it.
"""

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
from pulltrace.agent.http_client import HttpError, Poster, Response
from pulltrace.agent.registry_hosts import RegistryHosts
from pulltrace.logs import fields
from pulltrace.settings import AgentSettings
from pulltrace.wire import MAX_PULLS, MAX_REPORT, AgentReport, NodeLoad, PullState, ReportResponse, to_time

MAX_UNACKNOWLEDGED = 4 << 20
"""Maximum total size, in bytes, of the finished pulls kept while the server is unreachable; the oldest are dropped
first.
"""

MAX_ENDS = 2048
"""Maximum number of finished pulls to keep. A single report must have room for the ids of all kept pulls in addition to
its other content.
"""

MAX_RECENT = 1 << 20
"""Maximum total size, in bytes, of the finished pulls kept after the server has acknowledged them. A restarted server
restores its history from these pulls.
"""

_ROOM = MAX_REPORT * 7 // 16  # maximum bytes per report for live pulls, and the same again for finished pulls
_MOST = MAX_PULLS // 2  # maximum number of live or finished pulls per report; lowered after a rejection
_GZIP_FROM = 16 << 10  # bytes; compressing a smaller report costs more than it saves
_MAX_RETRY_AFTER = 60.0  # maximum seconds; if an agent waited longer because of a proxy, its node would count as lost
_MAX_TOKEN = 8192  # maximum bytes; the server rejects longer tokens
_SPACING = 0.5  # minimum seconds between the response to one report and the next report
_MAX_DELAY = 8.0  # maximum seconds between attempts; jitter keeps nodes from contacting a restarted server all at once
_MAX_LOGGED = 300  # maximum number of characters of a response to log
_SECRET = 8  # this many consecutive characters of the token must never appear in a log

_Encoded = dict[str, bytes]
"""Pulls encoded as JSON and keyed by id. The oldest pull comes first."""

_log = logging.getLogger(__name__)


class Reporter:
    """Sends one node's reports: one report per interval while images are being pulled, and heartbeats otherwise."""

    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings
        headers = {"User-Agent": f"pulltrace/{__version__}", "Content-Type": "application/json"}
        self._hosts = RegistryHosts(settings.registry_hosts_dir)
        self._poster = Poster(f"{settings.server_url}/api/v1/report", headers, settings.server_ca_file)
        self._boot_id = secrets.token_hex(8)
        self._sequence = 0
        self._live: list[PullState] = []
        self._encoded: dict[str, tuple[PullState, bytes]] = {}
        self._has_reported_live = False
        self._unacknowledged: _Encoded = {}
        self._recent: _Encoded = {}
        self._server_boot: str | None = None
        self._most = _MOST
        self._turn = 0  # the index of the first live pull in the next report
        self._failures = 0
        self._failure = ""  # kind of the last failure; repeated failures of the same kind are logged once
        self._token = ""
        self._wake = asyncio.Event()
        self._decoder = msgspec.json.Decoder(ReportResponse)
        self.containerd_version = ""
        self.snapshotter = ""
        self.load: NodeLoad | None = None
        """The node's load since the last poll; None if nothing was being pulled."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._poster.__aexit__()

    def offer(self, live: list[PullState], ended: list[PullState]) -> None:
        """Accept the node's newest state: every live pull, and the pulls that have ended since the last call."""
        live, ended = self._hosts.complete(live), self._hosts.complete(ended)
        self._live = live
        self._unacknowledged |= {pull.id: msgspec.json.encode(pull) for pull in ended}
        _drop_oldest(self._unacknowledged, MAX_UNACKNOWLEDGED)
        if self._busy:
            self._wake.set()

    @property
    def _busy(self) -> bool:
        """Return whether there is anything to report besides a heartbeat."""
        return bool(self._live or self._unacknowledged or self._has_reported_live)

    # When a report is sent:
    #
    # 1. A report is sent right after a poll that found something to report, so polling and reporting wake the node only
    #    once. If there is something to report but no poll ends within two intervals, the report is sent without waiting
    #    for a poll.
    # 2. If there is nothing to report for a heartbeat interval, a heartbeat is sent.
    # 3. The time between the response to a report and the next report is at least half a second, or one interval if
    #    that is shorter. The server rejects reports that arrive too close together, and network delays can shorten the
    #    gap between two reports.
    # 4. After a failure, the next report is delayed. The delay grows with each failure, and is at least as long as the
    #    server's Retry-After, which is capped at a minute.

    async def run(self) -> None:
        """Report until cancelled."""
        interval = self._settings.report_interval
        heartbeat = max(interval, self._settings.heartbeat_interval)
        while True:
            posted = time.monotonic()
            self._wake.clear()
            delay = await self._post(heartbeat)
            responded = time.monotonic()
            not_before = max(posted + delay, responded + min(interval, _SPACING))
            if not delay:
                longest = 2 * interval if self._busy else heartbeat
                await self._woken(posted + longest - responded)
            if (wait := not_before - time.monotonic()) > 0:
                await asyncio.sleep(wait)

    async def _woken(self, longest: float) -> None:
        """Wait until a poll has something to report, or until ``longest`` seconds have passed."""
        timer = asyncio.get_running_loop().call_later(longest, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    async def _post(self, heartbeat: float) -> float:
        """Send one report. Return the number of seconds to wait before the next report; 0.0 if the server acknowledged
        this one.
        """
        live, ends, others = self._choose()
        # Finished pulls are listed first, because they free up room on the server for new pulls.
        pulls: list[Any] = [msgspec.Raw(pull) for pull in (*ends.values(), *live.values())]
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
            response = await self._send(msgspec.json.encode(report), self._authorization())
        except HttpError as error:
            return self._failed(error.kind, str(error))
        except (OSError, UnicodeError) as error:
            return self._failed("token", f"PULLTRACE_AGENT_TOKEN_FILE: {error}")
        if response.status in (400, 413):
            self._shrink(live, ends)
        if response.status != 200:
            wait = response.headers.get("retry-after", "")
            retry_after = min(float(wait), _MAX_RETRY_AFTER) if wait.isdecimal() else 0.0
            return self._failed(f"HTTP {response.status}", response.body.decode(errors="replace"), retry_after)
        self._has_reported_live = bool(live)
        self._turn = self._turn + len(live) if others else 0
        self._acknowledge(ends, response.body)
        return 0.0

    def _choose(self) -> tuple[_Encoded, _Encoded, list[str]]:
        """Return the live and the finished pulls for the next report, and the ids of the pulls that must wait for a
        later one.

        If a report does not contain the id of a live pull, the server treats the pull as ended.
        """
        live = self._live[:MAX_PULLS]
        turn = self._turn % len(live) if live else 0
        live = live[turn:] + live[:turn]
        self._encoded = {pull.id: known for pull in live if (known := self._encoded.get(pull.id))}
        chosen = _fit(((pull.id, self._encode(pull)) for pull in live), self._most)
        ends = _fit(self._unacknowledged.items(), max(self._most, 1))
        others = [pull.id for pull in live[len(chosen) :]]
        others += [name for name in self._unacknowledged if name not in ends]
        return chosen, ends, others

    def _encode(self, pull: PullState) -> bytes:
        """Encode a live pull. If the tracker passes the same object again, the pull has not changed, so return the
        previous encoding.
        """
        known = self._encoded.get(pull.id)
        if known is None or known[0] is not pull:
            known = self._encoded[pull.id] = pull, msgspec.json.encode(pull)
        return known[1]

    async def _send(self, body: bytes, headers: dict[str, str]) -> Response:
        if len(body) < _GZIP_FROM:
            return await self._poster.post(body, headers)
        headers = headers | {"Content-Encoding": "gzip"}
        return await self._poster.post(zlib.compress(body, level=1, wbits=31), headers)

    def _authorization(self) -> dict[str, str]:
        """Return the header that contains the token, if there is a token.

        The kubelet replaces the token file before the token expires, so the file is read for each report.
        """
        token = self._settings.agent_token or ""
        if self._settings.agent_token_file:
            with open(self._settings.agent_token_file, encoding="ascii") as file:  # noqa: PTH123  # pathlib costs 1 MiB
                token = file.read(_MAX_TOKEN).strip()
            if not re.fullmatch(r"[\x21-\x7e]*", token):  # the error message of h11 would contain the token
                raise UnicodeError("is not one word of printable ASCII")
        self._token = token
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _acknowledge(self, ends: _Encoded, body: bytes) -> None:
        if self._failures:
            _log.info("server accepts reports again", extra=fields(url=self._settings.server_url))
        self._failures, self._failure = 0, ""
        self._most = min(2 * self._most + 1, _MOST)
        self._forget(ends)
        try:
            boot = self._decoder.decode(body).boot_id
        except msgspec.DecodeError:
            boot = ""  # the server of Pulltrace v0.1.0, which does not keep a history
        if self._server_boot is not None and boot != self._server_boot:
            self._unacknowledged = self._recent | self._unacknowledged
            _drop_oldest(self._unacknowledged, MAX_UNACKNOWLEDGED)
            self._recent = {}
        self._server_boot = boot
        self._recent |= ends
        _drop_oldest(self._recent, MAX_RECENT)

    def _shrink(self, live: _Encoded, ends: _Encoded) -> None:
        """Halve the batch, because the server would only reject the same report again.

        If a live pull is rejected on its own, it is skipped. If a finished pull is rejected on its own, it is dropped.
        """
        self._most = max(len(live), len(ends)) // 2
        self._turn += len(live) == 1
        if not live and len(ends) == 1:
            self._forget(ends)

    def _forget(self, ends: _Encoded) -> None:
        self._unacknowledged = {name: end for name, end in self._unacknowledged.items() if ends.get(name) is not end}

    def _failed(self, kind: str, why: str, retry_after: float = 0.0) -> float:
        self._failures += 1
        if kind != self._failure:
            self._failure = kind
            why = redact(why, self._token)[:_MAX_LOGGED].strip()
            error = f"{kind}: {why}".rstrip(": ")
            _log.warning("report not accepted", extra=fields(url=self._settings.server_url, error=error))
        delay = min(_MAX_DELAY, 0.5 * 2.0 ** min(self._failures, 8))
        return max(retry_after, delay * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, not a secret


def redact(text: str, token: str) -> str:
    """Replace the token with asterisks, because a proxy may quote the request in its response. Any part of the token
    that has at least ``_SECRET`` characters is also replaced.
    """
    text = text[: 4 * _MAX_LOGGED]
    size = min(_SECRET, len(token))
    parts = {token[start : start + size] for start in range(len(token) - size + 1)} if token else set()
    secret = [False] * len(text)
    for start in range(len(text) - size + 1):
        if text[start : start + size] in parts:
            secret[start : start + size] = [True] * size
    return "".join("*" if hidden else character for character, hidden in zip(text, secret, strict=True))


def _fit(pulls: Iterable[tuple[str, bytes]], most: int) -> _Encoded:
    """Return as many of the first ``most`` pulls as fit into one report. If the first pull alone is too large for a
    report, return only that pull.
    """
    fitting: _Encoded = {}
    room = _ROOM
    for name, pull in islice(pulls, most):
        room -= len(pull)
        if room < 0 and fitting:
            break
        fitting[name] = pull
    return fitting


def _drop_oldest(ends: _Encoded, room: int) -> None:
    """Drop the oldest finished pulls until at most ``MAX_ENDS`` are left and they fit into ``room`` bytes."""
    size = sum(map(len, ends.values()))
    while size > room or len(ends) > MAX_ENDS:
        size -= len(ends.pop(next(iter(ends))))
