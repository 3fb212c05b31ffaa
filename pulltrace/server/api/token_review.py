"""Authenticate an agent by its service account token: the API server confirms which node the token is bound to.

An agent with a service account token can report only for its own node. The kubelet requests tokens that are valid for
one hour. The token's audience is Pulltrace, so the token cannot be used for the API server itself.
"""

import asyncio
import base64
import binascii
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import msgspec

from pulltrace.logs import fields
from pulltrace.server.api.auth import RefusedError, bearer_token, wrong_token
from pulltrace.server.api.fair_queue import BusyError, FairQueue
from pulltrace.server.api.fair_share import FairShare
from pulltrace.server.kubernetes.api import KubeError, Review

AUDIENCE = "pulltrace"
"""The audience of the tokens that the chart requests for the agents."""

FRESH = 300.0
"""How long, in seconds, the result of a review is reused. During this time, a revoked token may still be accepted."""
HELD = 900.0
"""How long, in seconds, the result of a review is reused while the API server is unreachable or busy."""
REFUSED_FOR = 30.0
"""Time, in seconds, after which a refused token may be reviewed again."""
PAUSE = 5.0
"""Minimum time, in seconds, between a failed review and the next review."""
MOST_AT_ONCE = 32
"""Maximum number of concurrent reviews. The limit prevents a flood of forged tokens from overloading the API server."""
MOST_WAITING, MOST_WAITING_PER_ADDRESS = 512, 64
PATIENCE = 5.0
"""Maximum time, in seconds, that a review can wait in the queue."""
KNOWN_PATIENCE = 0.5
"""Maximum time, in seconds, to wait for a new review of a known token. If the new review takes longer, the previous one
is used.
"""
MOST_ADMITTED, MOST_REFUSED = 20_000, 1_000

