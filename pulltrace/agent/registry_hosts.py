"""Return the mirrors that containerd is configured to try before a registry, read from ``certs.d/<host>/hosts.toml``.

The directory is optional (``PULLTRACE_REGISTRY_HOSTS_DIR``), and Pulltrace never writes to it. containerd defines the
format (https://github.com/containerd/containerd/blob/main/docs/hosts.md). If a file cannot be read, the registry is
assumed to have no mirrors. The agent reports all configured mirrors, because it cannot know which host delivered the
bytes.
"""

import logging
import re
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from msgspec.structs import replace

from pulltrace.logs import fields
from pulltrace.wire import PullState

MAX_FILE = 64 << 10
MAX_MIRRORS = 8
MAX_REGISTRIES = 64
FRESH = 60.0
"""The number of seconds for which the content of a file is reused before it is read again. containerd itself reads the
file for each pull.
"""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
_log = logging.getLogger(__name__)


class RegistryHosts:
    """containerd's directory of registry host configurations. If ``folder`` is None, no mirrors are known."""

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._known: dict[str, tuple[float, list[str]]] = {}

    def complete(self, pulls: Sequence[PullState]) -> list[PullState]:
        """Return the pulls, each with the mirrors of its registry added."""
        if self._folder is None:
            return list(pulls)
        return [replace(pull, via=self.of(pull.registry) or None) if pull.registry else pull for pull in pulls]

    def of(self, registry: str) -> list[str]:
        """Return the mirrors of a registry, in the order in which containerd tries them."""
        now = time.monotonic()
        known = self._known.get(registry)
        if known and now - known[0] < FRESH:
            return known[1]
        mirrors = self._read(registry)
        if len(self._known) >= MAX_REGISTRIES:
            self._known.clear()
        self._known[registry] = now, mirrors
        return mirrors

    def _read(self, registry: str) -> list[str]:
        if not _NAME.fullmatch(registry):
            return []
        for name in (registry, "_default"):
            try:
                with open(f"{self._folder}/{name}/hosts.toml", "rb") as file:  # noqa: PTH123  # pathlib costs 1 MiB
                    text = file.read(MAX_FILE + 1)
            except OSError:
                continue
            return mirrors_in(text, registry)
        return []


def mirrors_in(text: bytes, registry: str) -> list[str]:
    """Return the hosts configured for pulls, except the registry itself."""
    import tomllib  # noqa: PLC0415  # 1 MiB of code that nodes without this setting do not need

    try:
        if len(text) > MAX_FILE:
            raise ValueError("is too large")
        document: dict[str, Any] = tomllib.loads(text.decode())
    except ValueError as error:  # includes TOMLDecodeError and UnicodeDecodeError
        _log.debug("hosts.toml not read", extra=fields(registry=registry, error=str(error)))
        return []
    hosts = document.get("host")
    found = []
    for url, host in hosts.items() if isinstance(hosts, dict) else ():
        capabilities = host.get("capabilities") if isinstance(host, dict) else None
        pulls = capabilities is None or (isinstance(capabilities, list) and "pull" in capabilities)
        if pulls and _host(url) not in (registry, _host(str(document.get("server", "")))):
            found.append(url[:256])
    return found[:MAX_MIRRORS]


def _host(url: str) -> str:
    try:
        return urlsplit(url if "//" in url else f"//{url}").hostname or ""
    except ValueError:
        return ""
