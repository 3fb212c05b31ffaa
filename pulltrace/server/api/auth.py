"""Authenticate agents by a shared token, by a service account token bound to one node (``token_review``), or not at
all.
"""

import hmac
from collections.abc import Iterable
from typing import Protocol

_LONGEST_TOKEN = 8192


class RefusedError(Exception):
    """A report is rejected; the message states the reason. ``kind`` is the label of the metric."""

    def __init__(self, status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.headers = headers or {}


class Authenticator(Protocol):
    """Decides whether to accept a report, before its body is read."""

    async def authenticate(self, authorization: bytes, address: str = "") -> str | None:
        """Return the one node that the client may report for; None if it may report for any node. Raises
        ``RefusedError``.

        ``authorization`` is the value of the header, or empty if there is no such header. ``address`` is the client's
        address. Each address gets a fair share of the authentication slots.
        """


class AnonymousAuthenticator:
    """Accepts every client."""

    async def authenticate(self, authorization: bytes, address: str = "") -> None:
        """Accept the report for any node."""


class SharedTokenAuthenticator:
    """Accepts clients that send the token that all nodes share."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    async def authenticate(self, authorization: bytes, address: str = "") -> None:
        """Accept the report for any node if the token is right. The tokens are compared in constant time."""
        if not hmac.compare_digest(bearer_token(authorization), self._token):
            raise wrong_token("wrong token")


def authorization_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the ``Authorization`` header, empty if it is missing.

    Raises ``RefusedError`` if there are several such headers.
    """
    values = [value for name, value in headers if name == b"authorization"]
    if len(values) > 1:
        raise wrong_token("the request has several Authorization headers")
    return values[0] if values else b""


def bearer_token(authorization: bytes) -> bytes:
    """Return the token of an ``Authorization: Bearer`` header (RFC 6750); the scheme is case-insensitive.

    Raises ``RefusedError`` if the header has another form.
    """
    scheme, _, token = authorization.strip().partition(b" ")
    token = token.strip()
    if scheme.lower() != b"bearer" or not token or len(token) > _LONGEST_TOKEN:
        raise wrong_token("missing token: an Authorization header with a Bearer token is expected")
    return token


def wrong_token(message: str) -> RefusedError:
    """Return the 401 error described in RFC 6750."""
    return RefusedError(401, "token", message, {"WWW-Authenticate": "Bearer"})
