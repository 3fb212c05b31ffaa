"""Leave OpenSSL out of an agent that posts plain HTTP: 4.5 MiB on every node.

asyncio imports ``ssl`` and ``hashlib`` imports ``_hashlib`` if they exist, and both do without. Python itself supports
builds without OpenSSL, where these modules are missing. ``hashlib`` then has SHA-256 from a module of its own.
"""

import sys


def leave_out_tls() -> None:
    """Make the modules of OpenSSL unavailable, unless they have been imported already. Call this before asyncio."""
    for name in ("ssl", "_hashlib"):
        if name not in sys.modules:
            sys.modules[name] = None  # type: ignore[assignment]  # makes an import of it fail
