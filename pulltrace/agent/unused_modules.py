"""Keep unused modules out of the agent's memory. Call these functions before anything imports the modules that they
exclude.
"""

import sys
from types import ModuleType


def leave_out_tls() -> None:
    """Make OpenSSL's modules unavailable, unless they have been imported already.

    If the agent posts plain HTTP, excluding these modules saves 4.5 MiB of memory on every node. asyncio imports
    ``ssl``, and ``hashlib`` imports ``_hashlib``. The modules asyncio and ``hashlib`` also work without OpenSSL's
    modules, because Python can be built without OpenSSL. Without ``_hashlib``, ``hashlib`` uses Python's own SHA-256
    module.
    """
    for name in ("ssl", "_hashlib"):
        if name not in sys.modules:
            sys.modules[name] = None  # type: ignore[assignment]  # makes the import fail


def leave_out_python_messages() -> None:
    """If protobuf uses its C implementation, replace its module for pure-Python messages with an empty one.

    The empty module saves 1 MiB of memory on every node. Other protobuf modules always import the original module, but
    use it only with the pure-Python implementation.
    """
    from google.protobuf.internal import api_implementation  # noqa: PLC0415  # only the agent needs protobuf

    name = "google.protobuf.internal.python_message"
    if api_implementation.Type() == "upb" and name not in sys.modules:
        sys.modules[name] = ModuleType(name)
