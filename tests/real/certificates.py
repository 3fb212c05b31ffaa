"""A certificate authority that signs certificates for 127.0.0.1 with openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

_CONFIG = """\
[req]
distinguished_name=d
[d]
[leaf]
subjectAltName=IP:127.0.0.1,DNS:localhost
[ca]
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign
[plain]
basicConstraints=critical,CA:TRUE
"""


class Authority:
    """A certificate authority. Clients trust the authority's certificate, ``ca``. The certificate of a ``plain``
    authority has only the required extensions, as in older EKS clusters and many tutorials.
    """

    def __init__(self, folder: Path, *, plain: bool = False) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "openssl.cnf").write_text(_CONFIG)
        self.ca = folder / "ca.crt"
        kind = "plain" if plain else "ca"
        self._openssl("req", "-x509", *_KEY, "-subj", "/CN=test authority", "-extensions", kind, *_out("ca"))

    def issue(self, cert: Path, key: Path, name: str) -> None:
        """Sign a certificate for 127.0.0.1, and replace any earlier certificate."""
        sign = ["-CA", "ca.crt", "-CAkey", "ca.key", "-extensions", "leaf"]
        self._openssl("req", "-x509", *_KEY, "-subj", f"/CN={name}", *sign, *_out("leaf"))
        for made, wanted in (("leaf.key", key), ("leaf.crt", cert)):
            (self._folder / made).replace(wanted)

    def _openssl(self, *arguments: str) -> None:
        command = ["openssl", *arguments, "-config", "openssl.cnf", "-days", "2"]
        subprocess.run(command, cwd=self._folder, check=True, capture_output=True, timeout=60)


_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def _out(name: str) -> list[str]:
    return ["-keyout", f"{name}.key", "-out", f"{name}.crt"]
