"""Generate the gRPC stubs from the .proto files: ``python -m tests.real.stubs``, or ``make stubs``.

Generated code requires at least the versions of protobuf and grpcio with which it was generated. Therefore, the oldest
supported tools generate the stubs. The tools are installed in a separate virtual environment in the cache directory,
because they need an older protobuf than this project.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pulltrace
from tests.real.cache import cache_folder

# The directory of each package. If Pulltrace is installed, its sources are not next to the tests.
PACKAGES = {
    "pulltrace/agent/containerd_api": Path(pulltrace.__file__).parents[1],
    "tests/real/cri_api": Path(__file__).parents[2],
}
TOOLS = "1.68.0"
# grpcio-tools 1.68 imports pkg_resources, which setuptools 81 dropped.
REQUIREMENTS = (f"grpcio-tools=={TOOLS}", f"grpcio=={TOOLS}", "protobuf==5.28.1", "setuptools<81")


def tools() -> Path:
    """Return the Python interpreter of the environment with the generator. Create the environment on first use."""
    folder = cache_folder() / f"grpcio-tools-{TOOLS}-py{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True, timeout=300)
        ready.touch()
    return python


def generate(target: Path) -> None:
    """Write the stubs of every package to `target`, which has the same layout as the repository."""
    outputs = [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")]
    for package, root in PACKAGES.items():
        protos = [str(proto.relative_to(root)) for proto in sorted((root / package).glob("*.proto"))]
        command = [tools(), "-m", "grpc_tools.protoc", "-I.", *outputs, *protos]
        subprocess.run(command, cwd=root, check=True, timeout=120)
    for package in PACKAGES:  # a .proto file without a service results in empty stubs
        for stub in (target / package).glob("*_pb2_grpc.py"):
            if "class " not in stub.read_text():
                stub.unlink()


if __name__ == "__main__":
    generate(Path(__file__).parents[2])
