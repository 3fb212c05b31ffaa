"""A runc container with its own root file system and the chart's security contexts, like a container in a cluster.

The container shares only the machine's network, so tests can reach the container on loopback.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.programs import Program
from tests.patience import PATIENCE

RUNC = shutil.which("runc", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


class Container(Program):
    """A container. ``runc`` passes on signals, output and the exit status."""

    def __init__(
        self,
        folder: Path,
        root: Path,
        *command: str,
        mounts: Mapping[str, Path],
        environment: Mapping[str, str],
        context: Mapping[str, Any],
        seccomp: Mapping[str, Any] | None,
    ) -> None:
        """``mounts`` maps paths in the container to files or directories, which are mounted read-only. ``context`` is
        the pod's ``securityContext``.
        """
        assert RUNC, "runc is needed"
        folder.mkdir()
        subprocess.run([RUNC, "spec", "--bundle", folder], check=True, timeout=PATIENCE)
        path = folder / "config.json"
        config = json.loads(path.read_text())
        config["root"] = {"path": str(root), "readonly": context["readOnlyRootFilesystem"]}
        config["mounts"] += [
            {"destination": inside, "source": str(outside), "type": "bind", "options": ["rbind", "ro"]}
            for inside, outside in mounts.items()
        ]
        config["process"] |= {
            "terminal": False,
            "user": {"uid": context["runAsUser"], "gid": context["runAsGroup"]},
            "args": command,
            "env": [f"{name}={value}" for name, value in environment.items()],
            "noNewPrivileges": not context["allowPrivilegeEscalation"],
        }
        assert context["capabilities"] == {"drop": ["ALL"]}
        config["process"]["capabilities"] = {}
        linux = config["linux"]
        linux["namespaces"] = [each for each in linux["namespaces"] if each["type"] != "network"]
        if seccomp:
            linux["seccomp"] = seccomp
        path.write_text(json.dumps(config))
        self._name = folder.parent.name + "-" + folder.name
        self._runc = [RUNC, "--root", str(folder / "runc")]
        self._command = [*self._runc, "run", "--bundle", str(folder), self._name]
        self._environment = dict(os.environ)

    async def __aexit__(self, *_: object) -> None:
        await super().__aexit__()
        delete = [*self._runc, "delete", "--force", self._name]
        await asyncio.to_thread(subprocess.run, delete, check=False, capture_output=True, timeout=PATIENCE)
