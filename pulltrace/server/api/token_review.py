"""An agent proves who it is by its service account's token: the API server says which node it is bound to.

So an agent can report for its own node only. The token is one that the kubelet made for Pulltrace (its audience), for
an hour; the API server takes it for nothing else.
"""

import asyncio
import base64
import binascii
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import msgspec

from pulltrace.logs import fields
from pulltrace.server.api.auth import RefusedError, wrong_token
from pulltrace.server.kubernetes.api import KubeError, Review

AUDIENCE = "pulltrace"
"""What the chart has agents' tokens made for."""

FRESH = 300.0
"""Seconds an answer of the API server stands; a revoked token works for so long at most."""
HELD = 900.0
"""Seconds it stands while the API server cannot be asked again."""
REFUSED_FOR = 30.0
"""Seconds until a refused token is asked about again."""
PAUSE = 5.0
"""Seconds without a question after one that the API server did not answer."""
MOST_AT_ONCE = 32
"""Questions under way; a flood of false tokens reaches the API server no faster."""
MOST_ADMITTED, MOST_REFUSED = 20_000, 1_000
LONGEST_TOKEN = 8192

_NODE_CLAIM = "authentication.kubernetes.io/node-name"
"""Kubernetes binds a pod's tokens to its node since 1.30 (KEP-4193)."""

_log = logging.getLogger(__name__)


class Reviewer(Protocol):
    """The API server, as far as this asks it; ``kube_api.HttpApi`` is one."""

    async def review(self, token: str, audience: str) -> Review:
        """What it makes of the token. Raises ``KubeError`` when it cannot say."""


class _Claims(msgspec.Struct):
    """What a token says of itself (RFC 7519); nobody has vouched for it yet."""

    sub: str
    aud: list[str] | str
    exp: float


_decode_claims = msgspec.json.Decoder(_Claims).decode


@dataclass(frozen=True, slots=True)
class _Verdict:
    """``node`` is empty for a token that is refused: then ``status`` and ``why`` say how."""

    at: float
    until: float
    node: str = ""
    status: int = 0
    why: str = ""

    def refusal(self) -> RefusedError:
        return wrong_token(self.why) if self.status == 401 else RefusedError(403, "forbidden", self.why)


class TokenReviewAuthenticator:
    """Admits the agents of one service account, each for its node. ``account`` is its namespace and name."""

    def __init__(self, account: str, reviewer: Reviewer, clock: Callable[[], float] = time.time) -> None:
        self._user = "system:serviceaccount:" + account.replace("/", ":")
        self._reviewer = reviewer
        self._clock = clock
        self._admitted: dict[bytes, _Verdict] = {}
        self._refused: dict[bytes, _Verdict] = {}
        self._asking: dict[bytes, asyncio.Task[_Verdict]] = {}
        self._ask_after = 0.0
        self._down = False

    async def authenticate(self, authorization: bytes) -> str:
        """The node that the token is bound to. Raises ``RefusedError``."""
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not token or len(token) > LONGEST_TOKEN:
            raise wrong_token("missing token: an agent's service account token is expected")
        key, now = sha256(token).digest(), self._clock()
        known = self._admitted.get(key) or self._refused.get(key)
        if known is None or now >= min(known.at + (FRESH if known.node else REFUSED_FOR), known.until):
            known = await self._ask(key, token, known, now)
        if not known.node:
            raise known.refusal()
        return known.node

    async def _ask(self, key: bytes, token: bytes, known: _Verdict | None, now: float) -> _Verdict:
        claims = self._plausible(token, now)
        task = self._asking.get(key)
        try:
            if task is None:
                if len(self._asking) >= MOST_AT_ONCE or now < self._ask_after:
                    raise KubeError("the API server is not asked right now")
                task = self._asking[key] = asyncio.create_task(self._review(token.decode(), claims.exp))
                task.add_done_callback(lambda done: self._answered(key, done))
            verdict = await asyncio.shield(task)
        except KubeError:
            if known and known.node and now < known.at + HELD:
                return known
            message = "the API server does not say whose token this is; the agent keeps its data and tries again"
            raise RefusedError(503, "unreviewed", message, {"Retry-After": "5"}) from None
        self._keep(key, verdict)
        return verdict

    def _answered(self, key: bytes, task: asyncio.Task[_Verdict]) -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # seen, though everybody who waited for it may have gone

    def _plausible(self, token: bytes, now: float) -> _Claims:
        """Refuses what no API server has to be asked about: it is not even meant for us, or is over."""
        try:
            payload = token.split(b".")[1]
            claims = _decode_claims(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
        except (IndexError, binascii.Error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise wrong_token("this is no service account's token") from None
        if AUDIENCE not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
            raise wrong_token(f"this token is for somebody else: its audience is not {AUDIENCE}")
        if now >= claims.exp:
            raise wrong_token("this token has expired")
        if claims.sub != self._user:
            raise RefusedError(403, "forbidden", f"this token is not of {self._user}")
        return claims

    async def _review(self, token: str, expires: float) -> _Verdict:
        try:
            review = await self._reviewer.review(token, AUDIENCE)
        except KubeError as error:
            self._ask_after = self._clock() + PAUSE
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
            return _Verdict(now, expires, status=403, why=f"this token is not of {self._user}")
        node = next(iter(review.extra.get(_NODE_CLAIM, ())), "")
        why = "" if node else "this token is bound to no node: Kubernetes 1.30 is needed, or agent.auth.mode=token"
        return _Verdict(now, expires, node=node, status=403, why=why)

    def _keep(self, key: bytes, verdict: _Verdict) -> None:
        self._admitted.pop(key, None)
        self._refused.pop(key, None)
        into, most = (self._admitted, MOST_ADMITTED) if verdict.node else (self._refused, MOST_REFUSED)
        into[key] = verdict
        if len(into) > most:
            del into[next(iter(into))]
