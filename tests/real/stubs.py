"""Generate the gRPC stubs from the .proto files, with ``make stubs`` or ``python -m tests.real.stubs``.

Generated code does not work with versions of protobuf and grpcio that are older than the generator. The stubs are
therefore generated with the oldest supported tools. The tools are installed in a separate virtual environment in the
cache directory because they need an older protobuf than this project.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pulltrace
from tests.real.cache import cache_folder

# The source directory of each package. If Pulltrace is installed from a wheel, its package is not in the same directory
# as the tests.
PACKAGES = {
    "pulltrace/agent/containerd_api": Path(pulltrace.__file__).parents[1],
    "tests/real/cri_api": Path(__file__).parents[2],
}
TOOLS = "1.68.0"
# grpcio-tools 1.68 imports pkg_resources, which setuptools 81 no longer contains.
REQUIREMENTS = (f"grpcio-tools=={TOOLS}", f"grpcio=={TOOLS}", "protobuf==5.28.1", "setuptools<81")


def tools() -> Path:
    """Return the Python interpreter of the generator's environment, which is created on first use."""
    folder = cache_folder() / f"grpcio-tools-{TOOLS}-py{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True, timeout=300)
        ready.touch()
    return python


def generate(target: Path) -> None:
    """Write the stubs of every package to `target`, in the directory layout of this repository."""
    outputs = [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")]
    for package, root in PACKAGES.items():
        protos = [str(proto.relative_to(root)) for proto in sorted((root / package).glob("*.proto"))]
        command = [tools(), "-m", "grpc_tools.protoc", "-I.", *outputs, *protos]
        subprocess.run(command, cwd=root, check=True, timeout=120)
    for package in PACKAGES:  # a .proto file without a service yields empty stubs
        for stub in (target / package).glob("*_pb2_grpc.py"):
            if "class " not in stub.read_text():
                stub.unlink()


if __name__ == "__main__":
    generate(Path(__file__).parents[2])
