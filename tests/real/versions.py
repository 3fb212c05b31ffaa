"""The real components by name and version. `tests.real.parts` builds those that apt does not provide."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.real.cache import cache_folder


@dataclass(frozen=True, slots=True)
class Built:
    """A program built from a Go module of `tests/cluster`."""

    name: str
    version: str
    module: str
    """The directory of its go.mod, below tests/cluster."""
    package: str
    ldflags: str = ""
    tags: str = ""
    costs: str = ""
    """The consequences if it is missing."""

    @property
    def path(self) -> Path:
        return cache_folder() / "bin" / f"{self.name}-{self.version}"


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package, recognised by a program that it contains."""

    name: str
    program: str
    costs: str

    def present(self) -> bool:
        # Debian installs runc and ip into sbin, which is not on every PATH.
        return shutil.which(self.program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None


APT = (
    Package("containerd", "containerd", "nothing is tested against Debian's containerd (1.6)"),
    Package("runc", "runc", "the agent's seccomp profile is not tried, and containerd's CRI service may not start"),
    Package("etcd-server", "etcd", "the tests marked `cluster` do not run"),
    Package("chromium", "chromium", "the dashboard is not looked at: tests marked `browser` do not run"),
    Package("prometheus", "prometheus", "alert rules are not run against a real Prometheus"),
    Package("docker-registry", "docker-registry", "the chart is not pushed to and pulled from a registry"),
    Package("binutils", "strip", "the images' root file systems are not put together and measured"),
    Package("shellcheck", "shellcheck", "the shell in the workflows' steps is not read"),
    Package("iproute2", "ip", "tests that cut a network do not run"),
)

NO_DRIVERS = "no_btrfs,no_devmapper,no_zfs"  # snapshotters that no test uses and that need C headers

CONTAINERD_2 = Built(
    name="containerd",
    version="2.4.2",
    module=".",
    package="github.com/containerd/containerd/v2/cmd/containerd",
    ldflags="-X github.com/containerd/containerd/v2/version.Version=2.4.2",
    tags=NO_DRIVERS,
    costs="nothing is tested against containerd 2.x",
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
APISERVER = Built(
    name="kube-apiserver",
    version="1.37.2",
    module=".",
    package="k8s.io/kubernetes/cmd/kube-apiserver",
    # Without these flags, its version is v0.0.0, and clients choose other code paths.
    ldflags="-X k8s.io/component-base/version.gitVersion=v1.37.2"
    " -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37",
    costs="the tests marked `cluster` do not run: watches, RBAC, helm install",
)
HELM = Built(
    name="helm",
    version="4.3.1",
    module=".",
    package="helm.sh/helm/v4/cmd/helm",
    ldflags="-X helm.sh/helm/v4/internal/version.version=v4.3.1",
    costs="the chart is tested with Helm's library only, never installed",
)
ACTIONLINT = Built(
    name="actionlint",
    version="1.7.12",
    module="actionlint",
    package="github.com/rhysd/actionlint/cmd/actionlint",
    costs="nobody reads the workflows before GitHub does",
)
BUILT = (CONTAINERD_2, CONTAINERD_1_7, APISERVER, HELM, ACTIONLINT)


def containerds() -> dict[str, Path | None]:
    """Return each containerd by its release line; None if it is missing on this machine."""
    debian = shutil.which("containerd")
    return {
        "debian": Path(debian) if debian else None,
        "1.7": CONTAINERD_1_7.path if CONTAINERD_1_7.path.exists() else None,
        "2.4": CONTAINERD_2.path if CONTAINERD_2.path.exists() else None,
    }
