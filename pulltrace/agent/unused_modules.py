"""Remove OpenSSL from an agent that posts plain HTTP, which saves 4.5 MiB on every node.

asyncio imports ``ssl`` and ``hashlib`` imports ``_hashlib`` if they are available; neither needs it. Python itself
supports builds without OpenSSL, where these modules are missing. ``hashlib`` then uses Python's own SHA-256 module.
"""

import sys


def leave_out_tls() -> None:
    """Make OpenSSL's modules unavailable, unless they have been imported already.

    Call this before importing asyncio.
    """
    for name in ("ssl", "_hashlib"):
        if name not in sys.modules:
            sys.modules[name] = None  # type: ignore[assignment]  # makes an import of it fail