_JWT = re.compile(rb"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_NODE_CLAIM = "authentication.kubernetes.io/node-name"
"""Since version 1.30, Kubernetes binds a pod's tokens to the pod's node (KEP-4193)."""

_log = logging.getLogger(__name__)


class Reviewer(Protocol):
    """The only method of the API client that this module uses."""

    async def review(self, token: str, audience: str) -> Review:
        """Return the API server's review of the token. Raises ``KubeError`` if the review fails."""


class _Claims(msgspec.Struct):
    """The claims in a token (RFC 7519). The claims have not been verified yet."""

    sub: str
    aud: list[str] | str
    exp: float


_decode_claims = msgspec.json.Decoder(_Claims).decode


@dataclass(frozen=True, slots=True)
class _Verdict:
    """The result of a review.

    If the token was refused, ``node`` is empty, and ``status`` and ``why`` contain the HTTP status and the reason.
    """

    at: float
    until: float
    node: str = ""
    status: int = 0
    why: str = ""

    def refusal(self) -> RefusedError:
        return wrong_token(self.why) if self.status == 401 else RefusedError(403, "forbidden", self.why)


class TokenReviewAuthenticator:
    """Accepts agents that run under one particular service account. Each agent may report only for its own node.

    ``account`` is the account's namespace and name.
    """

    def __init__(self, account: str, reviewer: Reviewer, clock: Callable[[], float] = time.time) -> None:
        self._user = "system:serviceaccount:" + account.replace("/", ":")
        self._reviewer = reviewer
        self._clock = clock
        self._admitted: dict[bytes, _Verdict] = {}
        self._refused: dict[bytes, _Verdict] = {}
        self._reviews: dict[bytes, asyncio.Task[_Verdict]] = {}
        self._queue = FairQueue(MOST_AT_ONCE, FairShare(MOST_WAITING, MOST_WAITING_PER_ADDRESS), PATIENCE)
        self._review_after = 0.0
        self._down = False

    async def authenticate(self, authorization: bytes, address: str = "") -> str:
        """Return the node to which the token is bound. Raises ``RefusedError``."""
        token = bearer_token(authorization)
        if not _JWT.fullmatch(token):
            raise wrong_token("this is not a service account token")
        key, now = sha256(token).digest(), self._clock()
        known = self._admitted.get(key) or self._refused.get(key)
        if known is None or now >= min(known.at + (FRESH if known.node else REFUSED_FOR), known.until):
            known = await self._renew(key, token, known, address)
        if not known.node:
            raise known.refusal()
        return known.node

    async def _renew(self, key: bytes, token: bytes, known: _Verdict | None, address: str) -> _Verdict:
        now = self._clock()
        claims = self._plausible(token, now)
        held = known if known and known.node and now < known.at + HELD else None
        try:
            task = self._reviews.get(key) or self._begin(key, token, claims.exp, address)
            async with asyncio.timeout(KNOWN_PATIENCE if held else None):
                return await asyncio.shield(task)
        except (KubeError, TimeoutError):
            if held:
                return held
            message = "the API server has not verified this token yet; the agent keeps its data and tries again"
            raise RefusedError(503, "unreviewed", message, {"Retry-After": "5"}) from None

    def _begin(self, key: bytes, token: bytes, expires: float, address: str) -> asyncio.Task[_Verdict]:
        if self._clock() < self._review_after:
            raise KubeError("a review failed a moment ago")
        task = self._reviews[key] = asyncio.create_task(self._take_turn(key, token.decode(), expires, address))
        task.add_done_callback(lambda done: self._ended(key, done))
        return task

    def _ended(self, key: bytes, task: asyncio.Task[_Verdict]) -> None:
        del self._reviews[key]
        if not task.cancelled():
            task.exception()  # retrieve the exception, even if no client is waiting for it any more

    def _plausible(self, token: bytes, now: float) -> _Claims:
        """Return the token's claims. Without asking the API server, refuse tokens that are obviously invalid because
        they have expired or were issued for a different purpose.
        """
        try:
            payload = token.split(b".")[1]
            claims = _decode_claims(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
        except (binascii.Error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise wrong_token("this is not a service account token") from None
        if AUDIENCE not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
            raise wrong_token(f"this token is for another service: its audience is not {AUDIENCE}")
        if now >= claims.exp:
            raise wrong_token("this token has expired")
        if claims.sub != self._user:
            raise RefusedError(403, "forbidden", f"this token does not belong to {self._user}")
        return claims

    async def _take_turn(self, key: bytes, token: str, expires: float, address: str) -> _Verdict:
        try:
            await self._queue.acquire(address)
        except BusyError as error:
            raise KubeError(str(error)) from None
        try:
            verdict = await self._review(token, expires)
        finally:
            self._queue.release()
        self._keep(key, verdict)
        return verdict

    async def _review(self, token: str, expires: float) -> _Verdict:
        try:
            review = await self._reviewer.review(token, AUDIENCE)
        except KubeError as error:
            self._review_after = self._clock() + PAUSE
            if not self._down:
                self._down = True
                _log.warning("reports.unreviewed", extra=fields(error=str(error)))
            raise
        if self._down:
            self._down = False
            _log.info("reports.reviewed")
        now = self._clock()
        if not review.user or AUDIENCE not in review.audiences:
            return _Verdict(now, expires, status=401, why=f"the API server refuses this token: {review.error[:200]}")
        if review.user != self._user:
            return _Verdict(now, expires, status=403, why=f"this token does not belong to {self._user}")
        node = next(iter(review.extra.get(_NODE_CLAIM, ())), "")
        why = (
            "" if node else "this token is not bound to a node: use Kubernetes 1.30 or newer, or agent.auth.mode=token"
        )
        return _Verdict(now, expires, node=node, status=403, why=why)

    def _keep(self, key: bytes, verdict: _Verdict) -> None:
        self._admitted.pop(key, None)
        self._refused.pop(key, None)
        into, most = (self._admitted, MOST_ADMITTED) if verdict.node else (self._refused, MOST_REFUSED)
        into[key] = verdict
        if len(into) > most:
            del into[next(iter(into))]
