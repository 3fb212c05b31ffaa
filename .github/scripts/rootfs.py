"""Assemble an image's root file system from this Python installation, the packages in SITE and the libraries that they
load.

Usage: ``rootfs.py SITE OUT``. The script runs in the Dockerfiles' build stage, and in the test that measures the images
without Docker. The root file system contains no shell and no package manager. Third-party code is included only as
bytecode. Tracebacks therefore show the file and line of third-party code, but not its text. Scanners find the Debian
packages in ``/var/lib/dpkg/status.d``.
"""

import compileall
import py_compile
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# Parts of the standard library that neither program needs: tests, editors, installers, terminals, databases, East Asian
# encodings.
_LEFT_OUT = shutil.ignore_patterns(
    *("__pycache__", "site-packages", "test", "tests", "idlelib", "tkinter", "turtle*", "ensurepip", "lib2to3", "venv"),
    *("distutils", "pydoc_data", "curses", "sqlite3", "dbm", "config-*", "*.a", "_test*", "_xx*"),
    *("xxlimited*", "_ctypes_test*", "_tkinter*", "_curses*", "_sqlite3*", "_dbm*", "_gdbm*", "readline*", "nis*"),
    *("unittest", "doctest*", "pdb*", "xmlrpc", "_codecs_*"),
)
# Files that the packages contain but that neither program loads. The service stubs are for grpcio, which only the demo
# uses, and tzdata is not needed because all our times are in UTC.
_NOT_RUN = shutil.ignore_patterns(
    *("__pycache__", "bin", "tests", "*.pyi", "*.pyx", "*.pxd", "*.pxi", "*.c", "*.h", "*_pb2_grpc.py", "tzdata*"),
)
_FILES = {
    "etc/passwd": "root:x:0:0:root:/:/none\nnonroot:x:65532:65532:nonroot:/:/none\n",
    "etc/group": "root:x:0:\nnonroot:x:65532:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def assemble(site: Path, out: Path) -> None:
    """Create the root file system in ``out``, which must not exist yet."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    prefix = Path(sys.base_prefix)
    home = out / "usr/local"
    library = home / "lib" / version
    shutil.copytree(prefix / "lib" / version, library, ignore=_LEFT_OUT, symlinks=True)
    shutil.copytree(site, library / "site-packages", ignore=_NOT_RUN)
    python = home / "bin/python3"
    python.parent.mkdir()
    shutil.copy2(Path(sys.executable).resolve(), python)
    for shared in (prefix / "lib").glob(f"lib{version}*.so.*"):
        shutil.copy2(shared, home / "lib" / shared.name)
    _compile(library)
    _libraries(out, prefix)
    _strip(out)
    for name, text in _FILES.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    (out / "tmp").mkdir(mode=0o1777)
    if _CERTIFICATES.exists():
        _copy(_CERTIFICATES, out)


def _compile(library: Path) -> None:
    """Compile all modules. Our own sources are kept alongside their bytecode; all other sources are replaced with
    bytecode.

    The bytecode contains a hash of its source rather than the source's modification time, so a rebuild produces
    identical files.
    """
    ours = library / "site-packages" / "pulltrace"
    by_hash = py_compile.PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(ours, quiet=1, stripdir=library.parents[3], invalidation_mode=by_hash):
        raise SystemExit("our own code does not compile")
    for source in library.rglob("*.py"):
        if source.is_relative_to(ours):
            continue
        # Some packages contain .py templates that are not valid Python. These templates remain uncompiled.
        if compileall.compile_file(
            source, legacy=True, quiet=2, stripdir=str(library.parents[3]), invalidation_mode=by_hash
        ):
            source.unlink()


def _libraries(out: Path, prefix: Path) -> None:
    """Copy the required shared libraries from outside the interpreter's directory, and record their Debian packages."""
    needed: set[Path] = set()
    for binary in [*out.rglob("*.so*"), out / "usr/local/bin/python3"]:
        needed.update(path for path in _loads(binary) if not path.is_relative_to(prefix) and out not in path.parents)
    for path in sorted(needed):
        _copy(path, out)
    for package in sorted({name for path in needed for name in _package(path)}):
        status = out / "var/lib/dpkg/status.d" / package
        status.parent.mkdir(parents=True, exist_ok=True)
        status.write_text(_run("dpkg-query", "--status", package))
        licence = Path("/usr/share/doc") / package / "copyright"
        if licence.exists():
            _copy(licence, out)


def _strip(out: Path) -> None:
    """Strip the symbols that are not needed at run time, which account for 23 MiB of the agent's 56 MiB."""
    shared = [path for path in out.rglob("*.so*") if not path.is_symlink()]
    subprocess.run(["strip", "--strip-unneeded", *shared], check=True)


def _loads(binary: Path) -> Iterator[Path]:
    listing = subprocess.run(["ldd", binary], check=False, capture_output=True, text=True).stdout
    if missing := re.search(r"(\S+) => not found", listing):
        # Libraries inside a wheel find each other through a relative rpath, so a library that ldd reports here is
        # really missing.
        raise SystemExit(f"{binary} needs {missing[1]}")
    for found in re.finditer(r"(/\S+) \(0x", listing):
        yield Path(found[1])


def _copy(path: Path, out: Path) -> None:
    target = out / path.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path.resolve(), target)


def _package(path: Path) -> list[str]:
    # dpkg records the path at which the package installed the library. This path may begin with /lib or /usr/lib,
    # because Debian has merged the two.
    for known in (path, Path("/usr") / path.relative_to("/"), path.resolve()):
        found = subprocess.run(["dpkg-query", "--search", known], check=False, capture_output=True, text=True)
        if found.returncode == 0:
            return [found.stdout.split(":", 1)[0]]
    return []


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def size(out: Path) -> int:
    """Return the total size of all files in bytes, not counting symbolic links."""
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    assemble(Path(sys.argv[1]), Path(sys.argv[2]))
    print(f"{size(Path(sys.argv[2])) / 2**20:.1f} MiB")
