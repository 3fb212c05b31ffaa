"""Who may report: anyone, whoever has the shared token, or (``reviews``) an agent for the node that it runs on."""

import hmac
from typing import Protocol


class RefusedError(Exception):
    """Why a report is not taken. ``kind`` is the metric's label."""

    def __init__(self, status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.headers = headers or {}


class Authenticator(Protocol):
    """Asked first, with the ``Authorization`` header as it came."""

    async def authenticate(self, authorization: bytes) -> str | None:
        """The one node that the caller may report for, None for any. Raises ``RefusedError``."""


class AnonymousAuthenticator:
    """Whoever reaches the server may report."""

    async def authenticate(self, _: bytes) -> None:
        """Any node."""


class SharedTokenAuthenticator:
    """One shared secret for all nodes."""

    def __init__(self, token: str) -> None:
        self._authorization = f"Bearer {token}".encode()

    async def authenticate(self, authorization: bytes) -> None:
        """Any node, for whoever has the token; it is compared in constant time."""
        if not hmac.compare_digest(authorization, self._authorization):
            raise wrong_token("wrong or missing token")


def wrong_token(message: str) -> RefusedError:
    """401, as RFC 6750 wants it."""
    return RefusedError(401, "token", message, {"WWW-Authenticate": "Bearer"})
