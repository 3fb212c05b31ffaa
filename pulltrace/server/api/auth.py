"""Authenticate agents with a shared token or with a service account token that is bound to one node (``token_review``).
Authentication can also be turned off.
"""

import hmac
from collections.abc import Iterable
from typing import Protocol

_LONGEST_TOKEN = 8192


class RefusedError(Exception):
    """A report was rejected; the message contains the reason. ``kind`` is used as a label value in the metrics."""

    def __init__(self, status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.headers = headers or {}


class Authenticator(Protocol):
    """Decides, before a report's body is read, whether to accept the report."""

    async def authenticate(self, authorization: bytes, address: str = "") -> str | None:
        """Return the only node for which the client may report, or None if the client may report for any node. Raises
        ``RefusedError``.

        ``authorization`` is the value of the ``Authorization`` header, or empty if the header is missing. ``address``
        is the client's address; each address gets a fair share of the authentication slots.
        """


class AnonymousAuthenticator:
    """Accepts every client."""

    async def authenticate(self, authorization: bytes, address: str = "") -> None:
        """Accept the report for any node."""


class SharedTokenAuthenticator:
    """Accepts clients that send the shared token."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    async def authenticate(self, authorization: bytes, address: str = "") -> None:
        """Accept the report for any node if the token is correct. The tokens are compared in constant time."""
        if not hmac.compare_digest(bearer_token(authorization), self._token):
            raise wrong_token("wrong token")


def authorization_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the value of the ``Authorization`` header, or an empty value if the header is missing.

    Raises ``RefusedError`` if the request has several ``Authorization`` headers.
    """
    values = [value for name, value in headers if name == b"authorization"]
    if len(values) > 1:
        raise wrong_token("the request has several Authorization headers")
    return values[0] if values else b""


def bearer_token(authorization: bytes) -> bytes:
    """Return the token in an ``Authorization: Bearer`` header (RFC 6750). The word ``Bearer`` is case-insensitive.

    Raises ``RefusedError`` if the header contains no bearer token.
    """
    scheme, _, token = authorization.strip().partition(b" ")
    token = token.strip()
    if scheme.lower() != b"bearer" or not token or len(token) > _LONGEST_TOKEN:
        raise wrong_token("missing token: an Authorization header with a Bearer token is expected")
    return token


def wrong_token(message: str) -> RefusedError:
    """Return the 401 error described in RFC 6750."""
    return RefusedError(401, "token", message, {"WWW-Authenticate": "Bearer"})
