"""Install the real components that tests use, with ``make parts`` or ``python -m tests.real.parts [name…]``.

Debian packages are installed with apt (only as root). Everything else is built from the Go modules in `tests/cluster`
and kept in the cache directory, so a second run does not build the programs again. If a component is unavailable, its
absence is reported and the tests that need it are skipped. With ``--require`` (in CI), an unavailable component is an
error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.real.versions import APT, BUILT, Built

MODULES = Path(__file__).parents[1] / "cluster"


def print_line(line: str) -> None:
    print(line, flush=True)  # noqa: T201 (this is a program)


def go() -> str | None:
    """Return the path of the Go command, even if it is not on the PATH."""
    return shutil.which("go") or shutil.which("/usr/local/go/bin/go")


def from_apt(names: set[str]) -> list[str]:
    """Install missing Debian packages. For each package that is still missing, return a message that names the tests
    that need it.
    """
    missing = [package for package in APT if not package.present() and (not names or package.name in names)]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        wanted = [package.name for package in missing]
        print_line(f"parts: apt-get install {' '.join(wanted)}")
        quiet = {"stdout": subprocess.DEVNULL, "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}}
        subprocess.run(["apt-get", "update", "-qq"], check=False, timeout=300, **quiet)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted]
        subprocess.run(install, check=False, timeout=900, **quiet)
    return [f"{package.name} (apt): {package.costs}" for package in missing if not package.present()]


def build(part: Built, compiler: str) -> bool:
    """Build a program and store it in the cache directory. If the build fails, print the output of the ``go`` command
    and return False.
    """
    print_line(f"parts: building {part.name} {part.version} (minutes when nothing is cached)")
    begun = time.monotonic()
    part.path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = part.path.with_suffix(f".{os.getpid()}")
    command = [compiler, "build", "-trimpath", "-tags", part.tags, "-ldflags", f"-s -w {part.ldflags}"]
    environment = os.environ | {"CGO_ENABLED": str(int(part.cgo)), "GOFLAGS": "-mod=readonly"}
    done = subprocess.run(
        ["nice", "-n", "10", *command, "-o", unfinished, part.package],
        cwd=MODULES / part.module,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    if done.returncode != 0:
        print_line(done.stderr[-2000:])
        return False
    unfinished.rename(part.path)
    print_line(f"parts: {part.path.name} built in {time.monotonic() - begun:.0f} s")
    return True


def from_go(names: set[str]) -> list[str]:
    """Build missing programs. For each program that is still missing, return a message that names the tests that need
    it.
    """
    missing = [part for part in BUILT if not part.path.exists() and (not names or part.name in names)]
    compiler = go()
    if missing and compiler is None:
        print_line("parts: no Go toolchain here, so some parts cannot be built")
    return [
        f"{part.name} {part.version} (Go): {part.costs}" for part in missing if not (compiler and build(part, compiler))
    ]


def main(arguments: list[str]) -> int:
    names = {name for name in arguments if not name.startswith("-")}
    lacking = from_apt(names) + from_go(names)
    for line in lacking:
        print_line(f"parts: missing {line}")
    if not lacking:
        print_line("parts: all here")
    return 1 if lacking and "--require" in arguments else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print_line("parts: interrupted; the next run continues after the last program that was built")
        sys.exit(130)
