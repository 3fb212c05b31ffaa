"""The names and versions of the real components. `tests.real.parts` builds the components that apt does not provide."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.real.cache import cache_folder

# Debian installs runc and ip in sbin, and the CNI plugins next to the libraries. These directories are not always on
# the PATH.
SYSTEM_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/lib/cni"
FAKETIME = Path(f"/usr/lib/{platform.machine()}-linux-gnu/faketime/libfaketime.so.1")


@dataclass(frozen=True, slots=True)
class Built:
    """A program built from a Go module in `tests/cluster`."""

    name: str
    version: str
    module: str
    """The directory below tests/cluster that contains the program's go.mod."""
    package: str
    ldflags: str = ""
    tags: str = ""
    costs: str = ""
    """The tests that cannot run without the program."""
    cgo: bool = False
    """True if the program includes C code."""

    @property
    def path(self) -> Path:
        return cache_folder() / "bin" / f"{self.name}-{self.version}"


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package, which counts as installed if one of its programs or files exists."""

    name: str
    program: str
    costs: str

    def present(self) -> bool:
        return shutil.which(self.program, path=SYSTEM_PATH) is not None or Path(self.program).is_file()


APT = (
    Package("containerd", "containerd", "nothing is tested against Debian's containerd (1.6)"),
    Package("runc", "runc", "the agent's seccomp profile is not tested, and containerd's CRI service may not start"),
    Package("etcd-server", "etcd", "the tests marked `cluster` do not run"),
    Package("chromium", "chromium", "the dashboard is not tested: the tests marked `browser` do not run"),
    Package("prometheus", "prometheus", "alert rules are not tested with a real Prometheus"),
    Package(
        "docker-registry", "docker-registry", "pushing the chart to a registry and pulling it from there is not tested"
    ),
    Package("binutils", "strip", "the root file systems of the images are not assembled and measured"),
    Package("shellcheck", "shellcheck", "the shell commands in the workflows are not checked"),
    Package("iproute2", "ip", "tests with a virtual network and tests with a real kubelet do not run"),
    Package("containernetworking-plugins", "host-local", "pods on the real kubelet have no network"),
    Package("fuse3", "fusermount3", "the tests with a real stargz-snapshotter do not run"),
    Package("zlib1g-dev", "/usr/include/zlib.h", "soci-snapshotter cannot be built"),
    Package("erofs-utils", "mkfs.erofs", "nothing is tested with containerd's erofs snapshotter"),
    Package("nginx-light", "nginx", "the stream is not tested through a proxy that buffers"),
    Package("nftables", "nft", "Services in the cluster with a real kubelet cannot be reached"),
    Package("iptables", "iptables-legacy", "faults of the network are not tested"),
    Package("faketime", str(FAKETIME), "faults of clocks are not tested"),
)

NO_DRIVERS = "no_btrfs,no_devmapper,no_zfs"  # these snapshotters need C headers and are not used in any test

CONTAINERD_2 = Built(
    name="containerd",
    version="2.4.2",
    module=".",
    package="github.com/containerd/containerd/v2/cmd/containerd",
    ldflags="-X github.com/containerd/containerd/v2/version.Version=2.4.2",
    tags=NO_DRIVERS,
    costs="nothing is tested against containerd 2.x",
)
CTR_2 = Built(
    name="ctr",
    version=CONTAINERD_2.version,
    module=".",
    package="github.com/containerd/containerd/v2/cmd/ctr",
    tags=NO_DRIVERS,
    costs="imports through containerd's transfer service are not tested (Debian's ctr does not use it)",
)
CONTAINERD_1_7 = Built(
    name="containerd",
    version="1.7.35",
    module="containerd-1.7",
    package="github.com/containerd/containerd/cmd/containerd",
    ldflags="-X github.com/containerd/containerd/version.Version=1.7.35",
    tags=NO_DRIVERS,
    costs="nothing is tested against containerd 1.7",
)
SHIM = Built(
    name="containerd-shim-runc-v2",
    version=CONTAINERD_2.version,
    module=".",
    package="github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
    tags=NO_DRIVERS,
    costs="no pod starts, so nothing is tested with a real kubelet (Debian's shim does not serve containerd 2.x)",
)
DOCKER = Built(
    name="dockerd",
    version="2.0.0-beta.24",  # Docker 29
    module="docker",
    package="github.com/moby/moby/v2/cmd/dockerd",
    tags=NO_DRIVERS,
    costs="nothing is tested with Docker",
)
PAUSE = Built(
    name="pause",
    version="1",
    module=".",
    package="./pause",
    costs="no pod starts, so nothing is tested with a real kubelet",
)


def kubernetes(name: str, costs: str) -> Built:
    """Return the build definition of one of the Kubernetes binaries. The binaries share most of their code, so only the
    first one takes long to compile.
    """
    version = "k8s.io/component-base/version"
    return Built(
        name=name,
        version="1.37.2",
        module=".",
        package=f"k8s.io/kubernetes/cmd/{name}",
        # Without these linker flags, the program reports version v0.0.0, which makes clients choose different code
        # paths.
        ldflags=f"-X {version}.gitVersion=v1.37.2 -X {version}.gitMajor=1 -X {version}.gitMinor=37",
        costs=costs,
    )


NO_KUBELET = "nothing is tested with a real kubelet"
APISERVER = kubernetes("kube-apiserver", "the tests marked `cluster` do not run: watches, RBAC, helm install")
KUBELET = kubernetes("kubelet", NO_KUBELET)
SCHEDULER = kubernetes("kube-scheduler", NO_KUBELET)
CONTROLLER_MANAGER = kubernetes("kube-controller-manager", NO_KUBELET)
PROXY = kubernetes("kube-proxy", NO_KUBELET)
HELM = Built(
    name="helm",
    version="4.3.1",
    module=".",
    package="helm.sh/helm/v4/cmd/helm",
    ldflags="-X helm.sh/helm/v4/internal/version.version=v4.3.1",
    costs="the chart is tested only with Helm's library and is never installed",
)
ACTIONLINT = Built(
    name="actionlint",
    version="1.7.12",
    module="actionlint",
    package="github.com/rhysd/actionlint/cmd/actionlint",
    costs="the workflows are not checked before GitHub runs them",
)
HELM_DOCS = Built(
    name="helm-docs",
    version="1.14.2",
    module="helm-docs",
    package="github.com/norwoodj/helm-docs/cmd/helm-docs",
    costs="the chart's README is neither generated nor compared with the values",
)
NODE = (KUBELET, SCHEDULER, CONTROLLER_MANAGER, PROXY, SHIM, PAUSE)
"""The programs that a cluster with a real kubelet needs in addition to kube-apiserver and containerd."""
SOCI = Built(
    name="soci-snapshotter",
    version="0.16.1",
    module="soci",
    package="github.com/awslabs/soci-snapshotter/cmd/soci-snapshotter-grpc",
    costs="pulls in SOCI's parallel mode are tested only with the simulated containerd",
    cgo=True,
)
STARGZ = Built(
    name="stargz-snapshotter",
    version="0.19.1",
    module="stargz",
    package=".",
    costs="streamed layers are tested only with the simulated containerd",
)
SOCI_CONVERT = Built(
    name="soci",
    version="0.16.1",
    module="soci",
    package="github.com/awslabs/soci-snapshotter/cmd/soci",
    costs="layers that SOCI streams are tested only with the simulated containerd",
    cgo=True,
)
COLLECTOR = Built(
    name="otelcol",
    version="0.165.0",
    module="collector",
    package=".",
    costs="traces are tested only with the small receiver in the tests",
)
SNAPSHOTTERS = (SOCI, SOCI_CONVERT, STARGZ)
BUILT = (
    *(CONTAINERD_2, CTR_2, CONTAINERD_1_7, APISERVER, *NODE, *SNAPSHOTTERS, DOCKER),
    *(HELM, ACTIONLINT, HELM_DOCS, COLLECTOR),
)


def containerds() -> dict[str, Path | None]:
    """Return the path of the containerd binary for each release line. The path is None if the release is missing."""
    debian = shutil.which("containerd")
    return {
        "debian": Path(debian) if debian else None,
        "1.7": CONTAINERD_1_7.path if CONTAINERD_1_7.path.exists() else None,
        "2.4": CONTAINERD_2.path if CONTAINERD_2.path.exists() else None,
    }
