"""Keep unused modules out of the agent's memory. Call these functions before the modules are imported."""

import sys
from types import ModuleType


def leave_out_tls() -> None:
    """Make OpenSSL's modules unavailable, unless they have been imported already.

    If the agent posts plain HTTP, this saves 4.5 MiB on every node. asyncio imports ``ssl``, and ``hashlib`` imports
    ``_hashlib``, but both also work without these modules: Python supports builds without OpenSSL, which lack them. In
    that case, ``hashlib`` uses Python's own SHA-256 module.
    """
    for name in ("ssl", "_hashlib"):
        if name not in sys.modules:
            sys.modules[name] = None  # type: ignore[assignment]  # makes importing it fail


def leave_out_python_messages() -> None:
    """Replace protobuf's pure-Python messages with an empty module if its C implementation is used.

    The empty module saves 1 MiB on every node. Other modules of protobuf import this module in any case, but use it
    only for pure-Python messages.
    """
    from google.protobuf.internal import api_implementation  # noqa: PLC0415  # only the agent needs protobuf

    name = "google.protobuf.internal.python_message"
    if api_implementation.Type() == "upb" and name not in sys.modules:
        sys.modules[name] = ModuleType(name)
