"""The API port's certificate. The certificate is read from files and reloaded when the files change. Open streams are
not interrupted.
"""

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Self

from pulltrace.logs import fields
from pulltrace.settings import ServerSettings

LOOK_EVERY = 10.0
"""The interval, in seconds, at which the files are checked for changes. Kubernetes updates the mounted files within
about a minute after a Secret is renewed.
"""

_log = logging.getLogger(__name__)


class CertificateError(Exception):
    """There is no usable certificate. The message contains the reason."""


class Certificate:
    """A certificate chain and its key, as PEM files. Raises ``CertificateError`` if the files cannot be used."""

    def __init__(self, cert_file: str, key_file: str) -> None:
        self._files = cert_file, key_file
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        """The TLS context for new connections. The context always contains the newest certificate that could be read.
        """
        self._seen = self._stamp()
        self._load()

    @classmethod
    def of(cls, settings: ServerSettings) -> Self | None:
        """Return the configured certificate, or None for plain HTTP."""
        if not settings.tls_cert_file or not settings.tls_key_file:
            return None
        return cls(settings.tls_cert_file, settings.tls_key_file)

    async def follow(self) -> None:
        """Reload the files whenever they are renewed, until cancelled.

        If a renewed certificate cannot be used, log the error and keep the previous certificate.
        """
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if (stamp := self._stamp()) == self._seen:
                continue
            self._seen = stamp
            try:
                self._load()
            except CertificateError as error:
                _log.warning("tls.not_renewed", extra=fields(error=str(error)))
            else:
                _log.info("tls.renewed", extra=fields(file=self._files[0]))

    def _load(self) -> None:
        # If a certificate and a key do not match, loading them leaves the context in an inconsistent state. Both files
        # are therefore loaded into a temporary context first.
        for context in (ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), self.context):
            try:
                context.load_cert_chain(*self._files, password=_no_password)
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                pair = " and ".join(self._files)
                raise CertificateError(f"{pair} are not a certificate with its key: {error}") from error

    def _stamp(self) -> list[tuple[int, int] | None]:
        return [_stat(path) for path in self._files]


def _no_password() -> str:
    raise ValueError("the key has a password")


def _stat(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
